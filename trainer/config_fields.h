// The table of a training configuration's keys. Private to trainer/config*.cc.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "trainer/config.h"

namespace mole::trainer {

struct ConfigField {
  std::string key;  // "section.name"
  std::variant<std::string*, int64_t*, double*, bool*> value;
  double min = 0, max = 0;  // numbers only
  std::string unit;         // or, for text with choices, "a|b|c"
  std::string help;
  bool changes_bits = true;  // false: may differ when a run is resumed

  /// Takes `text` as YAML spells it. Errors: kInvalidArgument naming key, value and what is
  /// accepted.
  Status set(const std::string& text) const;
  Json get() const;
};

/// The fields of `config`, in the order of `--help`.
std::vector<ConfigField> config_fields(TrainConfig* config);

}  // namespace mole::trainer
