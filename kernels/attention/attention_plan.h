// How the sequences of a step are cut into pieces of even cost for threads. Results don't depend on
// it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/attention_spans.h"

namespace mole::kernels {

class AttentionPlan {
 public:
  /// Plans `parts` parts of the sequences, which must outlive the use of the plan. Keeps its memory
  /// between calls.
  void make(const AttentionArgs* sequences, int64_t num_sequences, int64_t parts);

  bool empty() const { return total_ == 0; }
  /// The pieces of part `part`, appended. Float32 pieces have all spans of their rows.
  void pieces_of(int64_t part, std::vector<SpanPiece>& pieces);

  /// Tiles and columns of sequences that are cut at spans: what is to be merged after all pieces
  /// are done.
  int64_t num_merges() const { return num_merges_; }
  SpanMerge merge(int64_t index) const;

 private:
  struct Sequence {
    const AttentionArgs* args;
    int64_t base, cost;      // of all its heads, in the order of sequences
    int64_t spans;           // 0: cut at rows
    int64_t first_end;       // spans of the piece that begins with the first
    int64_t states, merges;  // where its states and its merges begin
    int64_t slots() const { return 1 + spans - first_end; }
    bool divided() const { return spans > 0 && first_end < spans; }
  };

  int64_t cut(int64_t part) const { return total_ * part / parts_; }
  int64_t span_cut(const Sequence& s, int64_t part) const;
  void find_first_end(Sequence& s) const;
  void add_span_piece(const Sequence& s, int64_t part, std::vector<SpanPiece>& pieces);
  void add_row_pieces(const Sequence& s, int64_t part, std::vector<SpanPiece>& pieces) const;

  std::vector<Sequence> sequences_;
  std::vector<float> states_;
  int64_t parts_ = 1, total_ = 0, num_merges_ = 0;
};

}  // namespace mole::kernels
