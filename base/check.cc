#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mole::internal {

void check_failed(const char* file, int line, const char* what, const std::string& values) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s%s\n", file, line, what, values.c_str());
  std::abort();
}

}  // namespace mole::internal
