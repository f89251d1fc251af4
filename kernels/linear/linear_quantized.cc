// Which implementation multiplies a quantised weight: chosen by the machine and by rows, which the
// bits never show.
#include <cpuid.h>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

// Up to this many rows VPDPBUSD keeps up with memory; above, tiles do more with each load.
constexpr int64_t kVnniRows = 4;

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

Int8Rows int8_rows_in_scratch(const PackedWeight& weight, int64_t count) {
  Int8Rows out;
  const int64_t groups = ceil_div(weight.k(), kGroupK);
  out.padded = groups * kGroupK;
  // Rows a multiple of 4 KiB apart would fall into the same cache sets.
  out.stride = out.padded + 64;
  const bool whole = weight.format() == WeightFormat::kInt8;
  out.run = whole ? out.padded : kGroupK;
  out.runs = whole ? 1 : groups;
  const int64_t codes = ceil_div(count, kPanel) * kPanel * out.stride;
  const int64_t scales = count * out.runs * int64_t{sizeof(float)};
  std::byte* memory = thread_scratch(codes + 2 * scales, ScratchSlot::kLinear);
  out.codes = reinterpret_cast<int8_t*>(memory);
  out.scales = reinterpret_cast<float*>(memory + codes);
  out.sums = reinterpret_cast<int32_t*>(memory + codes + scales);
  return out;
}

void linear_quantized(const LinearArgs& args, const LinearPart& part) {
  MOLE_CHECK(!args.x_transposed);  // only gradients ask for it, and these weights have none
  if (part.row_begin >= part.row_end) return;
  const Isa set = isa();
  if (int8_activations(args.weight->format())) {
    if (set == Isa::kAvx2) return avx2::linear_int8(args, part);
    if (!features().vnni) return avx512::linear_int8(args, part);
    const bool amx = set == Isa::kAmx && features().amx_int8;
    if (amx && part.row_end - part.row_begin > kVnniRows) return linear_int8_amx(args, part);
    return linear_int8_vnni(args, part);
  }
  if (set == Isa::kAvx2) return avx2::linear_narrow(args, part);
  if (set == Isa::kAmx && features().vnni) return linear_narrow_amx(args, part);
  return avx512::linear_narrow(args, part);
}

}  // namespace mole::kernels
