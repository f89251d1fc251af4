// The strict gate, by vectors after RFC 9110 and 9112. Each bad vector is followed by a whole valid
// request: if that one is ever seen, bytes of one message became another, which is smuggling.
#include "server/http_gate.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "server/request_reader.h"

namespace mole::server {
namespace {

using State = RequestReader::State;

// The long form of random tests: MOLE_TEST_SEED and MOLE_TEST_ROUNDS.
uint64_t test_seed() {
  const char* given = std::getenv("MOLE_TEST_SEED");
  return given != nullptr ? std::stoull(given) : 1;
}
int64_t test_rounds(int64_t fallback) {
  const char* given = std::getenv("MOLE_TEST_ROUNDS");
  return given != nullptr ? std::stoll(given) : fallback;
}

struct Vector {
  const char* name;
  std::string raw;
  int status;
};

const std::string kSecond = "GET /second HTTP/1.1\r\nHost: smuggled\r\n\r\n";

std::string head(const std::string& line, const std::string& fields = "Host: a\r\n") {
  return line + "\r\n" + fields + "\r\n";
}
std::string fields(const std::string& more, const std::string& body = "") {
  return "POST /x HTTP/1.1\r\nHost: a\r\n" + more + "\r\n" + body;
}
std::string chunked(const std::string& body) {
  return fields("Transfer-Encoding: chunked\r\n", body);
}
std::string nul(const std::string& before, const std::string& after) {
  return before + std::string(1, '\0') + after;
}

std::vector<Vector> request_line_vectors() {
  return {
      {"empty line first", "\r\n" + head("GET / HTTP/1.1"), 400},
      {"bare LF first", "\n" + head("GET / HTTP/1.1"), 400},
      {"space first", head(" GET / HTTP/1.1"), 400},
      {"tab first", head("\tGET / HTTP/1.1"), 400},
      {"no version", head("GET /"), 400},
      {"no target", head("GET HTTP/1.1"), 400},
      {"method only", head("GET"), 400},
      {"two spaces before target", head("GET  / HTTP/1.1"), 400},
      {"two spaces before version", head("GET /  HTTP/1.1"), 400},
      {"space after version", head("GET / HTTP/1.1 "), 400},
      {"tab for space", head("GET\t/ HTTP/1.1"), 400},
      {"vertical tab", head("GET\v/ HTTP/1.1"), 400},
      {"lower-case method", head("get / HTTP/1.1"), 400},
      {"mixed-case method", head("Get / HTTP/1.1"), 400},
      {"unknown method", head("FROB / HTTP/1.1"), 400},
      {"CONNECT", head("CONNECT a:80 HTTP/1.1"), 400},
      {"TRACE", head("TRACE / HTTP/1.1"), 400},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"method with separator", head("GE(T / HTTP/1.1"), 400},
      {"NUL in method", nul("G", "ET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
      {"HTTP/1.2", head("GET / HTTP/1.2"), 505},
      {"HTTP/2.0", head("GET / HTTP/2.0"), 505},
      {"HTTP/0.9", head("GET / HTTP/0.9"), 505},
      {"HTTP/1.10", head("GET / HTTP/1.10"), 400},
      {"HTTP/11", head("GET / HTTP/11"), 400},
      {"HTTP/1", head("GET / HTTP/1"), 400},
      {"HTTP/+1.1", head("GET / HTTP/+1.1"), 400},
      {"http lower case", head("GET / http/1.1"), 400},
      {"HTTPS", head("GET / HTTPS/1.1"), 400},
      {"space in version", head("GET / HTTP/ 1.1"), 400},
      {"byte 0x80 in target", head("GET /\x80 HTTP/1.1"), 400},
      {"UTF-8 in target", head("GET /\xc3\xa4 HTTP/1.1"), 400},
      {"NUL in target", nul("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
      {"DEL in target", head("GET /\x7f HTTP/1.1"), 400},
      {"fragment in target", head("GET /#x HTTP/1.1"), 400},
      {"target without slash", head("GET x HTTP/1.1"), 400},
      {"star with GET", head("GET * HTTP/1.1"), 400},
      {"broken percent escape", head("GET /%zz HTTP/1.1"), 400},
      {"short percent escape", head("GET /%2 HTTP/1.1"), 400},
      {"percent NUL", head("GET /%00 HTTP/1.1"), 400},
      {"percent CRLF", head("GET /%0d%0a HTTP/1.1"), 400},
      {"absolute target of another host", head("GET http://b/ HTTP/1.1"), 400},
      {"absolute target with user", head("GET http://u@a/ HTTP/1.1"), 400},
      {"absolute target without host", head("GET http:/// HTTP/1.1"), 400},
      {"https target", head("GET https://a/ HTTP/1.1"), 400},
      {"bare CR in request line", head("GET /\r HTTP/1.1"), 400},
      {"TLS client hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), 400},
  };
}

std::vector<Vector> line_vectors() {
  return {
      {"bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
      {"bare LF ends head", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
      {"all bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400},
      {"CR in a value", fields("X: a\rb\r\n"), 400},
      {"CR ends a line", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400},
      {"LF CR", "GET / HTTP/1.1\n\rHost: a\r\n\r\n", 400},
      {"folded with space", fields("X: a\r\n b\r\n"), 400},
      {"folded with tab", fields("X: a\r\n\tb\r\n"), 400},
      {"folded Transfer-Encoding", fields("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400},
      {"folded first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"folded blank line", "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", 400},
      {"no colon", fields("X\r\n"), 400},
      {"empty name", fields(": x\r\n"), 400},
      {"space before colon", fields("X : y\r\n"), 400},
      {"tab before colon", fields("X\t: y\r\n"), 400},
      {"space before colon of Content-Length", fields("Content-Length : 5\r\n", "12345"), 400},
      {"space in name", fields("X Y: z\r\n"), 400},
      {"separator in name", fields("X(Y): z\r\n"), 400},
      {"quote in name", fields("\"X\": z\r\n"), 400},
      {"slash in name", fields("X/Y: z\r\n"), 400},
      {"byte 0x80 in name", fields("X\x80: z\r\n"), 400},
      {"NUL in name", nul("GET / HTTP/1.1\r\nX", "Y: a\r\nHost: a\r\n\r\n"), 400},
      {"NUL in value", nul("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n"), 400},
      {"control character in value",
       fields("X: a\x01"
              "b\r\n"),
       400},
      {"backspace in value", fields("X: a\bb\r\n"), 400},
      {"escape in value", fields("X: a\x1b[0m\r\n"), 400},
      {"form feed in value", fields("X: a\fb\r\n"), 400},
      {"DEL in value", fields("X: a\x7f\r\n"), 400},
  };
}

std::vector<Vector> host_vectors() {
  return {
      {"no Host", head("GET / HTTP/1.1", ""), 400},
      {"no Host but others", head("GET / HTTP/1.1", "X: a\r\n"), 400},
      {"two Hosts", head("GET / HTTP/1.1", "Host: a\r\nHost: b\r\n"), 400},
      {"the same Host twice", head("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n"), 400},
      {"two Hosts in other cases", head("GET / HTTP/1.1", "Host: a\r\nhOST: b\r\n"), 400},
      {"two Hosts in HTTP/1.0", head("GET / HTTP/1.0", "Host: a\r\nHost: b\r\n"), 400},
      {"empty Host", head("GET / HTTP/1.1", "Host:\r\n"), 400},
      {"blank Host", head("GET / HTTP/1.1", "Host:  \r\n"), 400},
      {"Host list", head("GET / HTTP/1.1", "Host: a, b\r\n"), 400},
      {"Host with space", head("GET / HTTP/1.1", "Host: a b\r\n"), 400},
      {"Host with path", head("GET / HTTP/1.1", "Host: a/b\r\n"), 400},
      {"Host with user", head("GET / HTTP/1.1", "Host: u@a\r\n"), 400},
      {"Host with scheme", head("GET / HTTP/1.1", "Host: http://a\r\n"), 400},
      {"Host with empty port", head("GET / HTTP/1.1", "Host: a:\r\n"), 400},
      {"Host with word port", head("GET / HTTP/1.1", "Host: a:http\r\n"), 400},
      {"Host with long port", head("GET / HTTP/1.1", "Host: a:123456\r\n"), 400},
      {"Host of a port only", head("GET / HTTP/1.1", "Host: :80\r\n"), 400},
      {"Host with open bracket", head("GET / HTTP/1.1", "Host: [::1\r\n"), 400},
      {"Host with high byte", head("GET / HTTP/1.1", "Host: \xff\r\n"), 400},
  };
}

std::vector<Vector> framing_vectors() {
  const std::string smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string te = "Transfer-Encoding: ";
  return {
      {"CL and TE", fields("Content-Length: 5\r\n" + te + "chunked\r\n", "0\r\n\r\n" + smuggled),
       400},
      {"TE and CL", fields(te + "chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" + smuggled), 400},
      {"TE identity", fields(te + "identity\r\nContent-Length: 3\r\n", "abc" + smuggled), 400},
      {"TE identity alone", fields(te + "identity\r\n", smuggled), 400},
      {"TE xchunked", fields(te + "xchunked\r\n", "0\r\n\r\n" + smuggled), 400},
      {"TE chunked, identity", fields(te + "chunked, identity\r\n", "0\r\n\r\n" + smuggled), 400},
      {"TE identity, chunked", fields(te + "identity, chunked\r\n", "0\r\n\r\n"), 400},
      {"TE gzip, chunked", fields(te + "gzip, chunked\r\n", "0\r\n\r\n"), 400},
      {"TE chunked, chunked", fields(te + "chunked, chunked\r\n", "0\r\n\r\n"), 400},
      {"TE chunked,", fields(te + "chunked,\r\n", "0\r\n\r\n"), 400},
      {"TE , chunked", fields(te + ", chunked\r\n", "0\r\n\r\n"), 400},
      {"TE quoted", fields(te + "\"chunked\"\r\n", "0\r\n\r\n"), 400},
      {"TE with parameter", fields(te + "chunked;x=1\r\n", "0\r\n\r\n"), 400},
      {"TE empty", fields(te + "\r\n", smuggled), 400},
      {"TE vertical tab", fields(te + "\vchunked\r\n", "0\r\n\r\n"), 400},
      {"TE high byte",
       fields(te + "\xff"
                   "chunked\r\n",
              "0\r\n\r\n"),
       400},
      {"TE twice", fields(te + "chunked\r\n" + te + "chunked\r\n", "0\r\n\r\n"), 400},
      {"TE twice, second other", fields(te + "chunked\r\n" + te + "identity\r\n", "0\r\n\r\n"),
       400},
      {"TE in HTTP/1.0",
       "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"CL twice, equal", fields("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), 400},
      {"CL twice, different", fields("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"), 400},
      {"CL list", fields("Content-Length: 2, 2\r\n", "ab"), 400},
      {"CL list, different", fields("Content-Length: 2, 3\r\n", "abc"), 400},
      {"CL plus", fields("Content-Length: +2\r\n", "ab"), 400},
      {"CL minus", fields("Content-Length: -2\r\n", "ab"), 400},
      {"CL hex", fields("Content-Length: 0x2\r\n", "ab"), 400},
      {"CL decimal point", fields("Content-Length: 2.0\r\n", "ab"), 400},
      {"CL exponent", fields("Content-Length: 2e0\r\n", "ab"), 400},
      {"CL with space inside", fields("Content-Length: 1 2\r\n", "ab"), 400},
      {"CL empty", fields("Content-Length:\r\n", "ab"), 400},
      {"CL word", fields("Content-Length: two\r\n", "ab"), 400},
      {"CL underscore", fields("Content-Length: 1_0\r\n", "ab"), 400},
      {"CL 2^64", fields("Content-Length: 18446744073709551616\r\n", "ab"), 400},
      {"CL of 40 digits", fields("Content-Length: " + std::string(40, '9') + "\r\n", "ab"), 400},
      {"CL too large", fields("Content-Length: 8388609\r\n", "ab"), 413},
      {"CL 2^63", fields("Content-Length: 9223372036854775808\r\n", "ab"), 413},
      {"unknown Expect", fields("Expect: 200-ok\r\n"), 417},
  };
}

std::vector<Vector> chunk_vectors() {
  return {
      {"chunk size missing", chunked("\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size word", chunked("xyz\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size plus", chunked("+3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size minus", chunked("-3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size 0x", chunked("0x3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size with space first", chunked(" 3\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size of 17 digits", chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk size 2^64-1", chunked("ffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 413},
      {"chunk longer than its size", chunked("2\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk shorter than its size", chunked("4\r\nabc\r\n0\r\n\r\n"), 400},
      {"chunk ended by LF", chunked("3\r\nabc\n0\r\n\r\n"), 400},
      {"chunk size ended by LF", chunked("3\nabc\r\n0\r\n\r\n"), 400},
      {"chunk too large", chunked("800001\r\nabc"), 413},
      {"chunk extension without end", chunked("3;" + std::string(20'000, 'x')), 400},
  };
}

std::vector<Vector> all_vectors() {
  std::vector<Vector> all;
  for (auto part : {request_line_vectors(), line_vectors(), host_vectors(), framing_vectors(),
                    chunk_vectors()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST(HttpGate, HasAtLeast120Vectors) { EXPECT_GE(all_vectors().size(), 120u); }

TEST(HttpGate, RefusesEachVectorAndNeverSeesASecondRequest) {
  const ServerLimits limits;
  for (const Vector& v : all_vectors()) {
    RequestReader reader(limits);
    EXPECT_EQ(reader.feed(v.raw + kSecond + kSecond), State::kFailed) << v.name;
    EXPECT_EQ(reader.error().status, v.status) << v.name << ": " << reader.error().message;
    EXPECT_FALSE(reader.error().message.empty()) << v.name;
    EXPECT_EQ(reader.feed(kSecond), State::kFailed) << v.name << ": went on after an error";
  }
}

TEST(HttpGate, RefusesEachVectorByteByByteToo) {
  const ServerLimits limits;
  for (const Vector& v : all_vectors()) {
    RequestReader reader(limits);
    for (char c : v.raw + kSecond) {
      const State state = reader.feed(std::string_view(&c, 1));
      ASSERT_NE(state, State::kDone) << v.name;
      if (state == State::kFailed) break;
    }
    EXPECT_EQ(reader.state(), State::kFailed) << v.name;
    EXPECT_EQ(reader.error().status, v.status) << v.name << ": " << reader.error().message;
  }
}

struct Good {
  const char* name;
  std::string raw;
  std::string path;
  std::string body;
};

std::vector<Good> good_requests() {
  return {
      {"simple", head("GET / HTTP/1.1"), "/", ""},
      {"HTTP/1.0 without Host", head("GET / HTTP/1.0", ""), "/", ""},
      {"percent escapes", head("GET /v1/models/a%2Fb HTTP/1.1"), "/v1/models/a/b", ""},
      {"query", head("GET /x?a=b HTTP/1.1"), "/x", ""},
      {"absolute target", head("GET http://A:80/x HTTP/1.1", "Host: a:80\r\n"), "/x", ""},
      {"OPTIONS star", head("OPTIONS * HTTP/1.1"), "*", ""},
      {"IPv6 Host", head("GET / HTTP/1.1", "Host: [::1]:80\r\n"), "/", ""},
      {"value with high bytes",
       fields("X: Gr\xc3\xbc\xc3\x9f"
              "e\r\n"),
       "/x", ""},
      {"empty value", fields("X:\r\n"), "/x", ""},
      {"tabs around value", fields("X:\t y \t\r\n"), "/x", ""},
      {"body", fields("Content-Length: 3\r\n", "abc"), "/x", "abc"},
      {"leading zeros", fields("Content-Length: 003\r\n", "abc"), "/x", "abc"},
      {"chunks", chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "/x", "abcde"},
      {"chunk in upper case", chunked("A\r\n0123456789\r\n0\r\n\r\n"), "/x", "0123456789"},
      {"chunk extension", chunked("3;a=b\r\nabc\r\n0\r\n\r\n"), "/x", "abc"},
      {"trailer", chunked("3\r\nabc\r\n0\r\nX: y\r\n\r\n"), "/x", "abc"},
      {"TE in upper case", fields("transfer-encoding: CHUNKED\r\n", "0\r\n\r\n"), "/x", ""},
  };
}

TEST(HttpGate, TakesGoodRequestsHoweverCut) {
  const ServerLimits limits;
  for (const Good& good : good_requests()) {
    for (size_t cut = 0; cut <= good.raw.size(); ++cut) {
      RequestReader reader(limits);
      reader.feed(good.raw.substr(0, cut));
      ASSERT_EQ(reader.feed(good.raw.substr(cut) + kSecond), State::kDone)
          << good.name << " cut at " << cut << ": " << reader.error().message;
      EXPECT_EQ(reader.head().path, good.path) << good.name;
      EXPECT_EQ(reader.take_body(), good.body) << good.name;
      ASSERT_EQ(reader.next(), State::kDone) << good.name << ": the next request was lost";
      EXPECT_EQ(reader.head().path, "/second") << good.name;
      EXPECT_EQ(reader.buffered_bytes(), 0u) << good.name;
    }
  }
}

TEST(HttpGate, ATrailerFieldIsNotAHeader) {
  const ServerLimits limits;
  RequestReader reader(limits);
  reader.feed(chunked("0\r\nAuthorization: Bearer x\r\n\r\n"));
  ASSERT_EQ(reader.state(), State::kDone);
  EXPECT_EQ(reader.head().find("authorization"), nullptr);
}

TEST(HttpGate, ATrailerHasABound) {
  const ServerLimits limits;
  RequestReader reader(limits);
  EXPECT_EQ(reader.feed(chunked("0\r\nX: " + std::string(20'000, 'x'))), State::kFailed);
}

TEST(HttpGate, KeepAliveFollowsVersionAndConnection) {
  const ServerLimits limits;
  const auto keep_alive = [&](const std::string& raw) {
    RequestReader reader(limits);
    EXPECT_EQ(reader.feed(raw), State::kDone) << raw;
    return reader.head().keep_alive;
  };
  EXPECT_TRUE(keep_alive(head("GET / HTTP/1.1")));
  EXPECT_FALSE(keep_alive(head("GET / HTTP/1.0")));
  EXPECT_FALSE(keep_alive(head("GET / HTTP/1.1", "Host: a\r\nConnection: Close\r\n")));
  EXPECT_FALSE(keep_alive(head("GET / HTTP/1.1", "Host: a\r\nConnection: keep-alive, close\r\n")));
  EXPECT_TRUE(keep_alive(head("GET / HTTP/1.0", "Host: a\r\nConnection: keep-alive\r\n")));
}

// ---- the limits of a head: at the limit, and one past it

TEST(HttpGate, LineLimit) {
  const ServerLimits limits;
  const auto status = [&](int64_t line_bytes) {
    RequestReader reader(limits);
    const auto value = std::string(static_cast<size_t>(line_bytes) - 3, 'v');
    return reader.feed(fields("X: " + value + "\r\n")) == State::kDone ? 200
                                                                       : reader.error().status;
  };
  EXPECT_EQ(status(limits.header_line_bytes_max), 200);
  EXPECT_EQ(status(limits.header_line_bytes_max + 1), 431);
}

TEST(HttpGate, CountLimit) {
  const ServerLimits limits;
  const auto status = [&](int64_t count) {
    std::string all;
    for (int64_t i = 1; i < count; ++i) all += "X: y\r\n";  // Host is one
    RequestReader reader(limits);
    return reader.feed(fields(all)) == State::kDone ? 200 : reader.error().status;
  };
  EXPECT_EQ(status(limits.header_count_max), 200);
  EXPECT_EQ(status(limits.header_count_max + 1), 431);
}

TEST(HttpGate, HeadLimit) {
  const ServerLimits limits;
  const auto status = [&](int64_t bytes) {
    const std::string line = "X: " + std::string(4'000, 'v') + "\r\n";
    std::string raw = "POST /x HTTP/1.1\r\nHost: a\r\n" + line + line + line;
    const size_t rest = static_cast<size_t>(bytes) - raw.size() - 2;
    raw += "Y: " + std::string(rest - 5, 'v') + "\r\n\r\n";
    EXPECT_EQ(static_cast<int64_t>(raw.size()), bytes);
    RequestReader reader(limits);
    return reader.feed(raw) == State::kDone ? 200 : reader.error().status;
  };
  EXPECT_EQ(status(limits.header_bytes_max), 200);
  EXPECT_EQ(status(limits.header_bytes_max + 1), 431);
}

TEST(HttpGate, BodyLimit) {
  ServerLimits limits;
  limits.body_bytes_max = 10;
  const auto status = [&](const std::string& raw) {
    RequestReader reader(limits);
    return reader.feed(raw) == State::kDone ? 200 : reader.error().status;
  };
  EXPECT_EQ(status(fields("Content-Length: 10\r\n", std::string(10, 'b'))), 200);
  EXPECT_EQ(status(fields("Content-Length: 11\r\n", std::string(11, 'b'))), 413);
  EXPECT_EQ(status(chunked("5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n")), 200);
  EXPECT_EQ(status(chunked("5\r\nabcde\r\n6\r\nabcdef\r\n0\r\n\r\n")), 413);
}

TEST(HttpGate, ManySmallChunksTakeLinearTime) {
  const ServerLimits limits;
  const size_t chunks = static_cast<size_t>(limits.body_bytes_max) / 6;
  std::string raw = fields("Transfer-Encoding: chunked\r\n");
  for (size_t i = 0; i < chunks; ++i) raw += "6\r\nabcdef\r\n";
  raw += "0\r\n\r\n";
  RequestReader reader(limits);
  for (size_t at = 0; at < raw.size(); at += 16'384) {
    reader.feed(std::string_view(raw).substr(at, 16'384));
  }
  ASSERT_EQ(reader.state(), State::kDone) << reader.error().message;
  EXPECT_EQ(reader.take_body().size(), chunks * 6);
}

// Good requests with random bytes changed, cut anywhere: never a crash, and whatever is taken has a
// host, a known method, and a body as long as it says.
TEST(HttpGate, MutatedRequestsAreTakenWholeOrRefused) {
  const uint64_t seed = test_seed();
  SCOPED_TRACE("MOLE_TEST_SEED=" + std::to_string(seed));
  const ServerLimits limits;
  std::mt19937_64 random(seed);
  const auto goods = good_requests();
  const std::string alphabet = std::string("\r\n :;,0123456789abcXYZ/%\t\x80\xff\x7f", 33) + '\0';
  for (int64_t round = 0; round < test_rounds(20'000); ++round) {
    std::string raw = goods[random() % goods.size()].raw;
    for (uint64_t changes = random() % 4 + 1; changes > 0; --changes) {
      const size_t at = random() % raw.size();
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 3) {
        case 0:
          raw[at] = c;
          break;
        case 1:
          raw.insert(at, 1, c);
          break;
        default:
          raw.erase(at, 1);
          break;
      }
    }
    const size_t cut = random() % (raw.size() + 1);
    RequestReader reader(limits);
    reader.feed(raw.substr(0, cut));
    if (reader.feed(raw.substr(cut)) != State::kDone) continue;
    const RequestHead& head = reader.head();
    ASSERT_TRUE(head.version_minor == 0 || head.find("host") != nullptr) << raw;
    ASSERT_TRUE(head.path.front() == '/' || head.path == "*") << raw;
    if (head.content_length.has_value()) {
      ASSERT_EQ(reader.take_body().size(), *head.content_length) << raw;
    }
  }
}

TEST(HttpGate, RequestIdRule) {
  EXPECT_TRUE(valid_request_id("req-1_a.B:9"));
  EXPECT_TRUE(valid_request_id(std::string(128, 'a')));
  EXPECT_FALSE(valid_request_id(std::string(129, 'a')));
  EXPECT_FALSE(valid_request_id(""));
  EXPECT_FALSE(valid_request_id("a b"));
  EXPECT_FALSE(valid_request_id("a\"b"));
}

}  // namespace
}  // namespace mole::server
