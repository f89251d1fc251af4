#include "clients/mole/commands.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/options.h"
#include "clients/mole/http_client.h"
#include "clients/mole/quantize.h"
#include "clients/mole/sse_parser.h"
#include "clients/mole/url.h"

namespace mole::client {
namespace {

constexpr int64_t kUnset = -1;

struct Arguments {
  std::string url = "http://127.0.0.1:8000";
  std::string model;
  std::string api_key_file;
  std::string prompt;
  std::string system;
  int64_t max_tokens = kUnset;
  double temperature = kUnset;
  double top_p = kUnset;
  int64_t seed = kUnset;
  std::vector<std::string> stop;
  bool stream = true;
};

void declare_connection(Options& options, Arguments* a) {
  options.add("url", &a->url, "the server");
  options.add("api-key-file", &a->api_key_file, "file that holds the API key");
}

void declare_generation(Options& options, Arguments* a) {
  options.add_positional("prompt", &a->prompt, "the prompt; without it, standard input is read");
  options.add("model", &a->model, "model name, the server's own by default");
  options.add("max-tokens", &a->max_tokens, -1, 1'000'000'000, "N",
              "tokens to generate at most, -1 = the server's default");
  options.add("temperature", &a->temperature, -1, 2, "X", "-1 = the server's default");
  options.add("top-p", &a->top_p, -1, 1, "X", "-1 = the server's default");
  options.add("seed", &a->seed, -1, INT64_MAX, "N", "-1 = a new one each time");
  options.add_list("stop", &a->stop, "text that ends the output; may be given several times");
  options.add("stream", &a->stream, "print text as it is made");
}

int fail(int code, const std::string& message) {
  std::cerr << "mole: " << message << "\n";
  return code;
}

/// The error's message in an API answer, or the answer itself.
std::string error_text(const std::string& body) {
  const auto json = parse_json(body);
  if (json.ok() && json->is_object() && json->contains("error")) {
    const Json message = (*json)["error"].value("message", Json());
    if (message.is_string()) return message.get<std::string>();
  }
  return body.substr(0, 500);
}

StatusOr<std::string> read_key(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path);
  std::string key;
  if (!std::getline(file, key) || key.empty()) {
    return absl::InvalidArgumentError("api-key-file: cannot read a key from " + path);
  }
  return key;
}

Json common_body(const Arguments& a) {
  Json body = {{"stream", a.stream}};
  if (!a.model.empty()) body["model"] = a.model;
  if (a.max_tokens != kUnset) body["max_tokens"] = a.max_tokens;
  if (a.temperature >= 0) body["temperature"] = a.temperature;
  if (a.top_p >= 0) body["top_p"] = a.top_p;
  if (a.seed != kUnset) body["seed"] = a.seed;
  if (!a.stop.empty()) body["stop"] = a.stop;
  return body;
}

/// The text of the first choice: of a chat or completion, whole or one event of a stream.
std::string text_of(const Json& answer) {
  if (!answer.is_object() || !answer.contains("choices") || answer["choices"].empty()) return "";
  const Json& choice = answer["choices"][0];
  for (const char* part : {"delta", "message"}) {
    if (!choice.contains(part)) continue;
    const Json content = choice[part].value("content", Json());
    return content.is_string() ? content.get<std::string>() : "";
  }
  const Json text = choice.value("text", Json());
  return text.is_string() ? text.get<std::string>() : "";
}

/// Prints a stream's text as it comes, and keeps it.
class StreamPrinter {
 public:
  StreamPrinter() : parser_([this](const std::string& data) { take(data); }) {}

  void feed(std::string_view bytes) { parser_.feed(bytes); }
  const std::string& text() const { return text_; }
  /// Why the stream is not whole; nullopt if it is.
  std::optional<std::string> problem() const {
    if (!error_.empty()) return error_;
    return done_ ? std::nullopt : std::optional<std::string>("the stream ended too early");
  }

 private:
  void take(const std::string& data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const auto json = parse_json(data);
    if (!json.ok() || (json->is_object() && json->contains("error"))) {
      error_ = error_text(data);
      return;
    }
    const std::string piece = text_of(*json);
    std::cout << piece << std::flush;
    text_ += piece;
  }

  SseParser parser_;
  std::string text_, error_;
  bool done_ = false;
};

/// Sends `body` and prints the answer's text. `*text` gets it too.
int generate(const Arguments& a, const std::string& path, const Json& body, std::string* text) {
  const auto url = parse_url(a.url);
  if (!url.ok()) return fail(kExitUsage, std::string(url.status().message()));
  const auto key = read_key(a.api_key_file);
  if (!key.ok()) return fail(kExitUsage, std::string(key.status().message()));
  StreamPrinter printer;
  OnBytes on_bytes;
  if (a.stream) on_bytes = [&](std::string_view bytes) { printer.feed(bytes); };
  const auto answer = http_call(
      *url, {.method = "POST", .path = path, .body = body.dump(), .api_key = *key}, on_bytes);
  if (absl::IsCancelled(answer.status())) {
    std::cout << std::endl;
    return kExitInterrupted;
  }
  if (!answer.ok()) return fail(kExitFailure, std::string(answer.status().message()));
  if (answer->status != 200) {
    return fail(kExitFailure, "the server answered " + std::to_string(answer->status) + ": " +
                                  error_text(answer->body));
  }
  if (a.stream) {
    std::cout << std::endl;
    *text = printer.text();
    const auto problem = printer.problem();
    return problem.has_value() ? fail(kExitFailure, *problem) : kExitOk;
  }
  const auto json = parse_json(answer->body);
  if (!json.ok()) return fail(kExitFailure, "the answer is not JSON");
  *text = text_of(*json);
  std::cout << *text << std::endl;
  return kExitOk;
}

std::string read_input() {
  std::string text((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

int run_complete(int argc, const char* const* argv) {
  Arguments a;
  Options options("mole complete", "Continues a text.");
  declare_connection(options, &a);
  declare_generation(options, &a);
  int code = kExitOk;
  if (!options.parse(argc, argv, &code)) return code;
  Json body = common_body(a);
  body["prompt"] = a.prompt.empty() ? read_input() : a.prompt;
  std::string text;
  return generate(a, "/v1/completions", body, &text);
}

/// One question after the other until the input ends; each sees what was said before.
int converse(const Arguments& a, Json messages) {
  const bool colours = colours_wanted(::isatty(STDOUT_FILENO) != 0, std::getenv("NO_COLOR"));
  const std::string prompt = colours ? "\033[1;36myou>\033[0m " : "you> ";
  std::string line;
  while (std::cout << prompt << std::flush, std::getline(std::cin, line)) {
    if (line.empty()) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    Json body = common_body(a);
    body["messages"] = messages;
    std::string text;
    const int code = generate(a, "/v1/chat/completions", body, &text);
    if (code != kExitOk && code != kExitInterrupted) return code;
    messages.push_back({{"role", "assistant"}, {"content", text}});
  }
  std::cout << std::endl;
  return kExitOk;
}

int run_chat(int argc, const char* const* argv) {
  Arguments a;
  Options options("mole chat",
                  "Talks with the model; without a prompt and on a terminal, in turns.");
  declare_connection(options, &a);
  declare_generation(options, &a);
  options.add("system", &a.system, "system message");
  int code = kExitOk;
  if (!options.parse(argc, argv, &code)) return code;
  Json messages = Json::array();
  if (!a.system.empty()) messages.push_back({{"role", "system"}, {"content", a.system}});
  if (a.prompt.empty() && ::isatty(STDIN_FILENO) != 0) return converse(a, std::move(messages));
  messages.push_back({{"role", "user"}, {"content", a.prompt.empty() ? read_input() : a.prompt}});
  Json body = common_body(a);
  body["messages"] = std::move(messages);
  std::string text;
  return generate(a, "/v1/chat/completions", body, &text);
}

int run_models(int argc, const char* const* argv) {
  Arguments a;
  Options options("mole models", "Lists the models that the server has.");
  declare_connection(options, &a);
  int code = kExitOk;
  if (!options.parse(argc, argv, &code)) return code;
  const auto url = parse_url(a.url);
  if (!url.ok()) return fail(kExitUsage, std::string(url.status().message()));
  const auto key = read_key(a.api_key_file);
  if (!key.ok()) return fail(kExitUsage, std::string(key.status().message()));
  const auto answer = http_call(
      *url, {.method = "GET", .path = "/v1/models", .body = "", .api_key = *key}, nullptr);
  if (absl::IsCancelled(answer.status())) return kExitInterrupted;
  if (!answer.ok()) return fail(kExitFailure, std::string(answer.status().message()));
  if (answer->status != 200) return fail(kExitFailure, error_text(answer->body));
  const auto json = parse_json(answer->body);
  if (!json.ok() || !json->is_object() || !json->contains("data") || !(*json)["data"].is_array()) {
    return fail(kExitFailure, "the answer is no list of models");
  }
  for (const Json& model : (*json)["data"]) {
    const Json id = model.is_object() ? model.value("id", Json()) : Json();
    if (id.is_string()) std::cout << id.get<std::string>() << "\n";
  }
  return kExitOk;
}

constexpr std::array kCommands = {
    Command{"chat", "talk with the model", run_chat},
    Command{"complete", "continue a text", run_complete},
    Command{"models", "list the server's models", run_models},
    Command{"quantize", "store a model directory with quantised weights", run_quantize},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

bool colours_wanted(bool is_terminal, const char* no_color) {
  return is_terminal && (no_color == nullptr || *no_color == 0);
}

}  // namespace mole::client
