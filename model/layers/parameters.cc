#include "model/layers/parameters.h"

#include <cmath>
#include <numbers>

#include "base/philox.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

namespace {

/// FNV-1a, 64 bits: a name's own stream of random numbers.
uint64_t name_hash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// Two independent standard normal numbers (Box and Muller, 1958) from one Philox draw.
void normal_pair(uint64_t seed, uint64_t index, uint64_t stream, double* a, double* b) {
  const auto words = philox4x32(seed, index, stream);
  // 64 bits each; the first in (0, 1] so that its logarithm exists.
  const double u = (static_cast<double>((uint64_t{words[0]} << 32) | words[1]) + 1.0) * 0x1.0p-64;
  const double v = static_cast<double>((uint64_t{words[2]} << 32) | words[3]) * 0x1.0p-64;
  const double radius = std::sqrt(-2.0 * std::log(u));
  *a = radius * std::cos(2 * std::numbers::pi * v);
  *b = radius * std::sin(2 * std::numbers::pi * v);
}

int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

}  // namespace

void CheckpointParameters::read(const std::string& name, const std::vector<int64_t>& shape,
                                InitialValue, DType dtype, void* out) {
  source_.read(name, shape, dtype, out);
}

void RandomParameters::read(const std::string& name, const std::vector<int64_t>& shape,
                            InitialValue initial, DType dtype, void* out) {
  const int64_t count = product(shape);
  auto store = [&](int64_t i, double value) {
    const float rounded = static_cast<float>(value);
    if (dtype == DType::kFloat32) {
      static_cast<float*>(out)[i] = rounded;
    } else {
      static_cast<BFloat16*>(out)[i] = to_bfloat16(rounded);
    }
  };
  if (initial != InitialValue::kNormal) {
    for (int64_t i = 0; i < count; ++i) store(i, initial == InitialValue::kOne ? 1.0 : 0.0);
    return;
  }
  const uint64_t stream = name_hash(name);
  for (int64_t i = 0; i < count; i += 2) {
    double a = 0, b = 0;
    normal_pair(seed_, static_cast<uint64_t>(i / 2), stream, &a, &b);
    store(i, a * standard_deviation_);
    if (i + 1 < count) store(i + 1, b * standard_deviation_);
  }
}

ParameterFactory::ParameterFactory(ParameterSource* source, DType dtype, bool trainable,
                                   int64_t max_parameters)
    : source_(*source),
      dtype_(dtype),
      trainable_(trainable),
      max_parameters_(max_parameters),
      version_(std::make_shared<uint64_t>(0)) {}

void ParameterFactory::count(int64_t rows, int64_t columns) {
  // Divided, not multiplied: the product of two wrong extents may overflow.
  if (columns > 0 && rows > (max_parameters_ - num_parameters_) / columns) {
    throw ConfigTooLarge("config.json describes more than " + std::to_string(max_parameters_) +
                         " parameters, more than this checkpoint can hold; check hidden_size, "
                         "vocab_size and the other sizes");
  }
  num_parameters_ += rows * columns;
}

at::Tensor ParameterFactory::make_gradient(const at::Tensor& master) {
  gradients_.push_back(kernels::zeros(master.sizes(), DType::kFloat32));
  return gradients_.back();
}

void ParameterFactory::add_leaf(const std::string& name, const at::Tensor& value,
                                const at::Tensor& gradient) {
  at::Tensor leaf = value.detach();  // shares the master's memory, but is a leaf of its own
  leaf.requires_grad_(true);
  leaf.mutable_grad() = gradient;
  parameters_.push_back({name, leaf});
}

std::unique_ptr<kernels::Weight> ParameterFactory::matrix(const std::vector<RowPart>& parts,
                                                          int64_t k, const MatrixUse& use) {
  int64_t n = 0;
  for (const RowPart& part : parts) n += part.rows;
  count(n, k);
  const DType stored = trainable_ ? DType::kFloat32 : dtype_;
  const at::Tensor value = kernels::empty({n, k}, stored);
  int64_t row = 0;
  for (const RowPart& part : parts) {
    source_.read(part.name, {part.rows, k}, InitialValue::kNormal, stored,
                 kernels::element(value, row, 0));
    row += part.rows;
  }
  const kernels::WeightOptions options{dtype_, use.compute_in_float32, use.keep_plain, use.pack};
  if (!trainable_) return std::make_unique<kernels::Weight>(value, options);
  const at::Tensor gradient = make_gradient(value);
  row = 0;
  for (const RowPart& part : parts) {
    add_leaf(part.name, value.narrow(0, row, part.rows), gradient.narrow(0, row, part.rows));
    row += part.rows;
  }
  return std::make_unique<kernels::Weight>(value, gradient, options, version_);
}

std::unique_ptr<kernels::Weight> ParameterFactory::norm(const std::string& name, int64_t n) {
  count(1, n);
  const DType stored = trainable_ ? DType::kFloat32 : dtype_;
  const at::Tensor value = kernels::empty({1, n}, stored);
  source_.read(name, {n}, InitialValue::kOne, stored, value.data_ptr());
  const kernels::WeightOptions options{dtype_, false, true, false};
  if (!trainable_) return std::make_unique<kernels::Weight>(value, options);
  const at::Tensor gradient = make_gradient(value);
  add_leaf(name, value.view({n}), gradient.view({n}));
  return std::make_unique<kernels::Weight>(value, gradient, options, version_);
}

std::unique_ptr<kernels::ExpertBank> ParameterFactory::experts(
    const std::vector<ExpertNames>& names, int64_t hidden, int64_t width) {
  const int64_t num_experts = static_cast<int64_t>(names.size());
  count(num_experts * 3 * width, hidden);
  if (trainable_) return trainable_experts(names, hidden, width);
  auto bank = std::make_unique<kernels::ExpertBank>(num_experts, hidden, width, dtype_);
  const at::Tensor gate_up = kernels::empty({2 * width, hidden}, dtype_);
  const at::Tensor down = kernels::empty({hidden, width}, dtype_);
  for (const ExpertNames& name : names) {
    const std::vector<int64_t> in{width, hidden}, out{hidden, width};
    source_.read(name.gate, in, InitialValue::kNormal, dtype_, gate_up.data_ptr());
    source_.read(name.up, in, InitialValue::kNormal, dtype_, kernels::element(gate_up, width, 0));
    source_.read(name.down, out, InitialValue::kNormal, dtype_, down.data_ptr());
    bank->add(gate_up, down);
  }
  return bank;
}

std::unique_ptr<kernels::ExpertBank> ParameterFactory::trainable_experts(
    const std::vector<ExpertNames>& names, int64_t hidden, int64_t width) {
  const int64_t count = static_cast<int64_t>(names.size());
  const at::Tensor gate_up = kernels::empty({count, 2 * width, hidden}, DType::kFloat32);
  const at::Tensor down = kernels::empty({count, hidden, width}, DType::kFloat32);
  const at::Tensor gate_up_grad = make_gradient(gate_up), down_grad = make_gradient(down);
  auto add = [&](const std::string& name, const at::Tensor& value, const at::Tensor& gradient) {
    source_.read(name, {value.size(0), value.size(1)}, InitialValue::kNormal, DType::kFloat32,
                 value.data_ptr());
    add_leaf(name, value, gradient);
  };
  for (int64_t e = 0; e < count; ++e) {
    const ExpertNames& name = names[static_cast<size_t>(e)];
    const at::Tensor both = gate_up.select(0, e), both_grad = gate_up_grad.select(0, e);
    add(name.gate, both.narrow(0, 0, width), both_grad.narrow(0, 0, width));
    add(name.up, both.narrow(0, width, width), both_grad.narrow(0, width, width));
    add(name.down, down.select(0, e), down_grad.select(0, e));
  }
  return std::make_unique<kernels::ExpertBank>(gate_up, down, gate_up_grad, down_grad, dtype_,
                                               version_);
}

at::Tensor ParameterFactory::buffer(const std::string& name, int64_t n) {
  count(1, n);
  at::Tensor value = kernels::empty({n}, DType::kFloat32);
  source_.read(name, {n}, InitialValue::kZero, DType::kFloat32, value.data_ptr());
  buffers_.push_back({name, value});
  return value;
}

}  // namespace mole::model
