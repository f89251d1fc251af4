#include "trainer/run_state.h"

#include <ATen/core/Tensor.h>

#include <cstring>

namespace mole::trainer {
namespace {

constexpr const char* kParametersFile = "parameters.safetensors";
constexpr const char* kMomentsFile = "moments.safetensors";

using TensorsByName = std::map<std::string, at::Tensor>;

TensorsByName parameter_tensors(const model::Trainable& model) {
  TensorsByName out;
  for (const model::NamedTensor& p : model.parameters()) out.emplace(p.name, p.tensor);
  for (const model::NamedTensor& b : model.buffers()) out.emplace(b.name, b.tensor);
  return out;
}

TensorsByName moment_tensors(const model::Trainable& model, Optimizer& optimizer) {
  TensorsByName out;
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const std::string& name = model.parameters()[i].name;
    out.emplace(name + ".moment1", optimizer.moments()[i].first);
    out.emplace(name + ".moment2", optimizer.moments()[i].second);
  }
  return out;
}

TensorViews views(const TensorsByName& tensors) {
  TensorViews out;
  for (const auto& [name, tensor] : tensors) {
    const auto* data = reinterpret_cast<const std::byte*>(tensor.const_data_ptr<float>());
    out[name] = {.dtype = DType::kFloat32,
                 .shape = tensor.sizes().vec(),
                 .bytes = {data, static_cast<size_t>(tensor.nbytes())}};
  }
  return out;
}

/// Copies every tensor of `file` to the one of its name; both sides must have the same names.
Status copy_all(const LoadedCheckpoint& checkpoint, const char* file_name,
                const TensorsByName& targets) {
  const auto file = checkpoint.files.find(file_name);
  const std::string path = (checkpoint.folder / file_name).string();
  if (file == checkpoint.files.end()) return absl::DataLossError(path + ": missing");
  const TensorViews& sources = file->second.tensors();
  std::string problems;
  for (const auto& [name, source] : sources) {
    const auto target = targets.find(name);
    if (target == targets.end()) {
      problems += "; " + name + ": not a tensor of this model";
    } else if (source.dtype != DType::kFloat32 || source.shape != target->second.sizes().vec()) {
      problems += "; " + name + ": is " + loader::describe(source);
    } else {
      std::memcpy(target->second.data_ptr<float>(), source.bytes.data(), source.bytes.size());
    }
  }
  for (const auto& [name, target] : targets) {
    if (!sources.contains(name)) problems += "; " + name + ": missing";
  }
  return problems.empty() ? absl::OkStatus() : absl::DataLossError(path + problems);
}

}  // namespace

std::map<std::string, TensorViews> checkpoint_files(const model::Trainable& model,
                                                    Optimizer& optimizer) {
  return {{kParametersFile, views(parameter_tensors(model))},
          {kMomentsFile, views(moment_tensors(model, optimizer))}};
}

Status restore_parameters(const LoadedCheckpoint& checkpoint, model::Trainable& model) {
  MOLE_RETURN_IF_ERROR(copy_all(checkpoint, kParametersFile, parameter_tensors(model)));
  model.weights_changed();
  return absl::OkStatus();
}

Status restore_moments(const LoadedCheckpoint& checkpoint, const model::Trainable& model,
                       Optimizer& optimizer) {
  return copy_all(checkpoint, kMomentsFile, moment_tensors(model, optimizer));
}

}  // namespace mole::trainer
