// One request's results on their way from the engine to a client: a bounded queue of events that
// wakes its reader. The engine never waits: when the reader is too slow and the queue is full, the
// request is cancelled with an error event (for which there is always room). Thread: the engine
// writes, one reader reads, either may look at the flags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "runtime/request.h"

namespace mole::runtime {

struct TokenLogprobs {
  float logprob = 0;  // of the token itself, natural log, of the raw logits
  std::vector<std::pair<TokenId, float>> top;  // largest first; ties by lower id
};

struct StreamEvent {
  enum class Kind : uint8_t {
    kPromptToken,  // a scored prompt token (prompt_logprobs), sequence index 0 only; the first has
                   // none
    kToken,        // a generated token
    kFinished,     // this sequence ended: reason and usage
    kError,        // the whole request ended: `error`; nothing follows
  };
  Kind kind = Kind::kToken;
  int32_t index = 0;  // which of the n sequences
  TokenId token = 0;
  bool has_logprobs = false;
  TokenLogprobs logprobs;
  FinishReason finish_reason = FinishReason::kNone;
  TokenId stop_token = -1;  // with kStop: the EOS or stop token that ended it (not sent as kToken)
  Usage usage;
  Status error;
};

class OutputStream {
 public:
  OutputStream(RequestId id, size_t capacity) : id_(id), capacity_(capacity) {}
  RequestId id() const { return id_; }

  /// Reader: the next event, if there is one.
  std::optional<StreamEvent> try_pop();
  /// Reader: `wake` is called (on the engine's thread, keep it short) whenever an event arrives
  /// while the queue was empty. Set once, before the first try_pop; called at once if events wait
  /// already.
  void set_wake(std::function<void()> wake);

  /// Engine: false when full (the event is dropped, the caller cancels the request).
  bool push(StreamEvent event);
  /// Engine: the closing kFinished or kError event; always fits.
  void push_last(StreamEvent event);

 private:
  void push_locked_and_wake(StreamEvent event, std::unique_lock<std::mutex> lock);

  const RequestId id_;
  const size_t capacity_;
  std::mutex mutex_;
  std::deque<StreamEvent> events_;  // guarded by mutex_
  std::function<void()> wake_;      // guarded by mutex_
};

}  // namespace mole::runtime
