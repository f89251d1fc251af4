// What a checkpoint of a run holds, and how it goes in and out of model and optimizer.
//
//   parameters.safetensors  parameters and buffers (router biases), float32, Hugging Face's names
//   moments.safetensors     "<parameter>.moment1", "<parameter>.moment2"
//   state                   {"step", "cursor", "tokens_seen", "identity", "config", "data_digest",
//                            "bos_token_id", "eos_token_id"}
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json.h"
#include "base/status.h"
#include "model/trainable.h"
#include "trainer/checkpoint_store.h"
#include "trainer/optimizer.h"

namespace mole::trainer {

/// Where a run is. Everything else of it follows from these and the configuration.
struct RunPosition {
  int64_t step = 0;         // optimizer steps done
  int64_t cursor = 0;       // training windows used
  int64_t tokens_seen = 0;  // counted targets
};

/// Views into the live tensors: valid while nobody changes them.
std::map<std::string, TensorViews> checkpoint_files(const model::Trainable& model,
                                                    Optimizer& optimizer);

/// Copies parameters and buffers from `checkpoint` and tells the model.
/// Errors: kDataLoss listing every tensor that is missing, left over or of another shape.
Status restore_parameters(const LoadedCheckpoint& checkpoint, model::Trainable& model);
Status restore_moments(const LoadedCheckpoint& checkpoint, const model::Trainable& model,
                       Optimizer& optimizer);

}  // namespace mole::trainer
