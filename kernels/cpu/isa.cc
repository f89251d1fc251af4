#include "kernels/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mole::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

[[noreturn]] void stop(const char* message, const char* value) {
  std::fprintf(stderr, "mole: %s%s\n", message, value);
  std::exit(1);
}

/// AMX needs the CPU's features, the system's support of the tile state (XCR0 bits 17 and 18) and,
/// once a process, leave to use it: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool amx_available() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr uint32_t kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  if (!__builtin_cpu_supports("avx512bf16")) return false;  // kernels round with it beside AMX
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTileState = 3u << 17;
  if ((low & kTileState) != kTileState) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Isa detect() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi2")) {
    stop("this processor lacks AVX2, FMA or BMI2, which the kernels need", "");
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::kAvx2;
  return amx_available() ? Isa::kAmx : Isa::kAvx512;
}

Isa available() {
  static const Isa highest = detect();
  return highest;
}

Isa from_environment() {
  const char* name = std::getenv("MOLE_ISA");
  if (name == nullptr || *name == '\0') return available();
  for (const Isa isa : kAll) {
    if (std::strcmp(name, isa_name(isa)) != 0) continue;
    if (isa > available()) stop("MOLE_ISA: this machine doesn't have ", name);
    return isa;
  }
  stop("MOLE_ISA must be avx2, avx512 or amx, not ", name);
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> value{from_environment()};
  return value;
}

}  // namespace

Isa isa() { return current().load(std::memory_order_relaxed); }

bool isa_available(Isa isa) { return isa <= available(); }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

void set_isa_for_test(Isa isa) {
  if (!isa_available(isa)) stop("set_isa_for_test: this machine doesn't have ", isa_name(isa));
  current().store(isa, std::memory_order_relaxed);
}

}  // namespace mole::kernels
