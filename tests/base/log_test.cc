#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/json.h"

namespace mole {
namespace {

TEST(Log, WritesOneJsonObjectALine) {
  testing::internal::CaptureStderr();
  log::warn("odd \"text\"\n\x01\xff", {{"count", 3},
                                       {"ratio", 0.5},
                                       {"ok", true},
                                       {"name", std::string("é\\")},
                                       {"nan", std::numeric_limits<double>::quiet_NaN()}});
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto parsed = parse_json(line);
  ASSERT_TRUE(parsed.ok()) << parsed.status() << line;
  EXPECT_EQ((*parsed)["level"], "warn");
  EXPECT_EQ((*parsed)["msg"], "odd \"text\"\n\x01\xEF\xBF\xBD");
  EXPECT_EQ((*parsed)["count"], 3);
  EXPECT_EQ((*parsed)["ratio"], 0.5);
  EXPECT_EQ((*parsed)["ok"], true);
  EXPECT_EQ((*parsed)["name"], "é\\");
  EXPECT_TRUE((*parsed)["nan"].is_null());
}

TEST(Log, DropsLinesBelowTheLevel) {
  testing::internal::CaptureStderr();
  log::debug("quiet");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace mole
