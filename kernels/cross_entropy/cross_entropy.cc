#include "kernels/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cross_entropy/cross_entropy_rows.h"

namespace mole::kernels {
namespace {

bool wide() { return isa() >= Isa::kAvx512; }

double logsumexp_of(RowSum row) { return static_cast<double>(row.largest) + std::log(row.sum); }

void entropy_row(const CrossEntropyArgs& args, int64_t r, bool use_wide) {
  const float* logits = args.logits + r * args.vocab;
  const TokenId target = args.targets[r];
  float* dlogits = args.dlogits == nullptr ? nullptr : args.dlogits + r * args.vocab;
  if (target == -1) {
    args.log_probs[r] = 0.0f;
    if (dlogits != nullptr) std::fill_n(dlogits, args.vocab, 0.0f);
    return;
  }
  MOLE_CHECK_GE(target, 0);
  MOLE_CHECK_LT(target, args.vocab);
  const RowSum row = (use_wide ? avx512::row_sum : avx2::row_sum)(logits, args.vocab);
  args.log_probs[r] = log_probability(logits[target], logsumexp_of(row));
  if (dlogits == nullptr) return;
  (use_wide ? avx512::softmax_gradient_row : avx2::softmax_gradient_row)(logits, args.vocab, row,
                                                                         args.dloss_scale, dlogits);
  dlogits[target] -= args.dloss_scale;
}

}  // namespace

void row_logsumexp(const float* logits, int64_t rows, int64_t vocab, int64_t stride,
                   double* logsumexp, ThreadTeam& team) {
  MOLE_CHECK_GE(rows, 0);
  MOLE_CHECK_GT(vocab, 0);
  MOLE_CHECK(rows <= 1 || stride >= vocab);
  auto body = [=, kernel = wide() ? avx512::row_sum : avx2::row_sum](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      logsumexp[r] = logsumexp_of(kernel(logits + r * stride, vocab));
    }
  };
  team.parallel_for(rows, 1, body);
}

void cross_entropy(const CrossEntropyArgs& args, ThreadTeam& team) {
  MOLE_CHECK_GE(args.rows, 0);
  if (args.rows == 0) return;
  MOLE_CHECK_GT(args.vocab, 0);
  MOLE_CHECK(args.logits != nullptr && args.targets != nullptr && args.log_probs != nullptr);
  auto body = [&args, use_wide = wide()](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) entropy_row(args, r, use_wide);
  };
  team.parallel_for(args.rows, 1, body);
}

}  // namespace mole::kernels
