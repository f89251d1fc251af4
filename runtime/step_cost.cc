#include "runtime/step_cost.h"

#include <cmath>
#include <numeric>

namespace mole::runtime {
namespace {

// Row i of positions first, first + 1, … attends to first + i + 1 entries.
double pairs_of(int32_t first, int32_t count) {
  const double rows = count;
  return rows * first + rows * (rows + 1) / 2;
}

}  // namespace

void WaveWork::add(int32_t first, int32_t count) {
  rows += count;
  context += first + count;
  pairs += pairs_of(first, count);
}

void StepWork::add(model::AttentionForm form, int32_t first, int32_t count) {
  if (form == model::AttentionForm::kAbsorbed) {
    absorbed_rows += count;
    absorbed_pairs += pairs_of(first, count);
  } else {
    expanded_rows += count;
    expanded_context += first + count;
    expanded_pairs += pairs_of(first, count);
  }
}

void StepWork::grow_expanded(int32_t end, int32_t more) {
  expanded_rows += more;
  expanded_context += more;
  expanded_pairs += pairs_of(end, more);
}

StepFactors StepWork::factors(double expert_share) const {
  const int32_t rows = absorbed_rows + expanded_rows;
  // Rows choose their experts as if by chance: 1 - (1 - share)^rows of the experts are read.
  const auto read = [&](int32_t all) {
    return expert_share > 0 ? 1 - std::pow(1 - expert_share, all) : 0.0;
  };
  return {empty() ? 0.0 : 1.0,
          (1 - wave.share) * read(rows) + wave.share * read(rows + wave.rows),
          static_cast<double>(absorbed_rows),
          absorbed_pairs,
          expanded_rows + wave.share * wave.rows,
          expanded_context + wave.share * wave.context,
          expanded_pairs + wave.share * wave.pairs,
          static_cast<double>(module_drafts)};
}

double StepCost::predict(const StepWork& work) const {
  const StepFactors factors = work.factors(expert_share);
  return std::inner_product(factors.begin(), factors.end(), seconds.begin(), 0.0);
}

}  // namespace mole::runtime
