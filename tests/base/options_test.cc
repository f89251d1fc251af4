#include "base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"

namespace mole {
namespace {

using testing::HasSubstr;

struct Values {
  std::string model;
  int64_t max_num_seqs = 64;
  double rate = 0.5;
  bool caching = true;
  std::string dtype = "auto";
  std::vector<std::string> names;
};

struct Outcome {
  bool go_on = false;
  int exit_code = -1;
  std::string out, err, yaml;
};

Outcome parse(Values* values, std::vector<const char*> args) {
  Options options("prog", "A program.");
  options.add("model", &values->model, "Model folder");
  options.add("max-num-seqs", &values->max_num_seqs, 1, 1024, "sequences", "In one step");
  options.add("rate", &values->rate, 0, 1, "", "A rate");
  options.add("enable-prefix-caching", &values->caching, "Caching");
  options.add_choice("dtype", &values->dtype, {"auto", "float32"}, "Type");
  options.add_list("served-model-name", &values->names, "Names");
  args.insert(args.begin(), "prog");
  Outcome outcome;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.go_on = options.parse(static_cast<int>(args.size()), args.data(), &outcome.exit_code);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  outcome.yaml = options.to_yaml();
  return outcome;
}

std::string config_file(const std::string& contents) {
  const std::string path = testing::TempDir() + "/mole_options_test.yaml";
  EXPECT_TRUE(write_file_atomic(path, contents).ok());
  return path;
}

TEST(Options, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string path =
      config_file("max_num_seqs: 3\nrate: 0.25\ndtype: float32\nserved-model-name: [a, b]\n");
  setenv("MOLE_MAX_NUM_SEQS", "5", 1);
  setenv("MOLE_RATE", "0.75", 1);
  Values values;
  const Outcome outcome = parse(&values, {"--config", path.c_str(), "--max-num-seqs", "7"});
  unsetenv("MOLE_MAX_NUM_SEQS");
  unsetenv("MOLE_RATE");
  ASSERT_TRUE(outcome.go_on) << outcome.err;
  EXPECT_EQ(values.max_num_seqs, 7);
  EXPECT_EQ(values.rate, 0.75);
  EXPECT_EQ(values.dtype, "float32");
  EXPECT_EQ(values.names, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(values.caching);
  EXPECT_THAT(outcome.yaml, HasSubstr("max-num-seqs: 7"));
}

TEST(Options, BooleansHaveTheirOpposite) {
  Values values;
  EXPECT_TRUE(parse(&values, {"--no-enable-prefix-caching"}).go_on);
  EXPECT_FALSE(values.caching);
}

TEST(Options, ListsTakeOneValueAFlagAndLeavePositionalsAlone) {
  std::vector<std::string> names;
  std::string folder;
  Options options("prog", "A program.");
  options.add_list("served-model-name", &names, "Names");
  options.add_positional("model", &folder, "Folder");
  const char* args[] = {"prog", "--served-model-name", "a", "--served-model-name", "b", "DIR"};
  int exit_code = -1;
  ASSERT_TRUE(options.parse(6, args, &exit_code));
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(folder, "DIR");
}

TEST(Options, UnknownFlagsAndKeysGetASuggestion) {
  Values values;
  const Outcome flag = parse(&values, {"--max-num-seq", "3"});
  EXPECT_EQ(flag.exit_code, kExitUsage);
  EXPECT_THAT(flag.err, HasSubstr("did you mean \"max-num-seqs\"?"));
  const std::string path = config_file("max_nun_seqs: 3\n");
  const Outcome key = parse(&values, {"--config", path.c_str()});
  EXPECT_EQ(key.exit_code, kExitConfiguration);
  EXPECT_THAT(key.err, HasSubstr("did you mean \"max-num-seqs\"?"));
}

TEST(Options, WrongValuesNameTheOption) {
  Values values;
  const Outcome range = parse(&values, {"--max-num-seqs", "0"});
  EXPECT_EQ(range.exit_code, kExitUsage);
  EXPECT_THAT(range.err, HasSubstr("max-num-seqs"));
  EXPECT_THAT(range.err, HasSubstr("1024"));
  EXPECT_EQ(parse(&values, {"--dtype", "float64"}).exit_code, kExitUsage);
  EXPECT_EQ(parse(&values, {"--rate", "many"}).exit_code, kExitUsage);
  EXPECT_EQ(parse(&values, {"--config", "/nowhere.yaml"}).exit_code, kExitConfiguration);
}

TEST(Options, HelpListsEverything) {
  Values values;
  const Outcome help = parse(&values, {"--help"});
  EXPECT_FALSE(help.go_on);
  EXPECT_EQ(help.exit_code, kExitOk);
  for (const char* word : {"--model", "--max-num-seqs", "MOLE_MAX_NUM_SEQS", "auto|float32"}) {
    EXPECT_THAT(help.out, HasSubstr(word));
  }
}

}  // namespace
}  // namespace mole
