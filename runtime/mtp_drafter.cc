#include "runtime/mtp_drafter.h"

#include <algorithm>

#include "runtime/limits.h"
#include "runtime/sample_context.h"

namespace mole::runtime {

using model::AttentionForm;
using model::DraftSource;
using model::kBlockTokens;

int32_t drafts_wanted(const Sequence& sequence, int32_t most, double chance_min) {
  const int32_t left = sequence.request->request.sampling.max_tokens - sequence.num_generated() - 1;
  const bool probe = sequence.draft_record.probe_due(sequence.num_generated());
  double chance = 1;
  int32_t wanted = 0;
  for (; wanted < std::min(most, left); ++wanted) {
    chance *= sequence.draft_record.rate();
    if (chance < chance_min && !(probe && wanted < kProbeDrafts)) break;
  }
  return wanted;
}

double least_draft_chance(const StepPlan& plan, const StepCost& cost) {
  const double seconds = cost.predict(plan.work);
  if (!cost.known || seconds <= 0) return kDraftChanceMin;
  const double rows = std::max(plan.num_decodes, 1);
  return std::clamp(cost.seconds.back() * rows / seconds, kDraftChanceLeast, 1.0);
}

MtpDrafter::MtpDrafter(const BatchBuilderOptions& options, int32_t drafts_max)
    : drafts_max_(drafts_max) {
  const auto tokens = static_cast<size_t>(options.max_tokens);
  const auto sequences = static_cast<size_t>(options.max_sequences);
  active_.reserve(sequences);
  token_ids_.reserve(tokens);
  positions_.reserve(tokens);
  rows_.reserve(tokens);
  sequence_starts_.reserve(sequences + 1);
  block_tables_.reserve(sequences * static_cast<size_t>(options.max_blocks_per_sequence));
  logit_rows_.reserve(sequences);
  forms_.reserve(sequences);
  sequences_.reserve(sequences);
}

StatusOr<int32_t> MtpDrafter::draft(const StepPlan& plan, double chance_min, model::Model& model,
                                    model::KvCache& cache, StepSampler& sampler) {
  begin();
  add_step_rows(plan, chance_min);
  int32_t drafted = 0;
  DraftSource source = DraftSource::kForward;
  while (!token_ids_.empty()) {
    drafted += static_cast<int32_t>(logit_rows_.size());
    MOLE_ASSIGN_OR_RETURN(const auto logits, pass(source, model, cache));
    take_drafts(logits, model.info(), sampler);
    begin();
    add_draft_rows();
    source = DraftSource::kDraft;
  }
  return drafted;
}

void MtpDrafter::begin() {
  token_ids_.clear();
  positions_.clear();
  rows_.clear();
  sequence_starts_.assign(1, 0);
  logit_rows_.clear();
  forms_.clear();
  sequences_.clear();
}

// Every position that the step computed and whose next token is known by now.
void MtpDrafter::add_step_rows(const StepPlan& plan, double chance_min) {
  active_.clear();
  int32_t next_row = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    const int32_t first_row = next_row;
    next_row += chunk.count;
    Sequence* sequence = chunk.sequence;
    if (sequence->state != SequenceState::kRunning || !chunk.ends) continue;
    sequence->drafts.clear();
    for (int32_t position = chunk.first; position < sequence->num_computed; ++position) {
      add_row(sequence->tokens[static_cast<size_t>(position) + 1], position,
              first_row + position - chunk.first);
    }
    end_sequence(*sequence, chunk.form);
    const int32_t wanted =
        sequence->decoding() ? drafts_wanted(*sequence, drafts_max_, chance_min) : 0;
    if (wanted == 0) continue;
    logit_rows_.push_back(static_cast<int32_t>(rows_.size()) - 1);
    active_.push_back({sequence, logit_rows_.back(), wanted});
  }
}

void MtpDrafter::add_row(TokenId token, int32_t position, int32_t source_row) {
  token_ids_.push_back(token);
  positions_.push_back(position);
  rows_.push_back(source_row);
}

void MtpDrafter::end_sequence(const Sequence& sequence, AttentionForm form) {
  sequence_starts_.push_back(static_cast<int32_t>(token_ids_.size()));
  forms_.push_back(form);
  sequences_.push_back(&sequence);
}

StatusOr<std::span<const float>> MtpDrafter::pass(DraftSource source, model::Model& model,
                                                  model::KvCache& cache) {
  size_t width = 1;
  for (const Sequence* sequence : sequences_) width = std::max(width, sequence->blocks.size());
  block_tables_.assign(sequences_.size() * width, -1);
  for (size_t i = 0; i < sequences_.size(); ++i) {
    std::transform(sequences_[i]->blocks.begin(), sequences_[i]->blocks.end(),
                   block_tables_.begin() + static_cast<ptrdiff_t>(i * width),
                   [](BlockId block) { return block.value; });
  }
  const model::DraftInput input{.step = {.token_ids = token_ids_,
                                         .positions = positions_,
                                         .sequence_starts = sequence_starts_,
                                         .forms = forms_,
                                         .block_tables = block_tables_,
                                         .blocks_per_sequence = static_cast<int32_t>(width),
                                         .logit_rows = logit_rows_},
                                .rows = rows_,
                                .source = source};
  model::StepOutput output;
  MOLE_RETURN_IF_ERROR(annotate(model.draft(input, cache, &output), "drafting failed"));
  return output.logits;
}

// One more draft for each that wants it. A row that can't be sampled ends the sequence's drafts.
void MtpDrafter::take_drafts(std::span<const float> logits, const model::ModelInfo& info,
                             StepSampler& sampler) {
  const auto vocab = static_cast<size_t>(info.vocab_size);
  sampler.begin();
  for (size_t i = 0; i < active_.size(); ++i) {
    const Sequence& sequence = *active_[i].sequence;
    const auto drafted = static_cast<int32_t>(sequence.drafts.size());
    sampler.add(static_cast<int32_t>(i),
                {.logits = logits.subspan(i * vocab, vocab),
                 .context = sample_context(sequence, info.eos_token_ids, drafted)});
  }
  sampler.run();
  for (size_t i = 0; i < active_.size(); ++i) {
    Active& active = active_[i];
    Sequence& sequence = *active.sequence;
    const auto ahead = static_cast<int32_t>(sequence.drafts.size()) + 1;
    const StatusOr<TokenId>& token = sampler.find(static_cast<int32_t>(i))->token;
    const bool room = sequence.num_computed + ahead <=
                      static_cast<int32_t>(sequence.blocks.size()) * kBlockTokens;
    if (token.ok()) sequence.drafts.push_back(*token);
    if (!token.ok() || ahead == active.wanted || !room) active.wanted = 0;
  }
  std::erase_if(active_, [](const Active& active) { return active.wanted == 0; });
}

// The module once more, behind its last draft: position p + 1 after p.
void MtpDrafter::add_draft_rows() {
  for (Active& active : active_) {
    const Sequence& sequence = *active.sequence;
    const auto drafted = static_cast<int32_t>(sequence.drafts.size());
    add_row(sequence.drafts.back(), sequence.num_computed - 1 + drafted, active.row);
    end_sequence(sequence, AttentionForm::kAbsorbed);
    active.row = static_cast<int32_t>(rows_.size()) - 1;
    logit_rows_.push_back(active.row);
  }
}

}  // namespace mole::runtime
