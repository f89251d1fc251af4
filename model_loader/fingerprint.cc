#include "model_loader/fingerprint.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/file.h"

namespace mole::loader {
namespace {

constexpr size_t kSampleBytes = 4096;

void add(std::string* text, const std::string& part) {
  *text += std::to_string(part.size()) + ':' + part;
}

}  // namespace

std::string fingerprint(const Checkpoint& checkpoint) {
  std::string text;
  add(&text, checkpoint.config().dump());
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    add(&text, name);
    add(&text, describe(tensor));
    const size_t count = std::min(kSampleBytes, tensor.bytes.size());
    const auto sample = tensor.bytes.subspan((tensor.bytes.size() - count) / 2, count);
    add(&text, sha256_hex(sample));
  }
  std::vector<std::filesystem::path> files;
  std::error_code ignored;  // a folder that vanished meanwhile: fewer files, other digits
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.folder(), ignored)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) continue;
    add(&text, file.filename().string());
    add(&text, std::to_string(info.st_size));
    add(&text, std::to_string(info.st_mtim.tv_sec) + '.' + std::to_string(info.st_mtim.tv_nsec));
  }
  return sha256_hex(std::as_bytes(std::span(text)));
}

}  // namespace mole::loader
