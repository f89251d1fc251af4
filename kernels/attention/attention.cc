#include "kernels/attention/attention.h"

#include <vector>

#include "kernels/attention/attention_check.h"
#include "kernels/attention/attention_plan.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

void run_part(AttentionPlan& plan, int64_t part) {
  static thread_local std::vector<SpanPiece> pieces;
  pieces.clear();
  plan.pieces_of(part, pieces);
  const auto count = static_cast<int64_t>(pieces.size());
  if (count == 0) return;
  const Isa set = isa();
  if (pieces[0].args->dtype == DType::kBFloat16) {
    if (set == Isa::kAmx) return amx::attention_spans(pieces.data(), count);
    return set == Isa::kAvx512 ? avx512::attention_spans(pieces.data(), count)
                               : avx2::attention_spans(pieces.data(), count);
  }
  const auto rows = set >= Isa::kAvx512 ? avx512::attention_rows : avx2::attention_rows;
  for (const SpanPiece& piece : pieces) {
    rows(*piece.args, piece.head_begin, piece.row_begin, piece.row_end);
  }
}

void run_merges(const AttentionPlan& plan, int64_t begin, int64_t end) {
  const auto merge = isa() >= Isa::kAvx512 ? avx512::attention_merge : avx2::attention_merge;
  for (int64_t i = begin; i < end; ++i) merge(plan.merge(i));
}

/// float32 sequences over compressed entries, which are first decoded to dense rows.
class DecodedEntries {
 public:
  const AttentionArgs* decode(const AttentionArgs* sequences, int64_t num_sequences,
                              ThreadTeam& team) {
    size_t floats = 0, blocks = 0;
    args_.assign(sequences, sequences + num_sequences);
    for (const AttentionArgs& args : args_) {
      floats += static_cast<size_t>(context(args) * args.key_dim);
      blocks += static_cast<size_t>((context(args) + kAttentionBlock - 1) / kAttentionBlock);
    }
    if (rows_.size() < floats) rows_.resize(floats);
    blocks_.resize(blocks);
    reads_.clear();
    float* row = rows_.data();
    const void** block = blocks_.data();
    for (AttentionArgs& args : args_) {
      const KvEntryShape entry{args.key_format, args.dtype, args.value_dim,
                               args.key_dim - args.value_dim};
      reads_.push_back({entry, args.key_blocks, 0, context(args), args.key_dim, row, args.key_dim});
      args.key_format = KvFormat::kModel;
      args.key_blocks = args.value_blocks = block;
      args.key_row_stride = args.value_row_stride = args.key_dim;
      for (int64_t at = 0; at < context(args); at += kAttentionBlock) {
        *block++ = row + at * args.key_dim;
      }
      row += context(args) * args.key_dim;
    }
    kv_read(reads_.data(), num_sequences, team);
    return args_.data();
  }

 private:
  static int64_t context(const AttentionArgs& args) {
    return args.num_queries == 0 ? 0 : args.first_position + args.num_queries;
  }
  std::vector<AttentionArgs> args_;
  std::vector<KvReadArgs> reads_;
  std::vector<const void*> blocks_;
  std::vector<float> rows_;
};

}  // namespace

void attention(const AttentionArgs* sequences, int64_t num_sequences, ThreadTeam& team) {
  if (num_sequences == 0) return;
  const DType dtype = sequences[0].dtype;
  const KvFormat format = sequences[0].key_format;
  for (int64_t s = 0; s < num_sequences; ++s) {
    check_attention(sequences[s]);
    MOLE_CHECK(sequences[s].dtype == dtype && sequences[s].key_format == format);
  }
  // The caller's, so that all workers can reach them; they grow to the largest step and stay.
  static thread_local AttentionPlan plan;
  static thread_local DecodedEntries decoded;
  if (dtype == DType::kFloat32 && format != KvFormat::kModel) {
    sequences = decoded.decode(sequences, num_sequences, team);
  }
  const int64_t parts = team.num_threads();
  plan.make(sequences, num_sequences, parts);
  if (plan.empty()) return;
  auto part = [&own = plan](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run_part(own, i);
  };
  team.parallel_for(parts, 1, part);
  auto merge = [&own = plan](int64_t begin, int64_t end) { run_merges(own, begin, end); };
  team.parallel_for(plan.num_merges(), 1, merge);
}

}  // namespace mole::kernels
