// x packed once for all threads of a product, where each would otherwise pack all of it.
#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};
// Below this the calling thread packs alone: less work than waking the others.
constexpr int64_t kAloneBytes = int64_t{8} << 10;

struct Free {
  void operator()(BFloat16* data) const { ::operator delete[](data, kAlignment); }
};
/// Only grows, so that a warm step allocates nothing.
struct Buffer {
  std::unique_ptr<BFloat16[], Free> data;
  int64_t elements = 0;

  BFloat16* reserve(int64_t count) {
    if (count > elements) {
      data.reset();
      const auto bytes = static_cast<std::size_t>(count) * sizeof(BFloat16);
      data.reset(static_cast<BFloat16*>(::operator new[](bytes, kAlignment)));
      elements = count;
    }
    return data.get();
  }
};

int64_t blocks_of(const LinearArgs& args) { return ceil_div(args.rows, kTileRows); }

int64_t elements_of(const LinearArgs& args) {
  return tiled_rows(args.rows) * padded_k(args.weight->k());
}

}  // namespace

bool uses_tiles(const LinearArgs& args) {
  return args.rows > kVectorRows && isa() == Isa::kAmx &&
         args.weight->format() == WeightFormat::kPlain && args.weight->dtype() == DType::kBFloat16;
}

int64_t shared_bytes(const LinearArgs& args) {
  return uses_tiles(args) ? elements_of(args) * int64_t{sizeof(BFloat16)} : 0;
}

void pack_all_rows(std::span<LinearArgs> products, ThreadTeam& team) {
  thread_local Buffer buffer;
  int64_t elements = 0, blocks = 0;
  // Places first: the memory may still move.
  thread_local std::vector<int64_t> places;
  places.assign(products.size(), -1);
  for (std::size_t i = 0; i < products.size(); ++i) {
    const LinearArgs& args = products[i];
    const int64_t bytes = (elements + elements_of(args)) * int64_t{sizeof(BFloat16)};
    if (!uses_tiles(args) || bytes > kSharedBytes) continue;
    places[i] = elements;
    elements += elements_of(args);
    blocks += blocks_of(args);
  }
  if (blocks == 0) return;
  BFloat16* const memory = buffer.reserve(elements);
  for (std::size_t i = 0; i < products.size(); ++i) {
    if (places[i] >= 0) products[i].x_tiles = memory + places[i];
  }
  const std::vector<int64_t>& place = places;  // the calling thread's, in the others too
  auto part = [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (std::size_t i = 0; i < products.size(); ++i) {
      if (place[i] < 0) continue;
      const LinearArgs& args = products[i];
      const int64_t from = std::max(begin - first, int64_t{0});
      const int64_t to = std::min(end - first, blocks_of(args));
      if (from < to) pack_rows(args, 0, args.rows, from, to, memory + place[i]);
      first += blocks_of(args);
    }
  };
  if (elements * int64_t{sizeof(BFloat16)} <= kAloneBytes) return part(0, blocks);
  team.parallel_for(blocks, 1, part);
}

}  // namespace mole::kernels
