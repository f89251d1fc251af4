// trainer: makes the checkpoints that mole-server serves.
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "base/options.h"
#include "trainer/commands.h"

namespace {

using mole::trainer::report;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(int argc, const char* const* argv);
};

constexpr Command kCommands[] = {
    {"tokenizer train", "train a tokenizer.json from text", mole::trainer::run_tokenizer_train},
    {"data tokenize", "turn text into token shards", mole::trainer::run_data_tokenize},
    {"train", "train a model as a YAML file says; resumes by itself", mole::trainer::run_train},
    {"eval", "perplexity of a model on text, as JSON", mole::trainer::run_eval},
    {"generate", "continue a prompt", mole::trainer::run_generate},
    {"quantize", "store a model directory with quantised weights", mole::trainer::run_quantize},
    {"export", "turn a checkpoint of a run into a model directory", mole::trainer::run_export},
};

void print_help() {
  std::cout << "trainer: trains Mixture-of-Experts language models with latent attention\n\n"
               "Usage: trainer COMMAND [options]\n\n";
  for (const Command& command : kCommands) {
    std::cout << "  " << command.name << std::string(18 - std::strlen(command.name), ' ')
              << command.summary << "\n";
  }
  std::cout << "\n`trainer COMMAND --help` lists the command's options.\n"
               "Exit codes: 0 success, 1 failure, 2 usage, 3 configuration, 4 files.\n";
}

/// How many of argv[1], argv[2] spell `name`; 0 if they don't.
int words_matched(const char* name, int argc, const char* const* argv) {
  std::string given;
  for (int words = 1; words <= 2 && words < argc; ++words) {
    given += (words == 1 ? "" : " ") + std::string(argv[words]);
    if (given == name) return words;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0) {
    print_help();
    return argc < 2 ? mole::kExitUsage : mole::kExitOk;
  }
  for (const Command& command : kCommands) {
    const int words = words_matched(command.name, argc, argv);
    if (words == 0) continue;
    // One of the three places where LibTorch's exceptions may end.
    try {
      return command.run(argc - words, argv + words);
    } catch (const std::exception& error) {
      return report(command.name, absl::InternalError(error.what()));
    }
  }
  std::cerr << "trainer: no command \"" << argv[1] << "\"; `trainer --help` lists them\n";
  return mole::kExitUsage;
}
