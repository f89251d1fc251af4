// Mixtral: grouped-query attention and top-k experts in every layer (arXiv 2401.04088).
#pragma once

#include "model/layers/architecture.h"

namespace mole::model::mixtral {

StatusOr<std::unique_ptr<Decoder>> build(const Json& config, ParameterFactory& parameters);

}  // namespace mole::model::mixtral
