#include "server/choice.h"

#include <algorithm>
#include <utility>

namespace mole::server {

Choice::Choice(const std::shared_ptr<const text::Tokenizer>& tokenizer,
               const GenerationParams& params, std::optional<TokenId> token_before)
    : params_(params),
      detokenizer_(tokenizer, params.skip_special_tokens),
      stop_matcher_(params.stop, params.include_stop_str_in_output) {
  // A tokenizer that drops the space of a text's first word must not drop it here.
  if (token_before.has_value()) detokenizer_.push(*token_before);
}

bool Choice::push_text(const std::string& text) {
  auto result = stop_matcher_.push(text);
  delta_.text += result.text;
  if (!result.stopped) return false;
  finish_reason_ = "stop";
  stop_reason_ = std::move(result.stop);
  return true;
}

bool Choice::push(runtime::StreamEvent event) {
  if (finished()) return false;  // on its way when the stop string was found
  ++completion_tokens_;
  const std::string text = detokenizer_.push(event.token);
  delta_.tokens.push_back({event.token, event.has_logprobs, std::move(event.logprobs)});
  return push_text(text);
}

void Choice::finish(runtime::FinishReason reason, TokenId stop_token, int32_t completion_tokens) {
  if (finished()) return;
  completion_tokens_ = completion_tokens;
  const auto& stops = params_.sampling.stop_token_ids;
  const bool asked_for = std::find(stops.begin(), stops.end(), stop_token) != stops.end();
  std::string text;
  if (reason == runtime::FinishReason::kStop && asked_for && params_.include_stop_str_in_output) {
    text = detokenizer_.push(stop_token);
  }
  text += detokenizer_.finish();
  if (push_text(text)) return;
  delta_.text += stop_matcher_.finish();
  finish_reason_ = reason == runtime::FinishReason::kLength ? "length" : "stop";
  if (asked_for) stop_reason_ = stop_token;
}

}  // namespace mole::server
