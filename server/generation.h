// One answer in the making: submits the prompts to the engine, reads their streams, and writes the
// answer, whole or as events. Owned by its session; the engine's thread never holds it, it only
// posts wake-ups. Ends with the answer, with an error, or when the client goes away (which cancels
// what still runs).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/app.h"
#include "server/choice.h"
#include "server/generation_params.h"
#include "server/http_exchange.h"
#include "server/response_format.h"

namespace mole::server {

/// A validated request, ready to run.
struct GenerationSpec {
  GenerationParams params;
  std::vector<Prompt> prompts;
  bool chat = false;
};

class Generation final : public StreamListener, public std::enable_shared_from_this<Generation> {
 public:
  Generation(const App& app, std::shared_ptr<const ServedModel> model,
             std::shared_ptr<ResponseSink> sink, GenerationSpec spec, const std::string& request_id,
             TimeUs received_us);

  /// Hands all prompts to the engine: all are accepted, or none. Thread: any, once, before start().
  std::optional<ApiError> submit();
  /// Begins to read the streams. Thread: the session's strand, like all that follows.
  void start();

  void on_idle() override;
  void on_drained() override;
  void on_closed() override;
  void on_wake() override;

 private:
  // A prompt's run in the engine; its choices are n consecutive ones.
  struct Part {
    std::shared_ptr<runtime::OutputStream> stream;
    int32_t open = 0;  // sequences that the engine has not ended yet
  };

  void pump();
  void handle(size_t part_idx, runtime::StreamEvent event);
  void on_token(size_t part_idx, runtime::StreamEvent event);
  void on_finished(size_t part_idx, const runtime::StreamEvent& event);
  void begin_stream();
  void send_finish(size_t choice_idx);
  void complete();
  void fail(const ApiError& error);
  void cancel_all();

  const App& app_;
  const std::shared_ptr<const ServedModel> model_;
  const std::shared_ptr<ResponseSink> sink_;
  const GenerationSpec spec_;
  const TimeUs deadline_us_;

  std::vector<Part> parts_;      // one per prompt
  std::vector<Choice> choices_;  // of all prompts
  std::unique_ptr<ResponseFormat> format_;
  UsageTotals usage_;
  size_t open_parts_ = 0;
  bool streaming_ = false;  // the head and the opening are out
  bool ended_ = false;      // answered, failed or abandoned: nothing is written any more
  std::string out_;         // events of this pump
};

}  // namespace mole::server
