#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "model_loader/checkpoint.h"
#include "model_loader/convert.h"

namespace mole::loader {
namespace {

constexpr size_t kShown = 20;  // of each kind, in the message
constexpr TimeUs kProgressEveryUs = 1'000'000;
constexpr const char* kScaleSuffix = "_scale_inv";

void add_kind(const char* kind, const std::vector<std::string>& names, std::string* text) {
  if (names.empty()) return;
  *text += (text->empty() ? "" : "; ") + std::to_string(names.size()) + " " + kind + ": ";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    *text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kShown) *text += ", …";
}

void log_progress(int64_t bytes_done, int64_t bytes_total) {
  log::info("loading weights", {{"bytes", bytes_done},
                                {"bytes_total", bytes_total},
                                {"percent", bytes_total > 0 ? 100 * bytes_done / bytes_total : 0}});
}

// "" if `scales` fits `matrix`, else what is wrong.
std::string scale_problem(const TensorView& matrix, const TensorView& scales) {
  if (matrix.shape.size() != 2) return "FP8 with block scales must be a matrix";
  const std::vector<int64_t> wanted = {(matrix.shape[0] + kFp8Block - 1) / kFp8Block,
                                       (matrix.shape[1] + kFp8Block - 1) / kFp8Block};
  if (scales.dtype == DType::kFloat32 && scales.shape == wanted) return "";
  return "expected float32 " + describe_shape(wanted) + ", found " + describe(scales);
}

}  // namespace

Status LoadReport::status() const {
  std::string text;
  add_kind("missing", missing, &text);
  add_kind("unused", unused, &text);
  add_kind("misshapen", misshapen, &text);
  if (text.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("the tensors do not fit the model of config.json: " + text);
}

TensorSource::TensorSource(std::shared_ptr<const Checkpoint> checkpoint)
    : TensorSource(std::move(checkpoint), log_progress, std::make_shared<SteadyClock>()) {}

TensorSource::TensorSource(std::shared_ptr<const Checkpoint> checkpoint, Progress progress,
                           std::shared_ptr<const Clock> clock)
    : checkpoint_(std::move(checkpoint)),
      progress_(std::move(progress)),
      clock_(std::move(clock)),
      progress_at_(clock_->now_us() + kProgressEveryUs) {}

bool TensorSource::has(const std::string& name) const {
  return checkpoint_->tensors().contains(name);
}

void TensorSource::read(const std::string& name, const std::vector<int64_t>& shape, DType dtype,
                        void* out) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  if (convert_into(name, shape, dtype, out)) return;
  int64_t bytes = dtype_bytes(dtype);
  for (const int64_t extent : shape) bytes *= extent;
  if (bytes > 0) std::memset(out, 0, static_cast<size_t>(bytes));
}

bool TensorSource::convert_into(const std::string& name, const std::vector<int64_t>& shape,
                                DType dtype, void* out) {
  const auto found = checkpoint_->tensors().find(name);
  if (found == checkpoint_->tensors().end()) {
    report_.missing.push_back(quoted_name(name));
    return false;
  }
  const TensorView& tensor = found->second;
  const bool counted = !read_.insert(name).second;
  if (tensor.shape != shape || !is_floating(tensor.dtype)) {
    report_.misshapen.push_back(quoted_name(name) + ": expected " + describe_shape(shape) +
                                ", found " + describe(tensor));
    if (has(name + kScaleSuffix)) read_.insert(name + kScaleSuffix);
    return false;
  }
  if (tensor.dtype == DType::kFloat8E4M3) {
    if (!convert_scaled(name, tensor, dtype, out)) return false;
  } else {
    convert(tensor.dtype, tensor.bytes.data(), tensor.num_elements(), dtype, out);
  }
  if (!counted) note_read(static_cast<int64_t>(tensor.bytes.size()));
  return true;
}

bool TensorSource::convert_scaled(const std::string& name, const TensorView& matrix, DType dtype,
                                  void* out) {
  const std::string scale_name = name + kScaleSuffix;
  const auto scales = checkpoint_->tensors().find(scale_name);
  if (scales == checkpoint_->tensors().end()) {
    report_.missing.push_back(quoted_name(scale_name));
    return false;
  }
  if (read_.insert(scale_name).second) {
    report_.bytes_read += static_cast<int64_t>(scales->second.bytes.size());
    ++report_.tensors_read;
  }
  const std::string problem = scale_problem(matrix, scales->second);
  if (!problem.empty()) {
    report_.misshapen.push_back(quoted_name(scale_name) + ": " + problem);
    return false;
  }
  convert_fp8_blocks(matrix, scales->second, dtype, out);
  return true;
}

void TensorSource::note_read(int64_t bytes) {
  ++report_.tensors_read;
  report_.bytes_read += bytes;
  const TimeUs now = clock_->now_us();
  if (now < progress_at_) return;
  progress_(report_.bytes_read, checkpoint_->weight_bytes());
  progress_at_ = now + kProgressEveryUs;
}

void TensorSource::ignore_prefix(const std::string& prefix) { ignored_prefixes_.push_back(prefix); }

LoadReport TensorSource::finish() {
  for (const auto& [name, view] : checkpoint_->tensors()) {
    bool expected = read_.contains(name);
    for (const std::string& prefix : ignored_prefixes_) {
      expected = expected || name.starts_with(prefix);
    }
    if (!expected) report_.unused.push_back(quoted_name(name));
  }
  return report_;
}

}  // namespace mole::loader
