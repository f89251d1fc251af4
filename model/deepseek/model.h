// DeepSeek-V2 and V3: latent attention, dense first layers, routed and shared experts.
// Sources: arXiv 2405.04434, arXiv 2412.19437; names of tensors as published on Hugging Face.
#pragma once

#include "model/layers/architecture.h"

namespace mole::model::deepseek {

StatusOr<std::unique_ptr<Decoder>> build_v2(const Json& config, ParameterFactory& parameters);
StatusOr<std::unique_ptr<Decoder>> build_v3(const Json& config, ParameterFactory& parameters);
/// V3's multi-token-prediction module: model.layers.{num_hidden_layers}.*
Status add_mtp(const Json& config, ParameterFactory& parameters, Decoder& decoder);

}  // namespace mole::model::deepseek
