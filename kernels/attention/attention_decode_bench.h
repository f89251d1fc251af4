// Decode over the latent pages of a serving cache: many pages in memory of their own, so that the
// keys come from where they come from in a server's step.
#pragma once

#include <functional>
#include <vector>

#include "kernels/cases/case.h"

namespace mole::kernels {

std::vector<std::function<CasePtr(CaseRandom&)>> attention_decode_benches();

}  // namespace mole::kernels
