// Small safetensors files built by hand, and a folder that vanishes with the test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model_loader/safetensors.h"

namespace mole::loader::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mole-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view contents) const {
    std::filesystem::remove(path_ / name);  // ext4 flushes a file that is truncated and rewritten
    std::ofstream(path_ / name, std::ios::binary) << contents;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The bytes of a file with this header length, header and data.
inline std::string file_bytes(uint64_t length, std::string_view header, std::string_view data) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(header).append(data);
}
inline std::string file_bytes(std::string_view header, std::string_view data) {
  return file_bytes(header.size(), header, data);
}

/// A view over `values`, which must outlive it.
template <typename T>
TensorView view_of(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {dtype, std::move(shape), std::as_bytes(std::span(values))};
}

/// A seed from MOLE_TEST_SEED or the default, shown with every failure in scope through
/// SCOPED_TRACE.
inline uint64_t test_seed() {
  const char* text = std::getenv("MOLE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 20261121;
}

}  // namespace mole::loader::test
