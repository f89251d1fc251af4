// Every golden's checkpoint, written by the format's own Python library, loads and converts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <vector>

#include "model_loader/checkpoint.h"

namespace mole::loader {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> golden_folders() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator("tests/golden")) {
    if (fs::exists(entry.path() / "model.safetensors")) folders.push_back(entry.path());
  }
  return folders;
}

TEST(GoldenFiles, ThereAreTwenty) { EXPECT_GE(golden_folders().size(), 20u); }

TEST(GoldenFiles, EachLoadsWholeWithNothingLeft) {
  for (const fs::path& folder : golden_folders()) {
    const auto checkpoint = Checkpoint::open(folder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_TRUE((*checkpoint)->config().contains("model_type"));
    TensorSource source(*checkpoint);
    for (const auto& [name, view] : (*checkpoint)->tensors()) {
      if (name.ends_with("_scale_inv")) continue;  // read with its matrix
      std::vector<float> values(static_cast<size_t>(view.num_elements()));
      source.read(name, view.shape, DType::kFloat32, values.data());
    }
    const LoadReport report = source.finish();
    EXPECT_TRUE(report.status().ok()) << folder << report.status();
    EXPECT_EQ(report.bytes_read, (*checkpoint)->weight_bytes()) << folder;
    EXPECT_EQ(report.tensors_read, static_cast<int64_t>((*checkpoint)->tensors().size()));
  }
}

}  // namespace
}  // namespace mole::loader
