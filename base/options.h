// Options of a program, declared once: each becomes a flag (--max-num-seqs), an environment
// variable (MOLE_MAX_NUM_SEQS) and a YAML key (max-num-seqs, underscores allowed). Precedence:
// flag, then environment, then YAML file, then default. An unknown flag or key is an error with a
// suggestion.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mole {

/// Exit codes of every program of ours.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,          // a flag is wrong
  kExitConfiguration = 3,  // a value in file or environment is wrong
  kExitModel = 4,          // model files are missing or wrong
};

class Options {
 public:
  Options(std::string program, std::string description);
  ~Options();

  /// `name` in kebab case. The variable holds the default and receives the value. `unit` may be "".
  void add(const std::string& name, std::string* value, const std::string& help);
  void add(const std::string& name, bool* value, const std::string& help);
  void add(const std::string& name, int64_t* value, int64_t min, int64_t max,
           const std::string& unit, const std::string& help);
  void add(const std::string& name, double* value, double min, double max, const std::string& unit,
           const std::string& help);
  /// One of `choices`.
  void add_choice(const std::string& name, std::string* value,
                  const std::vector<std::string>& choices, const std::string& help);
  /// May be given several times, or as a YAML list.
  void add_list(const std::string& name, std::vector<std::string>* values, const std::string& help);
  /// An argument without a name ("mole-server DIR"), optional.
  void add_positional(const std::string& name, std::string* value, const std::string& help);

  /// Reads argv, then the environment, then the file named by --config. Prints help or the error.
  /// Returns true to go on; otherwise `*exit_code` says how to end.
  bool parse(int argc, const char* const* argv, int* exit_code);

  /// Every option with its value, as YAML: what --print-config shows.
  std::string to_yaml() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole
