#include "tests/parity/golden.h"

#include <algorithm>
#include <fstream>

#include "base/check.h"

namespace mole::model::testing {

namespace {
const std::filesystem::path kGoldens = "tests/golden";  // tests run in the repository's root
}

std::filesystem::path golden_folder(const std::string& name) { return kGoldens / name; }

Json golden_expected(const std::string& name) {
  std::ifstream file(kGoldens / name / "expected.json");
  MOLE_CHECK(file.good());
  return Json::parse(file);
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (!std::filesystem::exists(entry.path() / "expected.json")) continue;
    const std::string name = entry.path().filename().string();
    if (golden_expected(name).contains("prompts")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace mole::model::testing
