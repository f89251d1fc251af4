#include "clients/mole/quantize.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <system_error>

#include "base/options.h"

namespace mole::client {

std::filesystem::path sibling_program(const char* name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const auto path = self.parent_path() / name;
  return access(path.c_str(), X_OK) == 0 ? path : std::filesystem::path();
}

int run_quantize(int argc, const char* const* argv) {
  const std::filesystem::path trainer = sibling_program("trainer");
  if (trainer.empty()) {
    std::cerr << "mole quantize: needs the program `trainer` in the same folder as `mole`\n";
    return kExitFailure;
  }
  std::vector<std::string> words = {trainer.string(), "quantize"};
  for (int i = 1; i < argc; ++i) words.emplace_back(argv[i]);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execv(trainer.c_str(), arguments.data());
  std::cerr << "mole quantize: " << trainer.string() << ": " << std::strerror(errno) << "\n";
  return kExitFailure;
}

}  // namespace mole::client
