#include "runtime/validate.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

#include "runtime/cache_shape.h"
#include "runtime/limits.h"
#include "runtime/swap_limits.h"
#include "runtime/swap_setup.h"

namespace mole::runtime {
namespace {

template <typename T>
Status refuse(std::string_view field, const T& value, std::string_view accepted) {
  std::ostringstream message;
  message << field << " is " << value << "; accepted: " << accepted;
  return absl::InvalidArgumentError(message.str());
}

template <typename T>
Status check_range(std::string_view field, T value, T min, T max) {
  if (value >= min && value <= max) return absl::OkStatus();  // false for NaN
  std::ostringstream accepted;
  accepted << "[" << min << ", " << max << "]";
  return refuse(field, value, accepted.str());
}

Status check_token(std::string_view field, TokenId token, int32_t vocab_size) {
  return check_range<TokenId>(field, token, 0, vocab_size - 1);
}

Status check_numbers(const SamplingParams& sampling, int32_t vocab_size) {
  const auto open_at_zero = [&](std::string_view field, double value, double max) {
    if (value > 0 && value <= max) return absl::OkStatus();
    std::ostringstream accepted;
    accepted << "(0, " << max << "]";
    return refuse(field, value, accepted.str());
  };
  MOLE_RETURN_IF_ERROR(check_range("temperature", sampling.temperature, 0.0, kTemperatureMax));
  MOLE_RETURN_IF_ERROR(
      check_range("top_k", sampling.top_k, 0, std::numeric_limits<int32_t>::max()));
  MOLE_RETURN_IF_ERROR(open_at_zero("top_p", sampling.top_p, 1.0));
  MOLE_RETURN_IF_ERROR(check_range("min_p", sampling.min_p, 0.0, 1.0));
  MOLE_RETURN_IF_ERROR(
      check_range("presence_penalty", sampling.presence_penalty, -kPenaltyMax, kPenaltyMax));
  MOLE_RETURN_IF_ERROR(
      check_range("frequency_penalty", sampling.frequency_penalty, -kPenaltyMax, kPenaltyMax));
  MOLE_RETURN_IF_ERROR(
      open_at_zero("repetition_penalty", sampling.repetition_penalty, kRepetitionPenaltyMax));
  const int32_t top_max = std::min(kTopLogprobsMax, vocab_size);
  MOLE_RETURN_IF_ERROR(check_range("logprobs", sampling.logprobs, -1, top_max));
  return check_range("prompt_logprobs", sampling.prompt_logprobs, -1, top_max);
}

Status check_lists(const SamplingParams& sampling, int32_t vocab_size) {
  MOLE_RETURN_IF_ERROR(check_range<size_t>("logit_bias entries", sampling.logit_bias.size(), 0,
                                           kLogitBiasEntriesMax));
  for (const auto& [token, bias] : sampling.logit_bias) {
    const std::string field = "logit_bias[" + std::to_string(token) + "]";
    MOLE_RETURN_IF_ERROR(check_token("logit_bias token", token, vocab_size));
    MOLE_RETURN_IF_ERROR(
        check_range<double>(field, static_cast<double>(bias), -kLogitBiasMax, kLogitBiasMax));
  }
  MOLE_RETURN_IF_ERROR(check_range<size_t>("stop_token_ids entries", sampling.stop_token_ids.size(),
                                           0, kStopTokenIdsMax));
  for (const TokenId token : sampling.stop_token_ids) {
    MOLE_RETURN_IF_ERROR(check_token("stop_token_ids", token, vocab_size));
  }
  return absl::OkStatus();
}

Status check_lengths(const GenerateRequest& request, int32_t max_model_len) {
  const SamplingParams& sampling = request.sampling;
  if (request.prompt.empty()) return refuse("prompt tokens", 0, "at least 1");
  MOLE_RETURN_IF_ERROR(
      check_range("max_tokens", sampling.max_tokens, 0, std::numeric_limits<int32_t>::max()));
  const int64_t total = static_cast<int64_t>(request.prompt.size()) + int64_t{sampling.max_tokens};
  if (total > max_model_len) {
    std::ostringstream message;
    message << "context_length_exceeded: the prompt has " << request.prompt.size()
            << " tokens and max_tokens is " << sampling.max_tokens << ", together " << total
            << "; accepted: at most " << max_model_len;
    return absl::InvalidArgumentError(message.str());
  }
  return check_range("min_tokens", sampling.min_tokens, 0, sampling.max_tokens);
}

}  // namespace

Status validate(const GenerateRequest& request, const model::ModelInfo& info,
                const EngineOptions& options) {
  MOLE_RETURN_IF_ERROR(check_lengths(request, options.max_model_len));
  for (const TokenId token : request.prompt) {
    MOLE_RETURN_IF_ERROR(check_token("prompt token", token, info.vocab_size));
  }
  MOLE_RETURN_IF_ERROR(check_range("n", request.n, 1, options.max_sequences_per_request));
  MOLE_RETURN_IF_ERROR(
      check_range<size_t>("cache_salt bytes", request.cache_salt.size(), 0, kCacheSaltBytesMax));
  MOLE_RETURN_IF_ERROR(check_numbers(request.sampling, info.vocab_size));
  return check_lists(request.sampling, info.vocab_size);
}

namespace {

Status check_pace(const EngineOptions& options) {
  MOLE_RETURN_IF_ERROR(
      check_range<int64_t>("target-itl-us", options.target_itl_us, 0, kTargetItlUsMax));
  MOLE_RETURN_IF_ERROR(
      check_range("prefill-chunk-min", options.prefill_chunk_min, 1, kPrefillChunkMinMax));
  return check_range("prefill-wave-tokens", options.prefill_wave_tokens, 0, kNumBatchedTokensMax);
}

Status check_speculation(const EngineOptions& options, const model::ModelInfo& info) {
  if (options.speculative_method == SpeculativeMethod::kNone) return absl::OkStatus();
  MOLE_RETURN_IF_ERROR(check_range("num-speculative-tokens", options.num_speculative_tokens, 1,
                                   kSpeculativeTokensMax));
  if (options.speculative_method == SpeculativeMethod::kMtp) {
    if (info.num_mtp_layers > 0) return absl::OkStatus();
    return refuse("speculative-method", "mtp",
                  "none or ngram, as this model has no multi-token-prediction module");
  }
  MOLE_RETURN_IF_ERROR(
      check_range("prompt-lookup-min", options.prompt_lookup_min, 1, kPromptLookupMax));
  return check_range("prompt-lookup-max", options.prompt_lookup_max, options.prompt_lookup_min,
                     kPromptLookupMax);
}

}  // namespace

StatusOr<EngineOptions> resolve_options(EngineOptions options, const model::ModelInfo& info) {
  if (options.max_model_len == 0) options.max_model_len = info.context_length;
  MOLE_RETURN_IF_ERROR(check_range("max-model-len", options.max_model_len, 1, info.context_length));
  MOLE_RETURN_IF_ERROR(check_range("max-num-seqs", options.max_num_seqs, 1, kNumSeqsMax));
  MOLE_RETURN_IF_ERROR(check_range("max-num-batched-tokens", options.max_num_batched_tokens,
                                   options.max_num_seqs, kNumBatchedTokensMax));
  MOLE_RETURN_IF_ERROR(
      check_range("max-queued-requests", options.max_queued_requests, 1, kQueuedRequestsMax));
  MOLE_RETURN_IF_ERROR(check_range<int64_t>("queue-wait-max-us", options.queue_wait_max_us, 0,
                                            std::numeric_limits<int64_t>::max()));
  MOLE_RETURN_IF_ERROR(
      check_range("stream-events-max", options.stream_events_max, 1, kStreamEventsMax));
  MOLE_RETURN_IF_ERROR(check_range("step-history", options.step_history, 0, kStepHistoryMax));
  MOLE_RETURN_IF_ERROR(check_range("max-sequences-per-request", options.max_sequences_per_request,
                                   1, kSequencesPerRequestMax));
  MOLE_RETURN_IF_ERROR(check_pace(options));
  MOLE_RETURN_IF_ERROR(check_speculation(options, info));
  const int64_t blocks_per_sequence =
      (int64_t{options.max_model_len} + model::kBlockTokens - 1) / model::kBlockTokens;
  MOLE_RETURN_IF_ERROR(cache_format(options.kv_cache_dtype, info).status());
  const model::KvCacheShape one = cache_shape(options, info, 1);
  const int32_t spare = options.kv_swap_file.empty() ? 0 : kSwapSpareBlocks;
  const int64_t least = (blocks_per_sequence + spare) * one.total_bytes();
  if (options.kv_cache_bytes == 0) {
    const int64_t wanted = least * options.max_num_seqs;
    options.kv_cache_bytes = std::max(least, std::min(wanted, kDefaultKvCacheBytesMax));
  }
  const int64_t most = one.total_bytes() * (std::numeric_limits<int32_t>::max() - 1);
  MOLE_RETURN_IF_ERROR(
      annotate(check_range<int64_t>("kv-cache-bytes", options.kv_cache_bytes, least, most),
               "one sequence of max-model-len must fit"));
  MOLE_RETURN_IF_ERROR(resolve_swap(&options, info));
  const int64_t cache_tokens = num_cache_blocks(options, info) * model::kBlockTokens;
  if (options.max_queued_tokens == 0) {
    options.max_queued_tokens = kQueuedTokensPerCacheToken * cache_tokens;
  }
  MOLE_RETURN_IF_ERROR(check_range<int64_t>("max-queued-tokens", options.max_queued_tokens, 1,
                                            std::numeric_limits<int64_t>::max()));
  return options;
}

}  // namespace mole::runtime
