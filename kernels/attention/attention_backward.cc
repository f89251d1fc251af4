#include <cstddef>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_check.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

void check(const AttentionBackwardArgs& args) {
  check_attention(args.forward);
  MOLE_CHECK_EQ(args.forward.first_position, 0);
  if (args.forward.num_queries == 0) return;
  MOLE_CHECK(args.forward.logsumexp != nullptr && args.dout != nullptr);
  MOLE_CHECK(args.dq != nullptr && args.dk != nullptr && args.dv != nullptr);
  MOLE_CHECK(args.forward.shared_dim == 0 ||
             (args.dq_shared != nullptr && args.dk_shared != nullptr));
}

/// Work of one key-value head, in row-times-key units.
int64_t cost(const AttentionArgs& args) {
  return attention_group(args) * args.num_queries * (args.num_queries + kAttentionBlock);
}

/// Floats of a sequence's dk_shared, and whether heads need parts of their own to be summed after.
int64_t shared_floats(const AttentionArgs& args) { return args.num_queries * args.shared_dim; }
bool has_parts(const AttentionArgs& args) { return args.num_kv_heads > 1 && args.shared_dim > 0; }

/// dk_shared of all sequences, summed over key-value heads in ascending order.
void add_parts(const AttentionBackwardArgs* sequences, int64_t num_sequences, const float* parts,
               ThreadTeam& team) {
  for (int64_t s = 0; s < num_sequences; ++s) {
    const AttentionArgs& args = sequences[s].forward;
    if (!has_parts(args)) continue;
    const int64_t floats = shared_floats(args);
    auto add = [out = sequences[s].dk_shared, heads = args.num_kv_heads, parts, floats](
                   int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float sum = parts[i];
        for (int32_t head = 1; head < heads; ++head) sum += parts[head * floats + i];
        out[i] = sum;
      }
    };
    team.parallel_for(floats, 1024, add);
    parts += args.num_kv_heads * floats;
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArgs* sequences, int64_t num_sequences,
                        ThreadTeam& team) {
  int64_t total = 0, part_floats = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    check(sequences[s]);
    const AttentionArgs& args = sequences[s].forward;
    total += args.num_kv_heads * cost(args);
    if (has_parts(args)) part_floats += args.num_kv_heads * shared_floats(args);
  }
  if (total == 0) return;
  // The caller's, so that all workers can reach it; grows to the largest step and stays.
  static thread_local std::vector<float> parts;
  if (static_cast<int64_t>(parts.size()) < part_floats) {
    parts.resize(static_cast<size_t>(part_floats));
  }
  const auto kernel =
      isa() >= Isa::kAvx512 ? avx512::attention_backward_head : avx2::attention_backward_head;
  const int64_t threads = team.num_threads();
  // A head goes to the thread in whose share of the cost it begins.
  auto share = [=, part = parts.data()](int64_t begin, int64_t end) {
    const int64_t from = total * begin / threads, to = total * end / threads;
    int64_t base = 0;
    float* next = part;
    for (int64_t s = 0; s < num_sequences; ++s) {
      const AttentionArgs& args = sequences[s].forward;
      for (int32_t head = 0; head < args.num_kv_heads; ++head) {
        float* dk_shared = has_parts(args) ? next : sequences[s].dk_shared;
        if (has_parts(args)) next += shared_floats(args);
        if (args.num_queries > 0 && base >= from && base < to) {
          kernel(sequences[s], head, dk_shared);
        }
        base += cost(args);
      }
    }
  };
  team.parallel_for(threads, 1, share);
  add_parts(sequences, num_sequences, parts.data(), team);
}

}  // namespace mole::kernels
