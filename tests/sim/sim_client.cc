#include "tests/sim/sim_client.h"

#include <utility>

namespace mole::sim {

using runtime::FinishReason;
using runtime::StreamEvent;
using runtime::TokenLogprobs;

namespace {

// Bit for bit: log-probabilities are promised to be the same whatever else runs.
bool same(const TokenLogprobs& a, const TokenLogprobs& b) {
  return a.logprob == b.logprob && a.top == b.top;
}

}  // namespace

SimClient::SimClient(runtime::GenerateRequest request, const SimConfig* config, TimeUs submitted_us)
    : request_(std::move(request)),
      config_(config),
      submitted_us_(submitted_us),
      last_reason_(static_cast<size_t>(request_.n), FinishReason::kNone),
      finished_(static_cast<size_t>(request_.n)),
      open_(request_.n) {
  for (int32_t i = 0; i < request_.n; ++i) runs_.emplace_back(&request_, i, &config_->model);
  if (request_.sampling.prompt_logprobs >= 0) {
    prompt_scores_ = SoloRun::score_prompt(request_, config_->model);
  }
}

std::string SimClient::read(TimeUs now_us) { return never_reads ? "" : read_all(now_us); }

std::string SimClient::read_all(TimeUs now_us) {
  while (auto event = stream_->try_pop()) {
    if (const std::string wrong = check(*event, now_us); !wrong.empty()) {
      return "request " + std::to_string(request_.id.value) + " sequence " +
             std::to_string(event->index) + ": " + wrong;
    }
  }
  return "";
}

std::string SimClient::check(const StreamEvent& event, TimeUs now_us) {
  if (failed_) return "an event after kError";
  if (event.index < 0 || event.index >= request_.n) return "an index out of range";
  if (event.kind == StreamEvent::Kind::kError) return check_error(event, now_us);
  if (finished_[static_cast<size_t>(event.index)]) return "an event after kFinished";
  switch (event.kind) {
    case StreamEvent::Kind::kPromptToken:
      return check_prompt_token(event);
    case StreamEvent::Kind::kToken:
      return check_token(event);
    case StreamEvent::Kind::kFinished:
      return check_finished(event, now_us);
    case StreamEvent::Kind::kError:
      break;
  }
  return "an unknown kind of event";
}

std::string SimClient::check_prompt_token(const StreamEvent& event) {
  const size_t i = num_prompt_tokens_++;
  if (request_.sampling.prompt_logprobs < 0) return "a prompt token nobody asked for";
  if (event.index != 0) return "a prompt token of another sequence than 0";
  if (i >= request_.prompt.size()) return "too many prompt tokens";
  if (event.token != request_.prompt[i]) return "a wrong prompt token";
  if (event.has_logprobs != (i > 0)) return "log-probabilities missing or too many";
  if (i > 0 && !same(event.logprobs, prompt_scores_[i - 1])) {
    return "log-probabilities of prompt token " + std::to_string(i) + " differ from the solo run";
  }
  return "";
}

std::string SimClient::check_token(const StreamEvent& event) {
  const auto index = static_cast<size_t>(event.index);
  SoloRun& run = runs_[index];
  if (run.ended()) return "a token after the solo run's end";
  const SoloRun::Next expected = run.next();
  last_reason_[index] = expected.reason;
  const std::string where = "token " + std::to_string(run.num_generated() - 1);
  if (expected.reason == FinishReason::kStop) return where + ": the solo run stopped here";
  if (event.token != expected.token) {
    return where + " is " + std::to_string(event.token) + ", alone it is " +
           std::to_string(expected.token);
  }
  if (event.has_logprobs && !same(event.logprobs, expected.logprobs)) {
    return where + ": log-probabilities differ from the solo run";
  }
  return "";
}

std::string SimClient::check_finished(const StreamEvent& event, TimeUs now_us) {
  const auto index = static_cast<size_t>(event.index);
  SoloRun& run = runs_[index];
  finished_[index] = true;
  --open_;
  const int32_t sent = run.num_generated();
  accepted_tokens_ += event.usage.accepted_tokens;
  if (event.usage.accepted_tokens > event.usage.drafted_tokens) return "more accepted than drafted";
  switch (event.finish_reason) {
    case FinishReason::kCancelled:
      if (disconnected) return "";
      return cancelled_one && event.index == cancel_index ? "" : "cancelled by nobody";
    case FinishReason::kDeadline:
      return request_.deadline_us > 0 && now_us >= request_.deadline_us ? "" : "no deadline passed";
    case FinishReason::kLength:
      if (sent != request_.sampling.max_tokens) return "kLength before max_tokens";
      break;
    case FinishReason::kStop: {
      if (run.ended()) return "kStop after the solo run's end";
      const SoloRun::Next expected = run.next();
      if (expected.reason != FinishReason::kStop || expected.token != event.stop_token) {
        return "kStop where the solo run goes on";
      }
      break;
    }
    default:
      return "an impossible finish reason";
  }
  if (event.usage.completion_tokens != run.num_generated()) return "wrong completion_tokens";
  if (event.usage.prompt_tokens != static_cast<int32_t>(request_.prompt.size())) {
    return "wrong prompt_tokens";
  }
  const bool scored = request_.sampling.prompt_logprobs >= 0 && event.index == 0;
  if (scored && num_prompt_tokens_ != request_.prompt.size()) return "prompt tokens are missing";
  return "";
}

std::string SimClient::check_error(const StreamEvent& event, TimeUs now_us) {
  failed_ = true;
  if (open_ == 0) return "kError after the last kFinished";
  if (event.error.code() == absl::StatusCode::kCancelled && never_reads) return "";
  const bool waited = now_us - submitted_us_ > config_->engine.queue_wait_max_us;
  bool ran = num_prompt_tokens_ > 0;
  for (const SoloRun& run : runs_) ran = ran || run.num_generated() > 0;
  if (event.error.code() == absl::StatusCode::kResourceExhausted && waited && !ran) return "";
  return "an error without a cause: " + std::string(event.error.message());
}

}  // namespace mole::sim
