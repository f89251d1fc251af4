// The forward where experts are large: all threads share the weights of all touched experts, split
// by the time that reading or multiplying them takes, so that every weight is read once a call
// whoever its tokens are. Two regions: gate, up and activation; down and the sum over choices.
#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/moe/moe_impl.h"

namespace mole::kernels {
namespace {

// Activations are made in runs of this many columns: one tile of down's x.
constexpr int64_t kColumns = kBlockK;
// Gate and up of some runs wait for the activation in the second-level cache; or of more, where
// every call of linear_part has to prepare x.
constexpr int64_t kWaitingFloats = int64_t{64} << 10, kWaitingFloatsUnprepared = int64_t{1} << 20;
// While a tile of weights comes from memory, this many rows are multiplied with it; more take
// longer.
constexpr int64_t kFreeRows = 128;

/// Panels that hold columns [begin, end) of a product.
struct Panels {
  int64_t begin, end;
  Panels(int64_t first, int64_t last) : begin(first / kPanel), end(ceil_div(last, kPanel)) {}
  int64_t columns() const { return (end - begin) * kPanel; }
};

class Together {
 public:
  Together(const MoeArgs& args, MoeWorkspace& space, ThreadTeam& team)
      : args_(args), space_(space), routing_(space.routing), team_(team) {
    width_ = args.expert_width;
    runs_ = ceil_div(width_, kColumns);
    element_ = dtype_bytes(args.dtype);
    down_ = space.down.reserve_as<float>(args.tokens * args.top_k * args.hidden);
    place_products();
  }

  void run() {
    // Groups of blocks whose packed x finds room; a decode step is one group.
    const auto blocks = static_cast<int64_t>(routing_.blocks.size());
    for (int64_t first = 0; first < blocks;) {
      int64_t last = first, bytes = 0;
      while (last < blocks) {
        bytes += shared_bytes(up_[static_cast<std::size_t>(last)]);
        if (last > first && bytes > kSharedBytes) break;
        ++last;
      }
      gate_and_up(first, last);
      first = last;
    }
    down_and_combine();
  }

 private:
  using Block = Routing::Block;

  /// Both products of every block; y of the first is set where it is computed.
  void place_products() {
    std::vector<LinearArgs>&up = space_.up, &down = space_.products;
    up.clear();
    down.clear();
    int64_t elements = 0;
    for (const Block& block : routing_.blocks) {
      const ExpertWeights& expert = args_.experts[static_cast<std::size_t>(block.expert)];
      LinearArgs product{.x = args_.x, .rows = block.rows, .x_stride = args_.hidden};
      product.x_rows = routing_.tokens.data() + block.first;
      product.weight = &expert.gate_up;
      up.push_back(product);
      product = LinearArgs{.rows = block.rows, .x_stride = padded_k(width_)};
      product.weight = &expert.down;
      product.y = down_;
      product.y_stride = args_.hidden;
      product.y_rows = routing_.slots.data() + block.first;
      down.push_back(product);
      elements += tiled_rows(block.rows) * padded_k(width_);
    }
    std::byte* activation = space_.activation.reserve(elements * element_);
    for (LinearArgs& product : down) {
      product.x = activation;
      if (uses_tiles(product)) product.x_tiles = reinterpret_cast<BFloat16*>(activation);
      activation += tiled_rows(product.rows) * padded_k(width_) * element_;
    }
    up_ = up;
    down_products_ = down;
  }

  void gate_and_up(int64_t first_block, int64_t last_block) {
    const auto count = static_cast<std::size_t>(last_block - first_block);
    pack_all_rows({space_.up.data() + first_block, count}, team_);
    int64_t total = 0;
    for (int64_t b = first_block; b < last_block; ++b) total += runs_ * work_of(b);
    auto part = [&](int64_t begin, int64_t end) {
      int64_t before = 0;
      for (int64_t b = first_block; b < last_block && before < end; ++b) {
        // A run belongs to the thread in whose range of work it begins.
        const int64_t work = work_of(b);
        const int64_t from = std::max(ceil_div(begin - before, work), int64_t{0});
        const int64_t to = std::min(ceil_div(end - before, work), runs_);
        if (from < to) activate_runs(b, from, to);
        before += runs_ * work;
      }
    };
    team_.parallel_for(total, 1, part);
  }

  int64_t work_of(int64_t block) const {
    return std::max(kFreeRows, routing_.blocks[static_cast<std::size_t>(block)].rows);
  }

  /// Runs [begin, end) of a block's activation.
  void activate_runs(int64_t block, int64_t begin, int64_t end) const {
    const LinearArgs& product = up_[static_cast<std::size_t>(block)];
    if (in_pairs(block)) return activate_pairs(block, begin, end);
    const bool prepared = product.x_tiles != nullptr || args_.dtype == DType::kFloat32;
    const int64_t floats_most = prepared ? kWaitingFloats : kWaitingFloatsUnprepared;
    const int64_t most = std::max<int64_t>(1, floats_most / (product.rows * 2 * kColumns));
    // A run's columns may begin inside a panel: one panel more than they fill.
    const int64_t floats = product.rows * (std::min(most, end - begin) * kColumns + kPanel);
    auto* gate = reinterpret_cast<float*>(thread_scratch(2 * floats * int64_t{sizeof(float)}));
    float* up = gate + floats;
    for (int64_t run = begin; run < end; run += most) {
      const int64_t last = std::min(run + most, end);
      const int64_t columns = std::min(last * kColumns, width_);
      const Panels gates(run * kColumns, columns);
      const Panels ups(width_ + run * kColumns, width_ + columns);
      compute(product, gates, gate, panel_at(product, ups.begin));
      compute(product, ups, up, last < end ? panel_at(product, gates.end) : next_block(block));
      for (int64_t row = 0; row < product.rows; ++row) {
        const float* row_up = up + row * ups.columns() + (width_ + run * kColumns) % kPanel;
        activate(block, row, run * kColumns, columns, gate + row * gates.columns(), row_up);
      }
    }
  }

  /// Whether gate and up can be had a panel of each at a time.
  bool in_pairs(int64_t block) const {
    return args_.saved_gate_up == nullptr && width_ % kColumns == 0 &&
           takes_pairs(up_[static_cast<std::size_t>(block)]);
  }

  /// The same, the activation made from the sums as they come.
  void activate_pairs(int64_t block, int64_t begin, int64_t end) const {
    constexpr int64_t kPanels = kColumns / kPanel;  // of a run
    const LinearArgs& down = down_products_[static_cast<std::size_t>(block)];
    const bool tiles = down.x_tiles != nullptr;
    auto* const h = static_cast<BFloat16*>(const_cast<void*>(down.x));
    auto sink = [&](const PairSums& sums) {
      int64_t offset = sums.row * width_ + sums.panel % kPanels * kPanel;
      offset += sums.panel / kPanels * kColumns * (tiles ? kTileRows : 1);
      avx512::activate_tile({.gate = sums.first,
                             .up = sums.second,
                             .count = sums.count,
                             .h = h + offset,
                             .step = tiles ? kColumns : width_});
    };
    linear_pairs(up_[static_cast<std::size_t>(block)],
                 {begin * kPanels, end * kPanels, width_ / kPanel,
                  end < runs_ ? nullptr : next_block(block)},
                 sink);
  }

  /// All rows by some panels, to `out` [rows, columns of the panels].
  static void compute(LinearArgs product, const Panels& panels, float* out, const std::byte* next) {
    product.y = out;
    product.y_stride = panels.columns();
    product.y_column = panels.begin * kPanel;
    linear_part(product, {0, product.rows, panels.begin, panels.end, next});
  }

  /// Columns [begin, end) of one row: rounded to down's x, and kept for training.
  void activate(int64_t block, int64_t row, int64_t begin, int64_t end, const float* gate,
                const float* up) const {
    const Block& position = routing_.blocks[static_cast<std::size_t>(block)];
    const LinearArgs& down = down_products_[static_cast<std::size_t>(block)];
    // Rows of a tile lie together, and so do a row's columns where there are no tiles.
    int64_t tile_rows = 1, offset = row * padded_k(width_);
    if (down.x_tiles != nullptr) {
      const int64_t first = row / kTileRows * kTileRows;
      tile_rows = std::min(kTileRows, tiled_rows(down.rows) - first);
      offset = first * padded_k(width_) + (row - first) * kColumns;
    }
    offset += begin * tile_rows;
    ActivateRow out{.gate = gate, .up = up, .width = end - begin, .dtype = args_.dtype};
    out.h = static_cast<std::byte*>(const_cast<void*>(down.x)) + offset * element_;
    out.step = kColumns * tile_rows;
    if (args_.saved_gate_up != nullptr) {
      const int64_t slot = routing_.slots[static_cast<std::size_t>(position.first + row)];
      out.saved_gate = args_.saved_gate_up + slot * 2 * width_ + begin;
      out.saved_up = out.saved_gate + width_;
    }
    isa() == Isa::kAvx2 ? avx2::activate_row(out) : avx512::activate_row(out);
  }

  /// A thread takes some columns of all experts, so that it can add up the choices itself.
  void down_and_combine() {
    // What int8 weights want rounded; tiles are there already.
    pack_all_rows(down_products_, team_);
    const int64_t panels = ceil_div(args_.hidden, kPanel);
    auto part = [&](int64_t begin, int64_t end) {
      for (std::size_t b = 0; b < down_products_.size(); ++b) {
        const LinearArgs& product = down_products_[b];
        const bool last = b + 1 == down_products_.size();
        const std::byte* next = last ? nullptr : panel_at(down_products_[b + 1], begin);
        linear_part(product, {0, product.rows, begin, end, next});
      }
      const int64_t column = begin * kPanel;
      combine_columns(args_, down_, column, std::min(end * kPanel, args_.hidden) - column);
    };
    team_.parallel_for(panels, kPanelUnit, part);
  }

  static const std::byte* panel_at(const LinearArgs& product, int64_t panel) {
    const PackedWeight& weight = *product.weight;
    return weight.data() +
           panel * (weight.bytes() / std::max<int64_t>(1, ceil_div(weight.n(), kPanel)));
  }
  const std::byte* next_block(int64_t block) const {
    const auto next = static_cast<std::size_t>(block) + 1;
    return next < up_.size() ? up_[next].weight->data() : nullptr;
  }

  const MoeArgs& args_;
  MoeWorkspace& space_;
  const Routing& routing_;
  ThreadTeam& team_;
  int64_t width_ = 0, runs_ = 0, element_ = 0;
  float* down_ = nullptr;  // [T, K, D]
  std::span<LinearArgs> up_, down_products_;
};

}  // namespace

void moe_together(const MoeArgs& args, MoeWorkspace& space, ThreadTeam& team) {
  Together(args, space, team).run();
}

}  // namespace mole::kernels
