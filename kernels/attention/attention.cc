#include "kernels/attention/attention.h"

#include "kernels/attention/attention_check.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

// What a row costs beside its keys, in keys: its query, its output, its share of packing.
constexpr int64_t kRowOverhead = 32;

/// Cost of the first `rows` rows of one key-value head, in row-times-key units.
int64_t cost_of_rows(const AttentionArgs& args, int64_t rows) {
  const int64_t group = attention_group(args), t = rows / group, rest = rows % group;
  const int64_t first = args.first_position + 1 + kRowOverhead;
  return group * (t * first + t * (t - 1) / 2) + rest * (first + t);
}

/// The most rows of one key-value head that cost no more than `cost`.
int64_t rows_within(const AttentionArgs& args, int64_t cost) {
  int64_t low = 0, high = args.num_queries * attention_group(args);
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (cost_of_rows(args, middle) <= cost) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/// Calls kernel(sequence, kv_head, begin, end) for the rows whose cost lies in [from, to) of the
/// costs of all sequences and heads laid end to end. Which thread does a row doesn't change its
/// bits.
template <typename Kernel>
void visit(const AttentionArgs* sequences, int64_t num_sequences, int64_t from, int64_t to,
           Kernel kernel) {
  int64_t base = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const AttentionArgs& args = sequences[s];
    const int64_t rows = args.num_queries * attention_group(args), cost = cost_of_rows(args, rows);
    for (int32_t head = 0; head < args.num_kv_heads; ++head, base += cost) {
      if (base >= to) return;
      if (base + cost <= from) continue;
      const int64_t begin = base < from ? rows_within(args, from - base) : 0;
      const int64_t end = base + cost <= to ? rows : rows_within(args, to - base);
      if (begin < end) kernel(args, head, begin, end);
    }
  }
}

}  // namespace

void attention(const AttentionArgs* sequences, int64_t num_sequences, ThreadTeam& team) {
  int64_t total = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    check_attention(sequences[s]);
    const int64_t rows = sequences[s].num_queries * attention_group(sequences[s]);
    total += sequences[s].num_kv_heads * cost_of_rows(sequences[s], rows);
  }
  if (total == 0) return;
  const auto kernel = isa() >= Isa::kAvx512 ? avx512::attention_rows : avx2::attention_rows;
  const int64_t threads = team.num_threads();
  auto part = [=](int64_t begin, int64_t end) {
    visit(sequences, num_sequences, total * begin / threads, total * end / threads, kernel);
  };
  team.parallel_for(threads, 1, part);
}

}  // namespace mole::kernels
