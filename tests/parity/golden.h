// Goldens made by transformers (tests/golden/README.md), read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"

namespace mole::model::testing {

std::filesystem::path golden_folder(const std::string& name);
Json golden_expected(const std::string& name);
/// Folders of tests/golden that hold expected.json with prompts, in order.
std::vector<std::string> golden_names();

}  // namespace mole::model::testing
