// mole: the command-line client of a Mole server.
#include <exception>
#include <iostream>
#include <string>

#include "base/options.h"
#include "clients/mole/commands.h"

namespace {

void print_help(std::ostream& out) {
  out << "Usage: mole COMMAND [OPTIONS] [PROMPT]\n\n";
  for (const auto& command : mole::client::commands()) {
    out << "  " << command.name << std::string(12 - std::string(command.name).size(), ' ')
        << command.summary << "\n";
  }
  out << "\nmole COMMAND --help lists the options of a command.\n";
}

int run(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    print_help(std::cout);
    return mole::kExitOk;
  }
  if (name == "--version") {
    std::cout << "mole " << MOLE_VERSION << "\n";
    return mole::kExitOk;
  }
  for (const auto& command : mole::client::commands()) {
    if (name == command.name) return command.run(argc - 1, argv + 1);
  }
  std::cerr << "mole: " << (name.empty() ? "no command given" : "unknown command \"" + name + "\"")
            << "\n\n";
  print_help(std::cerr);
  return mole::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "mole: unexpected: " << e.what() << "\n";
    return mole::kExitFailure;
  }
}
