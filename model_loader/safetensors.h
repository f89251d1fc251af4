// The safetensors format, read strictly and written.
//
// Layout: u64 little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data.
// Rules (of the format's own library): header at most 100 MB and starting with '{', no duplicate
// keys, offsets contiguous without holes or overlap, bytes == product(shape) * dtype size with
// overflow checked, and the file ends at the last offset. Ours besides: at most 200 000 tensors of
// at most 8 dimensions, an entry holds those three fields only, and a type that DType knows. Every
// rule has a test. The file must not shrink while it is mapped: reading beyond its end kills the
// process.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "model_loader/tensor_view.h"

namespace mole::loader {

/// One mapped file. Views stay valid while it lives.
class SafetensorsFile {
 public:
  /// Errors: kNotFound; kDataLoss naming file, tensor and the broken rule.
  static StatusOr<SafetensorsFile> open(const std::filesystem::path& path);
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  Status parse();

  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes `tensors` in name order, data aligned to 64 bytes (the header is padded with spaces),
/// whole or not at all. Errors: kInternal with errno's text, kInvalidArgument (size and shape
/// disagree).
Status write_safetensors(const std::filesystem::path& path,
                         const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata = {});

}  // namespace mole::loader
