// `mole quantize`: weights are the business of `trainer`, which this program must not link; it
// stands beside it in every build and runs in its place.
#pragma once

#include <filesystem>
#include <vector>

namespace mole::client {

/// Replaces this process by `trainer quantize` with the same arguments. Returns (with an exit code)
/// only if there is no trainer beside this program.
int run_quantize(int argc, const char* const* argv);

/// The program of that name in the folder of the program that runs; "" if there is none.
std::filesystem::path sibling_program(const char* name);

}  // namespace mole::client
