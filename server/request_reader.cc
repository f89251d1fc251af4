#include "server/request_reader.h"

#include <utility>  // before Asio, which g++ 12 in C++20 otherwise fails to compile

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <optional>

namespace mole::server {
namespace {

namespace http = boost::beast::http;
using Parser = http::request_parser<http::string_body>;

// Beast parses a head that has already passed our gate; its own limit must only never be the
// tighter.
constexpr uint32_t kBeastHeaderLimit = std::numeric_limits<uint32_t>::max() / 2;
// A chunk's size line with extensions, or the trailer: nobody needs more.
constexpr size_t kChunkHeadBytesMax = 4'096;
// The shortest end of a chunked body, "0\r\n\r\n". Beast 1.74 asserts that it sees at least so much
// of the last chunk at once, so it gets nothing shorter; more must come anyway.
constexpr size_t kChunkedEndBytes = 5;

HttpError body_error(const boost::beast::error_code& code, int64_t body_bytes_max) {
  if (code == http::error::body_limit || code == http::error::buffer_overflow) {
    return {413, "the body is larger than " + std::to_string(body_bytes_max) + " bytes"};
  }
  return {400, "the body's framing is wrong: " + code.message()};
}

}  // namespace

struct RequestReader::Impl {
  explicit Impl(const ServerLimits& l) : limits(l), scanner(l) {}

  const ServerLimits& limits;
  State state = State::kHead;
  std::string buffer;  // received and not yet consumed from `offset` on
  size_t offset = 0;
  HeadScanner scanner;
  RequestHead head;
  HttpError error;
  std::optional<Parser> parser;

  std::string_view rest() const { return std::string_view(buffer).substr(offset); }
  State fail(HttpError why) {
    error = std::move(why);
    buffer.clear();
    offset = 0;
    return state = State::kFailed;
  }
  void compact() {
    buffer.erase(0, offset);
    offset = 0;
  }
  State parse_head_bytes();
  State parse_body_bytes();
};

RequestReader::RequestReader(const ServerLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestReader::~RequestReader() = default;
RequestReader::State RequestReader::state() const { return impl_->state; }
const RequestHead& RequestReader::head() const { return impl_->head; }
std::string RequestReader::take_body() { return std::move(impl_->parser->get().body()); }
const HttpError& RequestReader::error() const { return impl_->error; }
size_t RequestReader::buffered_bytes() const { return impl_->rest().size(); }

RequestReader::State RequestReader::Impl::parse_head_bytes() {
  switch (scanner.scan(rest())) {
    case HeadScanner::State::kNeedMore:
      return state;
    case HeadScanner::State::kError:
      return fail(scanner.error());
    case HeadScanner::State::kComplete:
      break;
  }
  const std::string_view raw = rest().substr(0, scanner.head_bytes());
  auto parsed = parse_head(raw, limits);
  if (auto* why = std::get_if<HttpError>(&parsed)) return fail(std::move(*why));
  head = std::move(std::get<RequestHead>(parsed));

  parser.emplace();
  parser->header_limit(kBeastHeaderLimit);
  parser->body_limit(static_cast<uint64_t>(limits.body_bytes_max));
  boost::beast::error_code code;
  const size_t used = parser->put(boost::asio::const_buffer(raw.data(), raw.size()), code);
  if (code && code != http::error::need_more) return fail(body_error(code, limits.body_bytes_max));
  // Two parsers that disagree on where the head ends is what smuggling lives on.
  if (used != raw.size() || !parser->is_header_done() || parser->chunked() != head.chunked) {
    return fail({400, "the request head is ambiguous"});
  }
  offset += used;
  parser->eager(true);
  state = State::kBody;
  return parse_body_bytes();
}

RequestReader::State RequestReader::Impl::parse_body_bytes() {
  const size_t least = head.chunked ? kChunkedEndBytes : 1;
  while (!parser->is_done() && rest().size() >= least) {
    boost::beast::error_code code;
    const size_t used = parser->put(boost::asio::const_buffer(rest().data(), rest().size()), code);
    offset += used;
    if (code && code != http::error::need_more) {
      return fail(body_error(code, limits.body_bytes_max));
    }
    if (used == 0) break;
  }
  if (parser->is_done()) return state = State::kDone;
  if (rest().size() > kChunkHeadBytesMax) return fail({400, "a chunk's head is too long"});
  compact();
  return state;
}

RequestReader::State RequestReader::feed(std::string_view bytes) {
  if (impl_->state == State::kFailed) return State::kFailed;
  impl_->buffer.append(bytes);
  if (impl_->state == State::kHead) return impl_->parse_head_bytes();
  if (impl_->state == State::kBody) return impl_->parse_body_bytes();
  return impl_->state;
}

RequestReader::State RequestReader::next() {
  impl_->compact();
  impl_->parser.reset();
  impl_->head = {};
  impl_->scanner = HeadScanner(impl_->limits);
  impl_->state = State::kHead;
  return feed("");
}

}  // namespace mole::server
