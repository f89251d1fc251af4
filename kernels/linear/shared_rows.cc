// x packed once for all threads of a product, where each would otherwise pack all of it.
#include <algorithm>
#include <vector>

#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

// Below this the calling thread packs alone: less work than waking the others.
constexpr int64_t kAloneBytes = int64_t{8} << 10;

/// Only grows, so that a warm step allocates nothing.
struct Buffer {
  Pages data;
  int64_t bytes = 0;

  std::byte* reserve(int64_t wanted) {
    if (wanted > bytes) {
      data.reset();
      data = allocate_pages(wanted);
      bytes = wanted;
    }
    return data.get();
  }
};

int64_t blocks_of(const LinearArgs& args) { return ceil_div(args.rows, kTileRows); }

/// Blocks [begin, end) of 16 rows, as the weight's format wants them.
void pack_blocks(const LinearArgs& args, int64_t begin, int64_t end, std::byte* out) {
  if (!int8_activations(args.weight->format())) {
    return pack_rows(args, 0, args.rows, begin, end, reinterpret_cast<BFloat16*>(out));
  }
  const int64_t first = begin * kTileRows, last = std::min(args.rows, end * kTileRows);
  round_rows(args, first, last - first, first, int8_rows_at(args, args.rows, out));
}

}  // namespace

bool uses_tiles(const LinearArgs& args) {
  const WeightFormat format = args.weight->format();
  const bool plain = format == WeightFormat::kPlain;
  return args.rows > kVectorRows && isa() == Isa::kAmx && !int8_activations(format) &&
         args.weight->dtype() == DType::kBFloat16 && (plain || has_vnni());
}

int64_t shared_bytes(const LinearArgs& args) {
  if (int8_activations(args.weight->format())) {
    return args.rows > kVectorRows ? int8_rows_bytes(args, args.rows) : 0;
  }
  if (!uses_tiles(args)) return 0;
  return tiled_rows(args.rows) * padded_k(args.weight->k()) * int64_t{sizeof(BFloat16)};
}

void pack_all_rows(std::span<LinearArgs> products, ThreadTeam& team) {
  thread_local Buffer buffer;
  int64_t bytes = 0, blocks = 0;
  // Places first: the memory may still move.
  thread_local std::vector<int64_t> places;
  places.assign(products.size(), -1);
  for (std::size_t i = 0; i < products.size(); ++i) {
    const LinearArgs& args = products[i];
    const int64_t wanted = shared_bytes(args);
    if (args.x_tiles != nullptr || wanted == 0 || bytes + wanted > kSharedBytes) continue;
    places[i] = bytes;
    bytes += wanted;
    blocks += blocks_of(args);
  }
  if (blocks == 0) return;
  std::byte* const memory = buffer.reserve(bytes);
  for (std::size_t i = 0; i < products.size(); ++i) {
    if (places[i] >= 0) products[i].x_tiles = reinterpret_cast<BFloat16*>(memory + places[i]);
  }
  const std::vector<int64_t>& place = places;  // the calling thread's, in the others too
  auto part = [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (std::size_t i = 0; i < products.size(); ++i) {
      if (place[i] < 0) continue;
      const LinearArgs& args = products[i];
      const int64_t from = std::max(begin - first, int64_t{0});
      const int64_t to = std::min(end - first, blocks_of(args));
      if (from < to) pack_blocks(args, from, to, memory + place[i]);
      first += blocks_of(args);
    }
  };
  if (bytes <= kAloneBytes) return part(0, blocks);
  team.parallel_for(blocks, 1, part);
}

}  // namespace mole::kernels
