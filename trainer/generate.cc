#include "trainer/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/philox.h"
#include "model/kv_cache.h"

namespace mole::trainer {
namespace {

struct Candidate {
  TokenId id;
  double weight;  // not normalised
};

/// The candidates that top_k and top_p leave, most likely first.
std::vector<Candidate> candidates(std::span<const float> logits, const SamplingOptions& options) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t kept = options.top_k > 0
                          ? std::min(logits.size(), static_cast<size_t>(options.top_k))
                          : logits.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](TokenId a, TokenId b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  const double best = static_cast<double>(logits[static_cast<size_t>(order[0])]);
  std::vector<Candidate> out;
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    const double logit = static_cast<double>(logits[static_cast<size_t>(order[i])]);
    out.push_back({order[i], std::exp((logit - best) / options.temperature)});
    sum += out.back().weight;
  }
  double reached = 0;
  size_t nucleus = 0;
  while (nucleus < out.size() && reached < options.top_p * sum) reached += out[nucleus++].weight;
  out.resize(std::max<size_t>(nucleus, 1));
  return out;
}

/// One sequence in a cache of consecutive blocks.
class Sequence {
 public:
  Sequence(model::Model& model, int64_t tokens_max)
      : model_(model),
        blocks_((tokens_max + model::kBlockTokens - 1) / model::kBlockTokens),
        cache_({.num_layers = model.info().num_layers,
                .num_blocks = blocks_,
                .entry_elements = model.info().kv_entry_elements,
                .dtype = model.info().dtype}),
        table_(static_cast<size_t>(blocks_)) {
    std::iota(table_.begin(), table_.end(), 0);
  }

  /// Logits after the last of `ids`, which follow what was given before.
  StatusOr<std::span<const float>> step(std::span<const TokenId> ids, model::AttentionForm form) {
    std::vector<int32_t> positions(ids.size());
    std::iota(positions.begin(), positions.end(), next_);
    next_ += static_cast<int32_t>(ids.size());
    const int32_t starts[] = {0, static_cast<int32_t>(ids.size())};
    const int32_t rows[] = {static_cast<int32_t>(ids.size()) - 1};
    const model::AttentionForm forms[] = {form};
    const model::StepInput input = {.token_ids = ids,
                                    .positions = positions,
                                    .sequence_starts = starts,
                                    .forms = forms,
                                    .block_tables = table_,
                                    .blocks_per_sequence = static_cast<int32_t>(blocks_),
                                    .logit_rows = rows};
    model::StepOutput output;
    MOLE_RETURN_IF_ERROR(model_.forward(input, cache_, &output));
    return output.logits;
  }

 private:
  model::Model& model_;
  int64_t blocks_;
  model::KvCache cache_;
  std::vector<int32_t> table_;
  int32_t next_ = 0;
};

}  // namespace

TokenId sample(std::span<const float> logits, const SamplingOptions& options, int64_t position) {
  if (options.temperature == 0) {
    return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const std::vector<Candidate> left = candidates(logits, options);
  double sum = 0;
  for (const Candidate& candidate : left) sum += candidate.weight;
  double draw = philox_uniform(options.seed, static_cast<uint64_t>(position), 0) * sum;
  for (const Candidate& candidate : left) {
    draw -= candidate.weight;
    if (draw < 0) return candidate.id;
  }
  return left.back().id;  // rounding left a crumb
}

Status generate(model::Model& model, std::vector<TokenId> prompt, const SamplingOptions& options,
                const std::function<void(TokenId)>& use) {
  const int64_t context = model.info().context_length;
  if (prompt.empty() || static_cast<int64_t>(prompt.size()) >= context) {
    return absl::InvalidArgumentError("prompt: " + std::to_string(prompt.size()) +
                                      " tokens, accepted: 1 to " + std::to_string(context - 1));
  }
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t tokens_max = std::min(context, prompt_tokens + options.max_tokens);
  Sequence sequence(model, tokens_max);
  auto form = model::AttentionForm::kExpanded;
  const std::vector<TokenId>& stops = model.info().eos_token_ids;
  for (int64_t position = prompt_tokens; position < tokens_max; ++position) {
    MOLE_ASSIGN_OR_RETURN(const auto logits, sequence.step(prompt, form));
    const TokenId next = sample(logits, options, position);
    if (std::find(stops.begin(), stops.end(), next) != stops.end()) break;
    use(next);
    prompt = {next};
    form = model::AttentionForm::kAbsorbed;
  }
  return absl::OkStatus();
}

}  // namespace mole::trainer
