#include <vector>

#include "kernels/linear/linear.h"
#include "kernels/moe/moe.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {
namespace {

/// One choice: the values between its steps.
struct Choice {
  std::vector<double> gate_up, activation, out;

  Choice(const MoeRefArgs& args, int64_t token, int64_t expert)
      : gate_up(static_cast<std::size_t>(2 * args.expert_width)),
        activation(static_cast<std::size_t>(args.expert_width)),
        out(static_cast<std::size_t>(args.hidden)) {
    const int64_t width = args.expert_width, hidden = args.hidden;
    linear_ref(args.x + token * hidden, args.gate_up + expert * 2 * width * hidden, gate_up.data(),
               1, 2 * width, hidden);
    silu_mul_ref(gate_up.data(), activation.data(), 1, width);
    linear_ref(activation.data(), args.down + expert * hidden * width, out.data(), 1, hidden,
               width);
  }
};

/// One choice's part of all gradients; `dout` is the gradient of its `out`.
void add_gradients(const MoeRefArgs& args, const Choice& choice, const double* dout, int64_t token,
                   int64_t expert, const MoeRefGradients& out) {
  const int64_t width = args.expert_width, hidden = args.hidden;
  const double* gate_up = args.gate_up + expert * 2 * width * hidden;
  const double* down = args.down + expert * hidden * width;
  std::vector<double> dactivation(static_cast<std::size_t>(width));
  for (int64_t d = 0; d < hidden; ++d) {
    for (int64_t f = 0; f < width; ++f) {
      const auto at = static_cast<std::size_t>(f);
      dactivation[at] += dout[d] * down[d * width + f];
      out.ddown[(expert * hidden + d) * width + f] += dout[d] * choice.activation[at];
    }
  }
  std::vector<double> dgate_up(static_cast<std::size_t>(2 * width));
  silu_mul_backward_ref(choice.gate_up.data(), dactivation.data(), dgate_up.data(), 1, width);
  for (int64_t f = 0; f < 2 * width; ++f) {
    const double slope = dgate_up[static_cast<std::size_t>(f)];
    for (int64_t d = 0; d < hidden; ++d) {
      out.dx[token * hidden + d] += slope * gate_up[f * hidden + d];
      out.dgate_up[(expert * 2 * width + f) * hidden + d] += slope * args.x[token * hidden + d];
    }
  }
}

}  // namespace

void moe_ref(const MoeRefArgs& args, double* y) {
  for (int64_t t = 0; t < args.tokens; ++t) {
    double* row = y + t * args.hidden;
    for (int64_t d = 0; d < args.hidden; ++d) row[d] = 0;
    for (int32_t j = 0; j < args.top_k; ++j) {
      const int64_t slot = t * args.top_k + j;
      if (args.expert_ids[slot] < 0) continue;
      const Choice choice(args, t, args.expert_ids[slot]);
      for (int64_t d = 0; d < args.hidden; ++d) {
        row[d] += args.weights[slot] * choice.out[static_cast<std::size_t>(d)];
      }
    }
  }
}

void moe_backward_ref(const MoeRefArgs& args, const double* dy, const MoeRefGradients& out) {
  std::vector<double> dout(static_cast<std::size_t>(args.hidden));
  for (int64_t t = 0; t < args.tokens; ++t) {
    for (int32_t j = 0; j < args.top_k; ++j) {
      const int64_t slot = t * args.top_k + j;
      const int64_t expert = args.expert_ids[slot];
      if (expert < 0) continue;
      const Choice choice(args, t, expert);
      for (std::size_t d = 0; d < dout.size(); ++d) {
        const double slope = dy[t * args.hidden + static_cast<int64_t>(d)];
        out.dweights[slot] += slope * choice.out[d];
        dout[d] = args.weights[slot] * slope;
      }
      add_gradients(args, choice, dout.data(), t, expert, out);
    }
  }
}

}  // namespace mole::kernels
