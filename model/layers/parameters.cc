#include "model/layers/parameters.h"

#include "kernels/torch/tensors.h"

namespace mole::model {

ParameterFactory::ParameterFactory(ParameterSource* source, DType dtype, bool trainable,
                                   int64_t max_parameters, const Quantization& quantization)
    : source_(*source),
      dtype_(dtype),
      trainable_(trainable),
      max_parameters_(max_parameters),
      quantization_(quantization),
      quantized_(source),
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

kernels::WeightFormat ParameterFactory::format_of(const std::vector<RowPart>& parts, int64_t k,
                                                  const MatrixUse& use) {
  using kernels::WeightFormat;
  if (trainable_ || !use.quantize || !use.pack || use.compute_in_float32) {
    return WeightFormat::kPlain;
  }
  WeightFormat format = quantization_.format;
  if (quantization_.keep_stored) {
    for (const RowPart& part : parts) {
      const auto stored = source_.quantized(part.name, {part.rows, k});
      format = stored.has_value() ? weight_format(stored->format) : WeightFormat::kPlain;
      if (format == WeightFormat::kPlain) break;
    }
  } else if (use.head && format == WeightFormat::kInt4) {
    format = WeightFormat::kInt8;
  }
  return kernels::can_quantize(format, k) ? format : WeightFormat::kPlain;
}

std::vector<kernels::PlainMatrix> ParameterFactory::mapped_parts(const std::vector<RowPart>& parts,
                                                                 int64_t k) {
  std::vector<kernels::PlainMatrix> mapped;
  if (trainable_) return mapped;
  for (const RowPart& part : parts) {
    const void* values = source_.mapped(part.name, {part.rows, k}, dtype_);
    if (values == nullptr) break;
    mapped.push_back({values, part.rows, k});
  }
  const bool whole = mapped.size() == parts.size() && kernels::can_pack_parts(mapped, dtype_);
  if (whole) return mapped;
  source_.release_mapped();
  return {};
}

std::unique_ptr<kernels::Weight> ParameterFactory::matrix(const std::vector<RowPart>& parts,
                                                          int64_t k, const MatrixUse& use) {
  int64_t n = 0;
  for (const RowPart& part : parts) n += part.rows;
  count(n, k);
  const kernels::WeightFormat format = format_of(parts, k, use);
  if (format != kernels::WeightFormat::kPlain && !use.keep_plain) {
    quantized_.start(format);
    for (const RowPart& part : parts) quantized_.add(part.name, part.rows, k);
    auto weight = std::make_unique<kernels::Weight>(quantized_.parts(), at::Tensor());
    source_.release_mapped();
    return weight;
  }
  const DType stored = trainable_ ? DType::kFloat32 : dtype_;
  if (format == kernels::WeightFormat::kPlain && use.pack && !use.keep_plain &&
      !use.compute_in_float32) {
    const auto mapped = mapped_parts(parts, k);
    if (!mapped.empty()) {
      auto weight = std::make_unique<kernels::Weight>(mapped, dtype_);
      source_.release_mapped();
      return weight;
    }
  }
  const at::Tensor value = kernels::empty({n, k}, stored);
  int64_t row = 0;
  for (const RowPart& part : parts) {
    source_.read(part.name, {part.rows, k}, InitialValue::kNormal, stored,
                 kernels::element(value, row, 0));
    row += part.rows;
  }
  if (format != kernels::WeightFormat::kPlain) {  // the values are needed too
    quantized_.start(format);
    row = 0;
    for (const RowPart& part : parts) {
      const void* values = kernels::element(value, row, 0);
      quantized_.add(part.name, part.rows, k, static_cast<const BFloat16*>(values));
      row += part.rows;
    }
    return std::make_unique<kernels::Weight>(quantized_.parts(), value);
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
  for (const ExpertNames& name : names) add_expert(name, *bank);
  return bank;
}

void ParameterFactory::add_expert(const ExpertNames& name, kernels::ExpertBank& bank) {
  const int64_t hidden = bank.hidden(), width = bank.width();
  const RowPart gate{name.gate, width}, up{name.up, width}, back{name.down, hidden};
  const kernels::WeightFormat format = format_of({gate, up}, hidden, {});
  if (format != kernels::WeightFormat::kPlain && format == format_of({back}, width, {})) {
    quantized_.start(format);
    quantized_.add(gate.name, width, hidden);
    quantized_.add(up.name, width, hidden);
    quantized_.add(back.name, hidden, width);
    bank.add(quantized_.parts().first(2), quantized_.parts()[2]);
    source_.release_mapped();
    return;
  }
  const auto mapped = mapped_parts({gate, up}, hidden), mapped_back = mapped_parts({back}, width);
  if (!mapped.empty() && !mapped_back.empty()) {
    bank.add(mapped, mapped_back[0]);
    source_.release_mapped();
    return;
  }
  const at::Tensor gate_up = kernels::empty({2 * width, hidden}, dtype_);
  const at::Tensor down = kernels::empty({hidden, width}, dtype_);
  const std::vector<int64_t> in{width, hidden}, out{hidden, width};
  source_.read(name.gate, in, InitialValue::kNormal, dtype_, gate_up.data_ptr());
  source_.read(name.up, in, InitialValue::kNormal, dtype_, kernels::element(gate_up, width, 0));
  source_.read(name.down, out, InitialValue::kNormal, dtype_, down.data_ptr());
  bank.add(gate_up, down);
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
