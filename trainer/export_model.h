// A checkpoint of a run as a model directory in Hugging Face's layout: config.json,
// model.safetensors, tokenizer.json, tokenizer_config.json, generation_config.json.
#pragma once

#include <filesystem>
#include <string>

#include "base/status.h"
#include "trainer/checkpoint_store.h"

namespace mole::trainer {

struct ExportOptions {
  std::filesystem::path output{};         // folder, made if missing
  std::filesystem::path tokenizer{};      // folder; empty: the run's data.tokenizer
  std::filesystem::path chat_template{};  // Jinja file; empty: contents one after the other
  std::string dtype = "bfloat16";         // of the weights: float32 or bfloat16
};

/// Writes every file atomically, the weights last: a directory with model.safetensors is whole.
/// Errors: kNotFound, kInvalidArgument, kDataLoss (the checkpoint), kInternal (I/O).
Status export_model(const LoadedCheckpoint& checkpoint, const ExportOptions& options);

}  // namespace mole::trainer
