// What a waiting sequence remembers of the pages that it waits for (page_swapper.h).
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace mole::runtime {

/// Fresh whenever the sequence begins to wait.
struct SwapWait {
  int32_t asked_from = -1;  // the first block of the last pages that were asked for
  TimeUs give_up_us = -1;   // -1 = waits for no page yet
  bool over = false;        // it starts without further pages
};

}  // namespace mole::runtime
