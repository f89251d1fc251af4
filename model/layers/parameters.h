// What a model's parameters become
// (packed weights for serving, float32 masters with gradients for training). Layers ask for what
// they need by its Hugging Face name and never see the difference. Thread: one.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/torch/expert_bank.h"
#include "kernels/torch/weight.h"
#include "model/layers/named_tensor.h"
#include "model/layers/parameter_source.h"
#include "model/layers/quantization.h"

namespace mole::model {

/// Some rows of a stacked matrix: a tensor [rows, K] of its own in the checkpoint.
struct RowPart {
  std::string name;
  int64_t rows = 0;
};

struct MatrixUse {
  bool compute_in_float32 = false;
  bool keep_plain = false;
  bool pack = true;
  bool quantize = true;  // false: stays as it is whatever the other weights become
  bool head = false;     // makes logits: never in fewer than 8 bits
};

struct ExpertNames {
  std::string gate, up, down;
};

/// Thrown inside model/ only: config.json describes more parameters than can be meant. Caught where
/// models are made.
class ConfigTooLarge : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ParameterFactory {
 public:
  /// `max_parameters`: more is refused (ConfigTooLarge) before any memory is taken for it.
  /// `quantization`: of what is served.
  ParameterFactory(ParameterSource* source, DType dtype, bool trainable, int64_t max_parameters,
                   const Quantization& quantization = {});

  DType dtype() const { return dtype_; }
  std::unique_ptr<kernels::Weight> matrix(const std::vector<RowPart>& parts, int64_t k,
                                          const MatrixUse& use = {});
  std::unique_ptr<kernels::Weight> norm(const std::string& name, int64_t n);
  std::unique_ptr<kernels::ExpertBank> experts(const std::vector<ExpertNames>& names,
                                               int64_t hidden, int64_t width);
  /// [n] float32, without gradient, always stored in float32.
  at::Tensor buffer(const std::string& name, int64_t n);
  void ignore_prefix(const std::string& prefix) { source_.ignore_prefix(prefix); }

  /// Training: leaves with gradient buffers, in the order in which layers asked.
  const std::vector<NamedTensor>& parameters() const { return parameters_; }
  const std::vector<NamedTensor>& buffers() const { return buffers_; }
  /// Gradient buffers behind the parameters, for clearing them all.
  const std::vector<at::Tensor>& gradients() const { return gradients_; }
  /// What moves on when masters change.
  const std::shared_ptr<uint64_t>& version() const { return version_; }
  int64_t num_parameters() const { return num_parameters_; }

 private:
  /// Counts parameters before their memory is taken.
  void count(int64_t rows, int64_t columns);
  /// The format that this matrix gets.
  kernels::WeightFormat format_of(const std::vector<RowPart>& parts, int64_t k,
                                  const MatrixUse& use);
  /// Where the parts of a matrix [.., k] lie in the dtype, if they can be packed from there; else
  /// empty.
  std::vector<kernels::PlainMatrix> mapped_parts(const std::vector<RowPart>& parts, int64_t k);
  at::Tensor make_gradient(const at::Tensor& master);
  void add_leaf(const std::string& name, const at::Tensor& value, const at::Tensor& gradient);
  void add_expert(const ExpertNames& name, kernels::ExpertBank& bank);
  std::unique_ptr<kernels::ExpertBank> trainable_experts(const std::vector<ExpertNames>& names,
                                                         int64_t hidden, int64_t width);

  ParameterSource& source_;
  DType dtype_;
  bool trainable_;
  int64_t max_parameters_;
  Quantization quantization_;
  QuantizedParts quantized_;
  std::shared_ptr<uint64_t> version_;
  std::vector<NamedTensor> parameters_, buffers_;
  std::vector<at::Tensor> gradients_;
  int64_t num_parameters_ = 0;
};

}  // namespace mole::model
