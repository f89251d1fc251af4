#include "kernels/router/router.h"

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/router/router_rows.h"

namespace mole::kernels {
namespace {

// The loader has refused a wrong config.json by now, with the key's name; these are for our own
// callers.
void check(const RouterArgs& args) {
  const RouterConfig& config = args.config;
  MOLE_CHECK_GT(config.num_experts, 0);
  MOLE_CHECK_LE(config.num_experts, kMaxRouterExperts);
  MOLE_CHECK_GT(config.num_groups, 0);
  MOLE_CHECK_EQ(config.num_experts % config.num_groups, 0);
  const int32_t group_size = config.num_experts / config.num_groups;
  MOLE_CHECK_GT(config.topk_groups, 0);
  MOLE_CHECK_LE(config.topk_groups, config.num_groups);
  MOLE_CHECK_GT(config.top_k, 0);
  MOLE_CHECK_LE(config.top_k, group_size * config.topk_groups);
  MOLE_CHECK(config.num_groups == 1 || config.group_score == RouterGroupScore::kGroupMax ||
             group_size >= 2);
  MOLE_CHECK_GE(args.tokens, 0);
}

}  // namespace

void router(const RouterArgs& args, ThreadTeam& team) {
  check(args);
  if (args.tokens == 0) return;
  MOLE_CHECK(args.logits != nullptr && args.expert_ids != nullptr && args.weights != nullptr);
  auto rows = [&args, kernel = isa() >= Isa::kAvx512 ? avx512::router_rows : avx2::router_rows](
                  int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.tokens, 1, rows);
}

void router_backward(const RouterBackwardArgs& args, ThreadTeam& team) {
  check(args.forward);
  if (args.forward.tokens == 0) return;
  MOLE_CHECK(args.forward.expert_ids != nullptr && args.forward.scores != nullptr);
  MOLE_CHECK(args.dweights != nullptr && args.dlogits != nullptr);
  auto rows = [&args, kernel = isa() >= Isa::kAvx512 ? avx512::router_backward_rows
                                                     : avx2::router_backward_rows](
                  int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.forward.tokens, 1, rows);
}

}  // namespace mole::kernels
