#include "model/layers/quantization.h"

#include "kernels/linear/pack_shapes.h"
#include "kernels/torch/team.h"

namespace mole::model {

using kernels::QuantizedMatrix;
using kernels::WeightFormat;

StatusOr<Quantization> resolve_quantization(const std::string& option, DType dtype) {
  if (option == "auto") return Quantization{.keep_stored = dtype == DType::kBFloat16};
  const auto format = kernels::format_of(option);
  if (!format.has_value()) {
    std::string accepted = "auto, none";
    for (const WeightFormat known : kernels::kQuantizedFormats) {
      accepted += ", " + std::string(kernels::format_name(known));
    }
    return absl::InvalidArgumentError("quantization is \"" + option + "\"; accepted: " + accepted);
  }
  if (*format != WeightFormat::kPlain && dtype != DType::kBFloat16) {
    return absl::InvalidArgumentError("quantization is \"" + option + "\", but dtype is " +
                                      std::string(dtype_name(dtype)) +
                                      ": quantised weights are multiplied with bfloat16; accepted "
                                      "with this dtype: auto, none");
  }
  return Quantization{.keep_stored = false, .format = *format};
}

WeightFormat weight_format(loader::StoredFormat stored) {
  switch (stored) {
    case loader::StoredFormat::kNone:
      return WeightFormat::kPlain;
    case loader::StoredFormat::kInt8:
      return WeightFormat::kInt8;
    case loader::StoredFormat::kInt8Group:
      return WeightFormat::kInt8Group;
    case loader::StoredFormat::kInt8A16:
      return WeightFormat::kInt8A16;
    case loader::StoredFormat::kInt4:
      return WeightFormat::kInt4;
    case loader::StoredFormat::kFp8:
      return WeightFormat::kFp8;
  }
  return WeightFormat::kPlain;
}

void QuantizedParts::start(WeightFormat format) {
  format_ = format;
  parts_.clear();
}

void QuantizedParts::add(const std::string& name, int64_t rows, int64_t k, const BFloat16* values) {
  if (kernels::PackShapesOnly::active()) {
    parts_.push_back({format_, rows, k, nullptr, nullptr});
    return;
  }
  const auto stored = source_.quantized(name, {rows, k});
  if (stored.has_value() && weight_format(stored->format) == format_) {
    parts_.push_back({format_, rows, k, stored->codes.bytes.data(), stored->scales.bytes.data()});
    const std::string fault = kernels::quantized_fault(parts_.back(), kernels::team());
    if (!fault.empty()) throw UnusableWeight("tensor " + name + ": " + fault);
    return;
  }
  if (values == nullptr) {
    values = static_cast<const BFloat16*>(source_.mapped(name, {rows, k}, DType::kBFloat16));
  }
  if (values == nullptr) {
    values_.resize(static_cast<size_t>(rows * k));
    source_.read(name, {rows, k}, InitialValue::kNormal, DType::kBFloat16, values_.data());
    values = values_.data();
  }
  if (memory_.size() <= parts_.size()) memory_.resize(parts_.size() + 1);
  Memory& memory = memory_[parts_.size()];
  memory.codes.resize(static_cast<size_t>(rows * kernels::code_row_bytes(format_, k)));
  memory.scales.resize(
      static_cast<size_t>(kernels::scale_rows(format_, rows) * kernels::scale_columns(format_, k)));
  if (!kernels::quantize(format_, values, rows, k, memory.codes.data(), memory.scales.data(),
                         kernels::team())) {
    throw UnusableWeight("tensor " + name + ": a value is not finite, so it can't be quantised");
  }
  parts_.push_back({format_, rows, k, memory.codes.data(),
                    reinterpret_cast<const std::byte*>(memory.scales.data())});
}

}  // namespace mole::model
