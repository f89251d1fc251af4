// Kills and errors at every system call of a save. This program defines write(), fsync() and the
// others itself: they count, fail or end the process at the chosen call, else go on to libc.
#include "trainer/checkpoint_store.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>

#include "tests/trainer/test_folder.h"

namespace {

// What happens at call number `at` (from 1) while armed: 0 = nothing, -1 = the process ends, else
// the call fails with this errno.
struct Fault {
  bool armed = false;
  int calls = 0;
  int at = 0;
  int error = 0;
};
Fault fault;

/// Counts a call; true if it must fail with errno set.
bool fails_here() {
  if (!fault.armed || ++fault.calls != fault.at) return false;
  if (fault.error < 0) _exit(77);
  errno = fault.error;
  return true;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
ssize_t write(int fd, const void* data, size_t size) {
  if (fails_here()) return -1;
  return next<ssize_t (*)(int, const void*, size_t)>("write")(fd, data, size);
}
int fsync(int fd) { return fails_here() ? -1 : next<int (*)(int)>("fsync")(fd); }
int rename(const char* from, const char* to) noexcept {
  return fails_here() ? -1 : next<int (*)(const char*, const char*)>("rename")(from, to);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return fails_here() ? -1 : next<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}
int unlink(const char* path) noexcept {
  return fails_here() ? -1 : next<int (*)(const char*)>("unlink")(path);
}
int unlinkat(int fd, const char* path, int flags) noexcept {
  return fails_here() ? -1 : next<int (*)(int, const char*, int)>("unlinkat")(fd, path, flags);
}
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (fails_here()) return -1;
  return next<int (*)(const char*, int, ...)>("open")(path, flags, mode);
}
}

namespace mole::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Two files whose contents tell the step.
class Contents {
 public:
  explicit Contents(int64_t step) : weights_(100, static_cast<float>(step)), moments_(7, 0.5f) {}
  std::map<std::string, TensorViews> files() const {
    return {{"parameters.safetensors", {{"w", view(weights_)}}},
            {"moments.safetensors", {{"m", view(moments_)}}}};
  }

 private:
  static loader::TensorView view(const std::vector<float>& values) {
    return {.dtype = DType::kFloat32,
            .shape = {static_cast<int64_t>(values.size())},
            .bytes = std::as_bytes(std::span(values))};
  }
  std::vector<float> weights_, moments_;
};

Status save(CheckpointStore& store, int64_t step) {
  return store.save(step, Contents(step).files(), {{"step", step}});
}

float first_weight(const LoadedCheckpoint& checkpoint) {
  float value = 0;
  std::memcpy(&value, checkpoint.files.at("parameters.safetensors").tensors().at("w").bytes.data(),
              sizeof(value));
  return value;
}

/// The newest whole checkpoint of `folder` must be `step`, with the contents of that step.
void expect_newest(const std::filesystem::path& folder, int64_t step, const std::string& when) {
  auto store = CheckpointStore::open(folder, 2);
  ASSERT_TRUE(store.ok()) << when << ": " << store.status();
  const auto newest = store->load_newest();
  ASSERT_TRUE(newest.ok()) << when << ": " << newest.status();
  ASSERT_TRUE(newest->has_value()) << when;
  EXPECT_EQ((*newest)->step, step) << when;
  EXPECT_EQ(first_weight(**newest), static_cast<float>(step)) << when;
  EXPECT_EQ((*newest)->state, Json({{"step", step}})) << when;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr(".tmp-"))) << when;
  }
}

TEST(CheckpointStore, KeepsTheNewestAndLoadsThem) {
  TestFolder folder("store");
  auto store = CheckpointStore::open(folder.path(), 2);
  ASSERT_TRUE(store.ok());
  EXPECT_FALSE(store->load_newest()->has_value());
  for (int64_t step : {5, 10, 15, 20}) ASSERT_TRUE(save(*store, step).ok());
  EXPECT_THAT(store->steps(), ElementsAre(15, 20));
  EXPECT_EQ(read_all(folder.path() / "LATEST"), "step-000000020\n");
  expect_newest(folder.path(), 20, "after four saves");
  EXPECT_EQ(CheckpointStore::newest_in(folder.path())->step, 20);
}

TEST(CheckpointStore, EveryFlippedByteIsFoundAndTheOneBeforeTaken) {
  TestFolder folder("store");
  auto store = CheckpointStore::open(folder.path(), 2);
  ASSERT_TRUE(save(*store, 1).ok() && save(*store, 2).ok());
  for (const char* name : {"parameters.safetensors", "moments.safetensors", "MANIFEST.json"}) {
    const auto path = store->step_folder(2) / name;
    const std::string whole = read_all(path);
    for (size_t byte = 0; byte < whole.size(); ++byte) {
      std::string flipped = whole;
      flipped[byte] = static_cast<char>(flipped[byte] ^ 4);
      std::ofstream(path, std::ios::binary) << flipped;
      const auto newest = store->load_newest();
      ASSERT_TRUE(newest.ok()) << newest.status();
      // White space of the manifest may change without changing what it says.
      const bool blank = whole[byte] == ' ' || whole[byte] == '\n';
      if (!blank) {
        ASSERT_EQ((*newest)->step, 1) << name << " byte " << byte;
      }
    }
    std::ofstream(path, std::ios::binary) << whole;
    for (size_t size = 0; size < whole.size(); size += 97) {
      std::ofstream(path, std::ios::binary) << whole.substr(0, size);
      ASSERT_EQ((*store->load_newest())->step, 1) << name << " truncated to " << size;
    }
    std::filesystem::remove(path);
    ASSERT_EQ((*store->load_newest())->step, 1) << name << " missing";
    std::ofstream(path, std::ios::binary) << whole;
  }
  EXPECT_EQ((*store->load_newest())->step, 2);
}

TEST(CheckpointStore, AllBrokenIsAnErrorNotAFreshStart) {
  TestFolder folder("store");
  auto store = CheckpointStore::open(folder.path(), 2);
  ASSERT_TRUE(save(*store, 1).ok());
  std::filesystem::remove(store->step_folder(1) / "MANIFEST.json");
  EXPECT_EQ(store->load_newest().status().code(), absl::StatusCode::kDataLoss);
}

TEST(CheckpointStore, ABrokenCheckpointOfTheSameStepIsReplaced) {
  TestFolder folder("store");
  auto store = CheckpointStore::open(folder.path(), 2);
  ASSERT_TRUE(save(*store, 1).ok() && save(*store, 2).ok());
  std::ofstream(store->step_folder(2) / "moments.safetensors") << "rot";
  ASSERT_TRUE(save(*store, 2).ok());
  expect_newest(folder.path(), 2, "after saving again");
}

/// Runs a save of step 3 over steps 1 and 2 in a child, with the fault; gives the child's exit
/// code: 0 saved, 1 an error status, 77 killed, 78 fewer calls than `at`.
int save_in_child(const std::filesystem::path& folder, int at, int error) {
  const pid_t child = fork();
  if (child == 0) {
    auto store = CheckpointStore::open(folder, 2);
    fault = {.armed = true, .calls = 0, .at = at, .error = error};
    const Status status = save(*store, 3);
    fault.armed = false;
    _exit(fault.calls < at ? 78 : status.ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Every call of a save, one after the other, with the same fault.
void enumerate_faults(int error) {
  int points = 0;
  for (int at = 1;; ++at) {
    TestFolder folder("faults");
    auto store = CheckpointStore::open(folder.path(), 2);
    ASSERT_TRUE(save(*store, 1).ok() && save(*store, 2).ok());
    const int code = save_in_child(folder.path(), at, error);
    if (code == 78) break;
    ++points;
    const std::string when = "errno " + std::to_string(error) + " at call " + std::to_string(at) +
                             ", child's exit code " + std::to_string(code);
    ASSERT_EQ(code == 77, error < 0) << when;
    // The rename commits: before it the newest is 2, after it 3, never anything else. A save that
    // reported success must be there.
    auto after = CheckpointStore::open(folder.path(), 2);
    const bool committed = std::filesystem::exists(after->step_folder(3));
    if (code == 0) {
      ASSERT_TRUE(committed) << when;
    }
    expect_newest(folder.path(), committed ? 3 : 2, when);
    // And the run goes on: the next save works.
    ASSERT_TRUE(save(*after, 4).ok()) << when;
    expect_newest(folder.path(), 4, when + ", then a save");
  }
  EXPECT_GT(points, 20) << "the calls of a save were not seen";
}

TEST(CheckpointStore, SurvivesAKillAtEveryCall) { enumerate_faults(-1); }
TEST(CheckpointStore, SurvivesAFullDiskAtEveryCall) { enumerate_faults(ENOSPC); }
TEST(CheckpointStore, SurvivesAnIoErrorAtEveryCall) { enumerate_faults(EIO); }

}  // namespace
}  // namespace mole::trainer
