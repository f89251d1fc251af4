// Where a model's parameters come from: a checkpoint, or a random start. Thread: one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "model_loader/checkpoint.h"

namespace mole::model {

enum class InitialValue { kNormal, kOne, kZero };  // of a parameter without a checkpoint

class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  /// Fills `out`, product(shape) elements of `dtype` (float32 or bfloat16).
  virtual void read(const std::string& name, const std::vector<int64_t>& shape,
                    InitialValue initial, DType dtype, void* out) = 0;
  /// Codes and scales of a matrix that is stored quantised; nothing if it is not, or not there.
  /// They lie in the file and stay valid while the source does.
  virtual std::optional<loader::QuantizedTensor> quantized(const std::string& /*name*/,
                                                           const std::vector<int64_t>& /*shape*/) {
    return std::nullopt;
  }
  /// Where the values already lie in `dtype`, in memory that stays valid until release_mapped();
  /// null: `read` them.
  virtual const void* mapped(const std::string& /*name*/, const std::vector<int64_t>& /*shape*/,
                             DType /*dtype*/) {
    return nullptr;
  }
  virtual void release_mapped() {}
  /// Tensors with this prefix are left out on purpose.
  virtual void ignore_prefix(const std::string& prefix) = 0;
};

class CheckpointParameters final : public ParameterSource {
 public:
  explicit CheckpointParameters(loader::TensorSource* source) : source_(*source) {}
  void read(const std::string& name, const std::vector<int64_t>& shape, InitialValue initial,
            DType dtype, void* out) override;
  std::optional<loader::QuantizedTensor> quantized(const std::string& name,
                                                   const std::vector<int64_t>& shape) override {
    return source_.quantized(name, shape);
  }
  const void* mapped(const std::string& name, const std::vector<int64_t>& shape,
                     DType dtype) override {
    return source_.mapped(name, shape, dtype);
  }
  void release_mapped() override { source_.release_mapped(); }
  void ignore_prefix(const std::string& prefix) override { source_.ignore_prefix(prefix); }

 private:
  loader::TensorSource& source_;
};

/// Every value depends on (seed, name, index) only, not on what else the model has.
class RandomParameters final : public ParameterSource {
 public:
  RandomParameters(uint64_t seed, double standard_deviation)
      : seed_(seed), standard_deviation_(standard_deviation) {}
  void read(const std::string& name, const std::vector<int64_t>& shape, InitialValue initial,
            DType dtype, void* out) override;
  void ignore_prefix(const std::string&) override {}

 private:
  uint64_t seed_;
  double standard_deviation_;
};

}  // namespace mole::model
