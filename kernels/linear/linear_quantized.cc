// Which implementation multiplies a quantised weight: chosen by the machine and by rows, which the
// bits never show.
#include <cpuid.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

/// What the int8 kernels need beyond the levels of isa.h.
struct Features {
  bool vnni = false, amx_int8 = false;
  Features() {
    __builtin_cpu_init();
    vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    uint32_t a = 0, b = 0, c = 0, d = 0;
    constexpr uint32_t kAmxInt8 = 1u << 25;
    amx_int8 = vnni && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kAmxInt8) != 0;
  }
};

const Features& features() {
  static const Features found;
  return found;
}

}  // namespace

bool has_vnni() { return features().vnni; }

bool int8_by_tiles(const LinearArgs& args) {
  return args.rows > kVectorRows && isa() == Isa::kAmx && features().amx_int8;
}

int64_t int8_rows_bytes(const LinearArgs& args, int64_t count) {
  const Int8Rows rows = int8_rows_at(args, count, nullptr);
  const int64_t scales = ceil_div(count * rows.runs, kPanel) * kScaleBytes;
  return ceil_div(count, kTileRows) * kTileRows * rows.stride + 2 * scales;
}

Int8Rows int8_rows_at(const LinearArgs& args, int64_t count, std::byte* memory) {
  Int8Rows out;
  const PackedWeight& weight = *args.weight;
  const int64_t groups = ceil_div(weight.k(), kGroupK);
  out.padded = out.stride = groups * kGroupK;
  if (int8_by_tiles(args)) {
    out.tile_rows = std::min(count, kTileRows);
  } else {
    // Rows a multiple of 4 KiB apart would fall into the same cache sets.
    out.stride += 64;
  }
  const bool whole = weight.format() == WeightFormat::kInt8;
  out.run = whole ? out.padded : kGroupK;
  out.runs = whole ? 1 : groups;
  if (memory == nullptr) return out;
  const int64_t codes = ceil_div(count, kTileRows) * kTileRows * out.stride;
  const int64_t scales = ceil_div(count * out.runs, kPanel) * kScaleBytes;
  out.codes = reinterpret_cast<int8_t*>(memory);
  out.scales = reinterpret_cast<float*>(memory + codes);
  out.sums = reinterpret_cast<int32_t*>(memory + codes + scales);
  return out;
}

void round_rows(const LinearArgs& args, int64_t row, int64_t count, int64_t first,
                const Int8Rows& out) {
  MOLE_CHECK(out.tile_rows == 0 || first % kTileRows == 0);
  Int8Rows to = out;
  to.codes += first * out.stride;
  to.scales += first * out.runs;
  to.sums += first * out.runs;
  isa() == Isa::kAvx2 ? avx2::quantize_rows(args, row, count, to)
                      : avx512::quantize_rows(args, row, count, to);
}

Int8Turns::Int8Turns(const LinearArgs& args, const LinearPart& part, int64_t most, int64_t spare)
    : args_(args), turn_(std::min(most, part.row_end - part.row_begin)) {
  const bool shared = args.x_tiles != nullptr;
  const int64_t own = shared ? 0 : int8_rows_bytes(args, turn_);
  std::byte* memory = thread_scratch(spare + own, ScratchSlot::kLinear);
  spare_ = memory;
  if (shared) {
    memory = reinterpret_cast<std::byte*>(const_cast<BFloat16*>(args.x_tiles));
    rows_ = int8_rows_at(args, args.rows, memory);
  } else {
    rows_ = int8_rows_at(args, turn_, memory + spare);
  }
}

Int8Rows Int8Turns::take(int64_t row, int64_t count) const {
  if (args_.x_tiles == nullptr) {
    round_rows(args_, row, count, 0, rows_);
    return rows_;
  }
  MOLE_CHECK(rows_.tile_rows == 0 || row % kTileRows == 0);
  Int8Rows out = rows_;
  out.codes += row * out.stride;
  out.scales += row * out.runs;
  out.sums += row * out.runs;
  return out;
}

void linear_quantized(const LinearArgs& args, const LinearPart& part) {
  MOLE_CHECK(!args.x_transposed);  // only gradients ask for it, and these weights have none
  if (part.row_begin >= part.row_end) return;
  const Isa set = isa();
  if (int8_activations(args.weight->format())) {
    if (set == Isa::kAvx2) return avx2::linear_int8(args, part);
    if (!features().vnni) return avx512::linear_int8(args, part);
    if (int8_by_tiles(args)) return linear_int8_amx(args, part);
    return linear_int8_vnni(args, part);
  }
  if (set == Isa::kAvx2) return avx2::linear_narrow(args, part);
  if (set == Isa::kAmx && features().vnni) return linear_narrow_amx(args, part);
  return avx512::linear_narrow(args, part);
}

}  // namespace mole::kernels
