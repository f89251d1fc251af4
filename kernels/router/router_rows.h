// The parts of router that are compiled once per instruction set; router.cc chooses.
#pragma once

#include "kernels/router/router.h"

namespace mole::kernels::avx2 {
void router_rows(const RouterArgs& args, int64_t begin, int64_t end);
void router_backward_rows(const RouterBackwardArgs& args, int64_t begin, int64_t end);
}  // namespace mole::kernels::avx2
namespace mole::kernels::avx512 {
void router_rows(const RouterArgs& args, int64_t begin, int64_t end);
void router_backward_rows(const RouterBackwardArgs& args, int64_t begin, int64_t end);
}  // namespace mole::kernels::avx512
