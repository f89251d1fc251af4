// The small pieces by themselves: JSON and event writing, errors, keys, settings.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/json.h"
#include "server/api_error.h"
#include "server/auth.h"
#include "server/json_writer.h"
#include "server/sampling_defaults.h"
#include "server/settings.h"
#include "server/signals.h"
#include "server/sse.h"

namespace mole::server {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(&out, text);
  return out;
}

TEST(JsonWriter, StringsReadBackAndStayOnOneLine) {
  std::string all;
  for (int c = 1; c < 128; ++c) all += static_cast<char>(c);
  all += "\xc2\x85\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xa7\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xbe";
  const std::string written = json_string(all);
  EXPECT_EQ(Json::parse(written).get<std::string>(), all);
  for (const char* separator : {"\n", "\r", "\v", "\f", "\x1c", "\xc2\x85", "\xe2\x80\xa8"}) {
    EXPECT_EQ(written.find(separator), std::string::npos);
  }
  EXPECT_EQ(json_string(""), "\"\"");
}

TEST(JsonWriter, LogprobsPrintEqualFloatsEqually) {
  const auto print = [](float value) {
    std::string out;
    append_logprob(&out, value);
    return out;
  };
  EXPECT_EQ(print(0.0f), "0.0");
  EXPECT_EQ(print(-0.5f), "-0.5");
  EXPECT_EQ(print(-std::numeric_limits<float>::infinity()), "-9999.0");
  EXPECT_EQ(print(std::numeric_limits<float>::quiet_NaN()), "-9999.0");
  EXPECT_EQ(print(-1e30f), "-9999.0");
  for (float value = -20.0f; value < 0.0f; value += 0.0137f) {
    EXPECT_EQ(static_cast<float>(Json::parse(print(value)).get<double>()), value);
  }
}

TEST(JsonWriter, CodePointsAddUpHoweverCut) {
  const std::string text = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xbe";
  EXPECT_EQ(count_code_points(text), 4);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(count_code_points(text.substr(0, cut)) + count_code_points(text.substr(cut)), 4);
  }
  EXPECT_EQ(replace_invalid_utf8("\xc3"), "\xef\xbf\xbd");
}

TEST(Sse, EventsAreOneLineOfData) {
  std::string out;
  append_event(&out, "{}");
  EXPECT_EQ(out, "data: {}\n\n");
  EXPECT_EQ(kSseHeartbeat.front(), ':');
}

TEST(ApiErrors, StatusTable) {
  const auto shown = [](const Status& status) {
    const ApiError error = from_status(status, 1'500);
    const HttpResponse response = to_response(error);
    const Json body = Json::parse(response.body)["error"];
    EXPECT_EQ(body.size(), 4u) << response.body;
    return std::pair(response.status,
                     body["code"].is_null() ? "" : body["code"].get<std::string>());
  };
  EXPECT_EQ(shown(absl::InvalidArgumentError("x")), std::pair(400, std::string()));
  EXPECT_EQ(shown(absl::InvalidArgumentError("context_length_exceeded: x")),
            std::pair(400, std::string("context_length_exceeded")));
  EXPECT_EQ(shown(absl::ResourceExhaustedError("x")),
            std::pair(429, std::string("rate_limit_exceeded")));
  EXPECT_EQ(shown(absl::UnavailableError("x")), std::pair(503, std::string("service_unavailable")));
  EXPECT_EQ(shown(absl::DeadlineExceededError("x")),
            std::pair(504, std::string("request_timeout")));
  EXPECT_EQ(shown(absl::InternalError("secret path")), std::pair(500, std::string()));
  EXPECT_EQ(to_response(internal_error()).body.find("secret"), std::string::npos);
}

TEST(ApiErrors, RetryHeaders) {
  const auto header = [](const ApiError& error, const std::string& name) {
    for (const auto& field : to_response(error).headers) {
      if (field.name == name) return field.value;
    }
    return std::string();
  };
  EXPECT_EQ(header(overloaded("x", 1'500), "retry-after-ms"), "1500");
  EXPECT_EQ(header(overloaded("x", 1'500), "retry-after"), "2");
  EXPECT_EQ(header(overloaded("x", 1'500), "x-should-retry"), "");
  EXPECT_EQ(header(internal_error(), "x-should-retry"), "false");
  EXPECT_EQ(header(unavailable("x"), "x-should-retry"), "");
}

TEST(ApiErrors, AnyMessageGivesValidJson) {
  const ApiError error = invalid_field("a\"b\n", "bad \xff bytes");
  EXPECT_NO_THROW(Json::parse(error_body(error)));
}

class TemporaryFile {
 public:
  TemporaryFile(const std::string& name, const std::string& contents)
      : folder_(std::filesystem::temp_directory_path() /
                ("mole_units_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
                 "_" + std::to_string(reinterpret_cast<uintptr_t>(this)))) {
    std::filesystem::create_directories(folder_);
    std::ofstream(path(name)) << contents;
  }
  ~TemporaryFile() { std::filesystem::remove_all(folder_); }
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

TEST(ApiKeysFile, LinesCommentsAndErrors) {
  const TemporaryFile good("keys", "# ours\r\none\r\n\ntwo\n");
  const auto keys = ApiKeys::load(good.path("keys"));
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->allows("Bearer one"));
  EXPECT_TRUE(keys->allows("bearer two"));
  EXPECT_FALSE(keys->allows("Bearer # ours"));
  EXPECT_FALSE(keys->allows("Bearer "));
  EXPECT_FALSE(keys->allows("one"));
  EXPECT_FALSE(keys->allows(""));
  EXPECT_TRUE(ApiKeys().allows(""));
  EXPECT_FALSE(ApiKeys::load(TemporaryFile("keys", "\n#\n").path("keys")).ok());
  const TemporaryFile odd("keys", "a b\n");
  const Status status = ApiKeys::load(odd.path("keys")).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message().find("a b"), std::string::npos) << "a key in an error";
}

TEST(SamplingDefaultsFile, ReadsAndChecks) {
  const TemporaryFile none("other", "");
  EXPECT_EQ(load_sampling_defaults(none.folder())->temperature, 1.0);
  const TemporaryFile some("generation_config.json",
                           R"({"temperature": 0.6, "top_p": 0.95, "top_k": 50, "do_sample": true,
                               "eos_token_id": [1, 2], "max_new_tokens": 10})");
  const auto defaults = load_sampling_defaults(some.folder());
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, 0.6);
  EXPECT_EQ(defaults->top_p, 0.95);
  EXPECT_EQ(defaults->top_k, 50);
  EXPECT_EQ(defaults->max_new_tokens, 10);
  for (const char* wrong :
       {R"({"temperature": 3})", R"({"top_p": 0})", R"({"top_k": "x"})", "[]", "{", ""}) {
    const TemporaryFile file("generation_config.json", wrong);
    const Status status = load_sampling_defaults(file.folder()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong;
    EXPECT_NE(status.message().find("generation_config.json"), std::string::npos) << status;
  }
}

TEST(Signals, AReportIsNotAnEnd) {
  constexpr std::chrono::milliseconds kNow(0);
  block_signals();
  int reports = 0;
  const auto on_report = [&] { ++reports; };
  EXPECT_FALSE(wait_for_termination(kNow, on_report));
  EXPECT_EQ(reports, 0);
  ::raise(SIGUSR1);
  EXPECT_FALSE(wait_for_termination(kNow, on_report));
  EXPECT_EQ(reports, 1);
  for (const int signal : {SIGTERM, SIGINT}) {
    ::raise(signal);
    EXPECT_TRUE(wait_for_termination(kNow, on_report));
  }
  EXPECT_EQ(reports, 1);
}

TEST(Settings, NamesAndLoopback) {
  EXPECT_EQ(default_model_name("/models/demo"), "demo");
  EXPECT_EQ(default_model_name("/models/demo/"), "demo");
  EXPECT_EQ(default_model_name("demo"), "demo");
  EXPECT_TRUE(is_loopback("127.0.0.1"));
  EXPECT_TRUE(is_loopback("::1"));
  EXPECT_FALSE(is_loopback("0.0.0.0"));
  EXPECT_FALSE(is_loopback("::"));
}

TEST(Settings, FlagsReachTheEngine) {
  Settings settings;
  Options options("test", "");
  declare_options(options, &settings);
  const char* argv[] = {"test",    "models/x", "--max-num-seqs", "3", "--no-enable-prefix-caching",
                        "--n-max", "4",        "--drain-ms",     "5"};
  int code = 0;
  ASSERT_TRUE(options.parse(static_cast<int>(std::size(argv)), argv, &code));
  EXPECT_EQ(settings.model_path(), "models/x");
  EXPECT_EQ(settings.limits.drain_ms, 5);
  const auto engine = engine_options(settings);
  EXPECT_EQ(engine.max_num_seqs, 3);
  EXPECT_EQ(engine.max_sequences_per_request, 4);
  EXPECT_FALSE(engine.enable_prefix_caching);
}

}  // namespace
}  // namespace mole::server
