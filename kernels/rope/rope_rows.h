// The part of rope that is compiled once per instruction set; rope.cc chooses.
#pragma once

#include "kernels/rope/rope.h"

namespace mole::kernels::avx2 {
void rope_rows(const RopeArgs& args, int64_t begin, int64_t end);
}
namespace mole::kernels::avx512 {
void rope_rows(const RopeArgs& args, int64_t begin, int64_t end);
}
