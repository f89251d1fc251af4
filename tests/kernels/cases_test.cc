// Every operation's awkward cases against the float64 reference, for all instruction sets, 1 to 4
// threads and row by row. MOLE_CASE_SEEDS sets how many seeds each op gets, MOLE_CASE_SEED the
// first.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/cases/case.h"

namespace mole::kernels {
namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class Cases : public testing::TestWithParam<std::size_t> {};

TEST_P(Cases, AgreeWithFloat64AndWithThemselves) {
  const OpCases op = all_cases()[GetParam()];
  const uint64_t first = from_environment("MOLE_CASE_SEED", 1);
  const uint64_t seeds = from_environment("MOLE_CASE_SEEDS", 25);
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    CaseRandom random(seed);
    const CasePtr kernel_case = op.awkward(random);
    const std::string fault = check_case(*kernel_case);
    EXPECT_EQ(fault, "") << op.op << " " << kernel_case->name()
                         << ": again with MOLE_CASE_SEED=" << seed << " MOLE_CASE_SEEDS=1";
    if (!fault.empty()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Cases, testing::Range(std::size_t{0}, all_cases().size()),
                         [](const auto& test) { return all_cases()[test.param].op; });

}  // namespace
}  // namespace mole::kernels
