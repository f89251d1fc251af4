// silu(gate) * up in sixteen lanes, as silu_mul and moe compute it.
#pragma once

#include "kernels/cpu/exp.h"

namespace mole::kernels::MOLE_ISA {

inline F32x16 silu_mul16(F32x16 gate, F32x16 up) {
  const F32x16 divisor = add16(set16(1.0f), exp16(sub16(zero16(), gate)));
  return mul16(div16(gate, divisor), up);
}

}  // namespace mole::kernels::MOLE_ISA
