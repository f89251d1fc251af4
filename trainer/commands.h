// The subcommands of `trainer`. Each takes its own arguments (argv[0] is the command's name),
// prints what it has to say, and gives the exit code of base/options.h.
#pragma once

#include <string>

#include "base/status.h"

namespace mole::trainer {

int run_tokenizer_train(int argc, const char* const* argv);
int run_data_tokenize(int argc, const char* const* argv);
int run_train(int argc, const char* const* argv);
int run_eval(int argc, const char* const* argv);
int run_generate(int argc, const char* const* argv);
int run_quantize(int argc, const char* const* argv);
int run_export(int argc, const char* const* argv);

/// Prints "trainer COMMAND: message" on stderr and gives the exit code that fits: 3 for a wrong
/// value, 4 for files that are missing or corrupt, else 1.
int report(const std::string& command, const Status& status);

}  // namespace mole::trainer
