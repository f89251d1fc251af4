#include "kernels/adamw/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/adamw/adamw_impl.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr int64_t kPart = 4096;

AdamWScalars scalars_of(const AdamWArgs& args) {
  const auto step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const double correction2 = 1 - std::pow(args.beta2, step);
  AdamWScalars out;
  out.decay = static_cast<float>(1 - args.learning_rate * args.weight_decay);
  out.mix1 = static_cast<float>(1 - args.beta1);
  out.beta2 = static_cast<float>(args.beta2);
  out.mix2 = static_cast<float>(1 - args.beta2);
  out.step_size = static_cast<float>(args.learning_rate / correction1);
  out.root_correction2 = static_cast<float>(std::sqrt(correction2));
  out.eps = static_cast<float>(args.eps);
  out.gradient_scale = static_cast<float>(args.gradient_scale);
  return out;
}

}  // namespace

void adamw(const AdamWArgs& args, ThreadTeam& team) {
  MOLE_CHECK_GE(args.count, 0);
  MOLE_CHECK_GE(args.step, 1);
  const AdamWScalars scalars = scalars_of(args);
  const auto span_of = isa() == Isa::kAvx2 ? avx2::adamw_span : avx512::adamw_span;
  auto part = [&](int64_t begin, int64_t end) {
    span_of({args.parameter + begin, args.gradient + begin, args.moment1 + begin,
             args.moment2 + begin, end - begin},
            scalars);
  };
  team.parallel_for(args.count, kPart, part);
}

double sum_of_squares(const float* x, int64_t count, ThreadTeam& team) {
  MOLE_CHECK_GE(count, 0);
  std::vector<double> sums(static_cast<std::size_t>((count + kPart - 1) / kPart));
  const auto sum_part =
      isa() == Isa::kAvx2 ? avx2::sum_of_squares_part : avx512::sum_of_squares_part;
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kPart;
      sums[static_cast<std::size_t>(i)] = sum_part(x + first, std::min(kPart, count - first));
    }
  };
  team.parallel_for(static_cast<int64_t>(sums.size()), 4, part);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace mole::kernels
