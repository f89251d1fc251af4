#include "kernels/attention/attention_plan.h"

#include <algorithm>

#include "kernels/attention/attention_check.h"

namespace mole::kernels {
namespace {

// What a row costs beside its keys, in keys: its query, its output, its share of packing.
constexpr int64_t kRowOverhead = 32;
// What reading and packing a key costs, in rows.
constexpr int64_t kKeyOverhead = 64;
// The most tiles, of all key-value heads, that are cut at spans: their queries and states fit the
// second-level cache together.
constexpr int64_t kMostSpanTiles = 16;
// Columns of values that are merged together.
constexpr int64_t kMergeColumns = 64;

int64_t group_of(const AttentionArgs& args) { return args.num_heads / args.num_kv_heads; }
int64_t rows_of(const AttentionArgs& args) { return args.num_queries * group_of(args); }
int64_t dims_of(const AttentionArgs& args) {
  return args.key_dim + args.shared_dim + args.value_dim;
}
int64_t tiles_of(const AttentionArgs& args) { return kernels::tiles_of(rows_of(args)); }

bool cut_at_spans(const AttentionArgs& args) {
  return args.dtype == DType::kBFloat16 && args.num_kv_heads * tiles_of(args) <= kMostSpanTiles;
}

/// Cost of the first `rows` rows of one key-value head: rows times keys times dimensions.
int64_t cost_of_rows(const AttentionArgs& args, int64_t rows) {
  const int64_t group = group_of(args), t = rows / group, rest = rows % group;
  const int64_t first = args.first_position + 1 + kRowOverhead;
  return dims_of(args) * (group * (t * first + t * (t - 1) / 2) + rest * (first + t));
}

/// The most rows of one key-value head, in whole tiles, that cost no more than `cost`.
int64_t rows_within(const AttentionArgs& args, int64_t cost) {
  const int64_t rows = rows_of(args);
  if (cost >= cost_of_rows(args, rows)) return rows;
  int64_t low = 0, high = rows / kTileRows;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (cost_of_rows(args, middle * kTileRows) <= cost) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * kTileRows;
}

int64_t cost_of_span(const AttentionArgs& args) {
  return dims_of(args) * kAttentionSpan * args.num_kv_heads *
         (kKeyOverhead + kTileRows * tiles_of(args));
}

int64_t merge_chunks(const AttentionArgs& args) {
  return (args.value_dim + kMergeColumns - 1) / kMergeColumns;
}

}  // namespace

void AttentionPlan::make(const AttentionArgs* sequences, int64_t num_sequences, int64_t parts) {
  sequences_.clear();
  parts_ = parts;
  total_ = num_merges_ = 0;
  for (int64_t i = 0; i < num_sequences; ++i) {
    const AttentionArgs& args = sequences[i];
    if (args.num_queries == 0) continue;
    Sequence s{&args, total_, 0, 0, 0, 0, 0};
    if (cut_at_spans(args)) {
      s.spans = (args.first_position + args.num_queries + kAttentionSpan - 1) / kAttentionSpan;
      s.cost = s.spans * cost_of_span(args);
    } else {
      s.cost = args.num_kv_heads * cost_of_rows(args, rows_of(args));
    }
    total_ += s.cost;
    sequences_.push_back(s);
  }
  int64_t floats = 0;
  for (Sequence& s : sequences_) {
    if (s.spans == 0) continue;
    find_first_end(s);
    s.states = floats;
    s.merges = num_merges_;
    if (!s.divided()) continue;
    const int64_t tiles = s.args->num_kv_heads * tiles_of(*s.args);
    floats += s.slots() * tiles * state_floats(s.args->value_dim);
    num_merges_ += tiles * merge_chunks(*s.args);
  }
  if (static_cast<int64_t>(states_.size()) < floats) states_.resize(static_cast<size_t>(floats));
}

int64_t AttentionPlan::span_cut(const Sequence& s, int64_t part) const {
  const int64_t span = s.cost / s.spans;
  return std::clamp((cut(part) - s.base + span / 2) / span, int64_t{0}, s.spans);
}

void AttentionPlan::find_first_end(Sequence& s) const {
  // The part in which the sequence begins, or one before it.
  int64_t part = s.base / std::max<int64_t>(1, total_ / parts_);
  part = std::min(part, parts_);
  while (part > 0 && span_cut(s, part) > 0) --part;
  while (span_cut(s, part) == 0) ++part;
  s.first_end = span_cut(s, part);
}

void AttentionPlan::pieces_of(int64_t part, std::vector<SpanPiece>& pieces) {
  for (const Sequence& s : sequences_) {
    // Half a span may be rounded away from where the cost lies.
    const int64_t slack = s.spans > 0 ? s.cost / s.spans : 0;
    if (s.base - slack >= cut(part + 1) || s.base + s.cost + slack <= cut(part)) continue;
    if (s.spans > 0) {
      add_span_piece(s, part, pieces);
    } else {
      add_row_pieces(s, part, pieces);
    }
  }
}

void AttentionPlan::add_span_piece(const Sequence& s, int64_t part,
                                   std::vector<SpanPiece>& pieces) {
  const int64_t begin = span_cut(s, part), end = span_cut(s, part + 1);
  if (begin == end) return;
  SpanPiece piece{s.args, 0, s.args->num_kv_heads, 0, rows_of(*s.args), begin, end, nullptr};
  if (s.divided()) {
    const int64_t tiles = s.args->num_kv_heads * tiles_of(*s.args);
    const int64_t slot = begin == 0 ? 0 : 1 + begin - s.first_end;
    piece.states = states_.data() + s.states + slot * tiles * state_floats(s.args->value_dim);
  }
  pieces.push_back(piece);
}

void AttentionPlan::add_row_pieces(const Sequence& s, int64_t part,
                                   std::vector<SpanPiece>& pieces) const {
  const AttentionArgs& args = *s.args;
  const int64_t from = cut(part), to = cut(part + 1), cost = s.cost / args.num_kv_heads;
  const int64_t spans =
      (args.first_position + args.num_queries + kAttentionSpan - 1) / kAttentionSpan;
  int64_t base = s.base;
  for (int32_t head = 0; head < args.num_kv_heads; ++head, base += cost) {
    if (base >= to || base + cost <= from) continue;
    const int64_t begin = base < from ? rows_within(args, from - base) : 0;
    const int64_t end = base + cost <= to ? rows_of(args) : rows_within(args, to - base);
    if (begin < end) pieces.push_back({&args, head, head + 1, begin, end, 0, spans, nullptr});
  }
}

SpanMerge AttentionPlan::merge(int64_t index) const {
  auto after = [](int64_t i, const Sequence& s) { return i < s.merges; };
  // The last sequence that begins at or before it; those without merges end where they begin.
  auto found = std::upper_bound(sequences_.begin(), sequences_.end(), index, after);
  do --found;
  while (!found->divided());
  const AttentionArgs& args = *found->args;
  const int64_t chunks = merge_chunks(args), tiles = tiles_of(args);
  const int64_t floats = state_floats(args.value_dim);
  const int64_t tile = (index - found->merges) / chunks;
  const int64_t begin = (index - found->merges) % chunks * kMergeColumns;
  return {&args,          static_cast<int32_t>(tile / tiles),
          tile % tiles,   states_.data() + found->states + tile * floats,
          found->slots(), args.num_kv_heads * tiles * floats,
          begin,          std::min(begin + kMergeColumns, round_up32(args.value_dim))};
}

}  // namespace mole::kernels
