#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "model_loader/checkpoint.h"
#include "model_loader/convert.h"
#include "model_loader/read_ahead.h"

namespace mole::loader {
namespace {

constexpr size_t kShown = 20;  // of each kind, in the message
constexpr TimeUs kProgressEveryUs = 1'000'000;

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
  if (format_of(tensor, shape) != StoredFormat::kNone) {
    const auto matrix = find_quantized(name, tensor, shape);
    if (!matrix.has_value()) return false;
    dequantize(*matrix, dtype, out);
  } else if (tensor.shape != shape || !is_floating(tensor.dtype)) {
    report_.misshapen.push_back(quoted_name(name) + ": expected " + describe_shape(shape) +
                                ", found " + describe(tensor));
    return false;
  } else {
    convert(tensor.dtype, tensor.bytes.data(), tensor.num_elements(), dtype, out);
  }
  if (!counted) note_read(static_cast<int64_t>(tensor.bytes.size()));
  let_go(tensor.bytes);
  return true;
}

const void* TensorSource::mapped(const std::string& name, const std::vector<int64_t>& shape,
                                 DType dtype) {
  const auto found = checkpoint_->tensors().find(name);
  if (found == checkpoint_->tensors().end()) return nullptr;
  const TensorView& tensor = found->second;
  const auto address = reinterpret_cast<uintptr_t>(tensor.bytes.data());
  if (tensor.dtype != dtype || tensor.shape != shape || !is_floating(dtype) ||
      address % static_cast<uintptr_t>(dtype_bytes(dtype)) != 0 ||
      format_of(tensor, shape) != StoredFormat::kNone) {
    return nullptr;
  }
  if (read_.insert(name).second) note_read(static_cast<int64_t>(tensor.bytes.size()));
  mapped_.push_back(tensor.bytes);
  return tensor.bytes.data();
}

void TensorSource::release_mapped() {
  for (const std::span<const std::byte> bytes : mapped_) let_go(bytes);
  mapped_.clear();
}

void TensorSource::let_go(std::span<const std::byte> bytes) {
  if (read_ahead_ != nullptr) read_ahead_->let_go(bytes);
}

// e4m3 says itself what it is; bytes are codes where config.json says so. Beside int4 there may be
// int8, whose codes are not halved.
StoredFormat TensorSource::format_of(const TensorView& tensor,
                                     const std::vector<int64_t>& shape) const {
  if (tensor.dtype == DType::kFloat8E4M3) return StoredFormat::kFp8;
  const StoredFormat format = checkpoint_->stored_format();
  if (tensor.dtype != DType::kUInt8 || format == StoredFormat::kFp8) return StoredFormat::kNone;
  const bool whole =
      shape.size() == 2 && tensor.shape == shape && shape != code_shape(format, shape[0], shape[1]);
  return format == StoredFormat::kInt4 && whole ? StoredFormat::kInt8 : format;
}

std::optional<QuantizedTensor> TensorSource::quantized(const std::string& name,
                                                       const std::vector<int64_t>& shape) {
  const auto found = checkpoint_->tensors().find(name);
  if (found == checkpoint_->tensors().end()) return std::nullopt;
  if (format_of(found->second, shape) == StoredFormat::kNone) return std::nullopt;
  const bool counted = !read_.insert(name).second;
  auto matrix = find_quantized(name, found->second, shape);
  if (matrix.has_value()) mapped_.push_back(found->second.bytes);
  if (matrix.has_value() && !counted) note_read(static_cast<int64_t>(found->second.bytes.size()));
  return matrix;
}

std::optional<QuantizedTensor> TensorSource::find_quantized(const std::string& name,
                                                            const TensorView& tensor,
                                                            const std::vector<int64_t>& shape) {
  const auto misshapen = [&](const std::string& what, DType dtype,
                             const std::vector<int64_t>& wanted, const TensorView& view) {
    report_.misshapen.push_back(quoted_name(what) + ": expected " + std::string(dtype_name(dtype)) +
                                " " + describe_shape(wanted) + ", found " + describe(view));
    return std::nullopt;
  };
  const StoredFormat format = format_of(tensor, shape);
  const std::string scales_name = scale_name(format, name);
  const auto scales = checkpoint_->tensors().find(scales_name);
  const bool first = scales != checkpoint_->tensors().end() && read_.insert(scales_name).second;
  if (shape.size() != 2) {
    const bool flat = tensor.shape == shape && scales != checkpoint_->tensors().end();
    report_.misshapen.push_back(flat ? quoted_name(scales_name) + ": only a matrix can have scales"
                                     : quoted_name(name) + ": expected " + describe_shape(shape) +
                                           ", found " + describe(tensor));
    return std::nullopt;
  }
  const std::vector<int64_t> codes = code_shape(format, shape[0], shape[1]);
  if (tensor.shape != codes) return misshapen(name, code_dtype(format), codes, tensor);
  if (scales == checkpoint_->tensors().end()) {
    report_.missing.push_back(quoted_name(scales_name));
    return std::nullopt;
  }
  const std::vector<int64_t> wanted = scale_shape(format, shape[0], shape[1]);
  if (scales->second.dtype != DType::kFloat32 || scales->second.shape != wanted) {
    return misshapen(scales_name, DType::kFloat32, wanted, scales->second);
  }
  if (first) {
    report_.bytes_read += static_cast<int64_t>(scales->second.bytes.size());
    ++report_.tensors_read;
  }
  return QuantizedTensor{format, shape[0], shape[1], tensor, scales->second};
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
