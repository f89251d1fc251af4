// How the weights of a served model are stored, and the way from a checkpoint's tensors to codes
// and scales: those of the file where it has them in the wanted format, else made from the values.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/linear/quantize.h"
#include "model/layers/parameter_source.h"

namespace mole::model {

struct Quantization {
  /// What is stored quantised stays so, the rest stays as it is; `format` is then unused.
  bool keep_stored = false;
  kernels::WeightFormat format = kernels::WeightFormat::kPlain;
};

/// What option --quantization means for a model of `dtype`: "auto" keeps what the file has where
/// dtype is bfloat16 (and expands it where it is float32), "none" expands, a format's name is the
/// format of all matrices but router gates and MLA's kv_b. Errors: kInvalidArgument.
StatusOr<Quantization> resolve_quantization(const std::string& option, DType dtype);

/// Thrown inside model/ only: a tensor that cannot be quantised or whose codes are wrong. Caught
/// where models are made.
class UnusableWeight : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

kernels::WeightFormat weight_format(loader::StoredFormat stored);

/// Codes and scales of a stacked matrix. Memory is kept from one use to the next.
class QuantizedParts {
 public:
  explicit QuantizedParts(ParameterSource* source) : source_(*source) {}

  void start(kernels::WeightFormat format);
  /// The tensor [rows, k] as the next part; `values` are its bfloat16 values if they were read
  /// already. Throws UnusableWeight.
  void add(const std::string& name, int64_t rows, int64_t k, const BFloat16* values = nullptr);
  std::span<const kernels::QuantizedMatrix> parts() const { return parts_; }

 private:
  struct Memory {
    std::vector<std::byte> codes;
    std::vector<float> scales;
  };

  ParameterSource& source_;
  kernels::WeightFormat format_ = kernels::WeightFormat::kPlain;
  std::vector<kernels::QuantizedMatrix> parts_;
  std::vector<Memory> memory_;
  std::vector<BFloat16> values_;
};

}  // namespace mole::model
