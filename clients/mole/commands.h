// The commands of the `mole` program. Each parses its own arguments and returns the exit code.
#pragma once

#include <span>
#include <string>

namespace mole::client {

/// Ctrl-C, as shells count it: 128 + SIGINT.
inline constexpr int kExitInterrupted = 130;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(int argc, const char* const* argv);  // argv[0] is the command
};

std::span<const Command> commands();

/// Colours only where a person looks: a terminal, and NO_COLOR is not set.
bool colours_wanted(bool is_terminal, const char* no_color);

}  // namespace mole::client
