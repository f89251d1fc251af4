#include "server/generation.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "server/sse.h"

namespace mole::server {
namespace {

using runtime::FinishReason;
using runtime::StreamEvent;

ResponseIdentity make_identity(const ServedModel& model, const std::string& request_id, bool chat) {
  using std::chrono::duration_cast, std::chrono::seconds, std::chrono::system_clock;
  const auto now = duration_cast<seconds>(system_clock::now().time_since_epoch());
  return {(chat ? "chatcmpl-" : "cmpl-") + request_id, now.count(), model.name()};
}

/// A late token of the prompt that is text by itself, for the output to continue; the last ones may
/// be special tokens or parts of a code point.
std::optional<TokenId> token_before(const ServedModel& model, const GenerationParams& params,
                                    const std::vector<TokenId>& prompt) {
  constexpr size_t kLookBack = 8;
  for (size_t back = 1; back <= std::min(kLookBack, prompt.size()); ++back) {
    const TokenId id = prompt[prompt.size() - back];
    text::Detokenizer probe(model.tokenizer, params.skip_special_tokens);
    if (!probe.push(id).empty() && probe.finish().empty()) return id;
  }
  return std::nullopt;
}

}  // namespace

Generation::Generation(const App& app, std::shared_ptr<const ServedModel> model,
                       std::shared_ptr<ResponseSink> sink, GenerationSpec spec,
                       const std::string& request_id, TimeUs received_us)
    : app_(app),
      model_(std::move(model)),
      sink_(std::move(sink)),
      spec_(std::move(spec)),
      deadline_us_(received_us + app.limits().request_deadline_ms * 1'000) {
  const auto make_format = spec_.chat ? make_chat_format : make_completion_format;
  format_ = make_format(make_identity(*model_, request_id, spec_.chat), *model_->tokenizer,
                        spec_.params, spec_.prompts);
  for (const Prompt& prompt : spec_.prompts) {
    const auto before = token_before(*model_, spec_.params, prompt.ids);
    for (int32_t i = 0; i < spec_.params.n; ++i) {
      choices_.emplace_back(model_->tokenizer, spec_.params, before);
    }
  }
}

std::optional<ApiError> Generation::submit() {
  for (const Prompt& prompt : spec_.prompts) {
    runtime::GenerateRequest request;
    request.id = model_->engine->next_request_id();
    request.prompt = prompt.ids;
    request.sampling = spec_.params.sampling;
    request.sampling.max_tokens =
        resolve_max_tokens(spec_.params, *model_, static_cast<int64_t>(prompt.ids.size()));
    request.n = spec_.params.n;
    request.deadline_us = deadline_us_;
    request.cache_salt = spec_.params.cache_salt;
    request.priority = spec_.params.priority;
    auto stream = model_->engine->submit(std::move(request));
    if (!stream.ok()) {
      cancel_all();
      return from_status(stream.status(), model_->engine->retry_after_ms());
    }
    parts_.push_back({std::move(*stream), spec_.params.n});
  }
  open_parts_ = parts_.size();
  return std::nullopt;
}

void Generation::start() {
  sink_->attach(shared_from_this());
  if (ended_) return;  // the client had gone
  for (Part& part : parts_) part.stream->set_wake(sink_->waker(weak_from_this()));
}

void Generation::on_wake() { pump(); }

void Generation::pump() {
  const auto self = shared_from_this();  // the session may let go of us while we end
  for (size_t i = 0; i < parts_.size(); ++i) {
    // A congested sink leaves the events in the engine's bounded queue; on_drained() comes back.
    while (!ended_ && !sink_->congested()) {
      auto event = parts_[i].stream->try_pop();
      if (!event.has_value()) break;
      handle(i, std::move(*event));
      // One write for all that was there, but no more than the sink's bound at a time.
      if (static_cast<int64_t>(out_.size()) > app_.limits().stream_unsent_bytes_max / 2) {
        sink_->write_stream(out_);
        out_.clear();
      }
    }
  }
  if (!ended_ && !out_.empty()) {
    sink_->write_stream(out_);
    out_.clear();
  }
}

void Generation::handle(size_t part_idx, StreamEvent event) {
  switch (event.kind) {
    case StreamEvent::Kind::kPromptToken:
      format_->add_prompt_token(part_idx,
                                {event.token, event.has_logprobs, std::move(event.logprobs)});
      return;
    case StreamEvent::Kind::kToken:
      on_token(part_idx, std::move(event));
      return;
    case StreamEvent::Kind::kFinished:
      on_finished(part_idx, event);
      return;
    case StreamEvent::Kind::kError: {
      if (event.error.code() == absl::StatusCode::kInternal) {
        log::error("a request failed", {{"error", std::string(event.error.message())}});
      }
      fail(from_status(event.error, model_->engine->retry_after_ms()));
      return;
    }
  }
}

void Generation::on_token(size_t part_idx, StreamEvent event) {
  const int32_t index = event.index;
  const size_t choice_idx =
      part_idx * static_cast<size_t>(spec_.params.n) + static_cast<size_t>(index);
  Choice& choice = choices_[choice_idx];
  if (choice.finished()) return;
  const bool stopped = choice.push(std::move(event));
  if (stopped) model_->engine->cancel(parts_[part_idx].stream->id(), index);
  if (!spec_.params.stream) return;
  if (stopped) {
    send_finish(choice_idx);
  } else if (choice.has_text()) {
    begin_stream();
    format_->append_delta(&out_, choice_idx, choice.take());
  }
}

void Generation::on_finished(size_t part_idx, const StreamEvent& event) {
  Part& part = parts_[part_idx];
  const size_t first = part_idx * static_cast<size_t>(spec_.params.n);
  const size_t choice_idx = first + static_cast<size_t>(event.index);
  Choice& choice = choices_[choice_idx];
  if (!choice.finished()) {
    if (event.finish_reason == FinishReason::kDeadline) {
      fail(from_status(
          absl::DeadlineExceededError("the request took longer than " +
                                      std::to_string(app_.limits().request_deadline_ms) + " ms")));
      return;
    }
    if (event.finish_reason != FinishReason::kStop &&
        event.finish_reason != FinishReason::kLength) {
      fail(unavailable("the request was ended by the server"));
      return;
    }
    choice.finish(event.finish_reason, event.stop_token, event.usage.completion_tokens);
    if (spec_.params.stream) send_finish(choice_idx);
  }
  usage_.completion_tokens += choice.completion_tokens();
  if (--part.open > 0) return;
  usage_.prompt_tokens += event.usage.prompt_tokens;
  usage_.cached_tokens += event.usage.cached_tokens;
  if (--open_parts_ == 0) complete();
}

// Only now, so that a refusal could still be a status: the first token, or the first heartbeat.
void Generation::begin_stream() {
  if (streaming_) return;
  streaming_ = true;
  sink_->begin_stream();
  format_->append_opening(&out_);
}

void Generation::send_finish(size_t choice_idx) {
  begin_stream();
  Choice& choice = choices_[choice_idx];
  format_->append_finish(&out_, choice_idx,
                         {choice.take(), choice.finish_reason(), choice.stop_reason()});
}

void Generation::complete() {
  ended_ = true;
  if (spec_.params.stream) {
    if (spec_.params.include_usage) format_->append_usage(&out_, usage_);
    out_ += kSseDone;
    sink_->write_stream(out_);
    sink_->end_stream(/*close_connection=*/false);
    return;
  }
  std::vector<ChoiceResult> results;
  for (Choice& choice : choices_) {
    results.push_back({choice.take(), choice.finish_reason(), choice.stop_reason()});
  }
  HttpResponse response;
  response.body = format_->whole(results, usage_);
  sink_->respond(std::move(response));
}

void Generation::fail(const ApiError& error) {
  if (ended_) return;
  ended_ = true;
  cancel_all();
  if (!streaming_) {
    sink_->respond(to_response(error));
    return;
  }
  append_event(&out_, error_body(error));
  sink_->write_stream(out_);
  sink_->end_stream(/*close_connection=*/true);
}

void Generation::cancel_all() {
  for (const Part& part : parts_) model_->engine->cancel(part.stream->id());
}

void Generation::on_idle() {
  if (ended_ || !spec_.params.stream) return;
  begin_stream();
  out_ += kSseHeartbeat;
  sink_->write_stream(out_);
  out_.clear();
}

void Generation::on_drained() { pump(); }

void Generation::on_closed() {
  if (ended_) return;
  ended_ = true;
  cancel_all();
}

}  // namespace mole::server
