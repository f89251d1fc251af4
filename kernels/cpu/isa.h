// The instruction set that kernels run with, found once at start-up. The environment variable
// MOLE_ISA (avx2, avx512, amx) forces a lower one, for tests and comparisons; results are the same
// bits.
#pragma once

namespace mole::kernels {

enum class Isa { kAvx2, kAvx512, kAmx };  // ascending

/// The highest of the machine's, unless MOLE_ISA lowers it. Stops the process with a clear message
/// on a machine without AVX2 and FMA, or when MOLE_ISA names something unknown or not available.
Isa isa();
const char* isa_name(Isa isa);
/// Whether this machine has it.
bool isa_available(Isa isa);
/// Forces an instruction set for the rest of a test; must be available.
void set_isa_for_test(Isa isa);

}  // namespace mole::kernels
