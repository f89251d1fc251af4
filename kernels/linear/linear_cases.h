// What the files of linear's cases share.
#pragma once

#include <functional>
#include <vector>

#include "kernels/cases/case.h"

namespace mole::kernels {

std::vector<std::function<CasePtr(CaseRandom&)>> linear_memory_cases();

}  // namespace mole::kernels
