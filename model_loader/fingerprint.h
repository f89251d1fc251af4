// Which weights a checkpoint directory holds, told from little of it.
#pragma once

#include <string>

#include "model_loader/checkpoint.h"

namespace mole::loader {

/// 64 hex digits over config.json, every tensor's name, type and shape, up to 4 KiB from the middle
/// of each, and the names, sizes and times of change of the weights' files. Another model, training
/// step or edited file gives other digits; so may a copy, whose files have other times. Reads a
/// page of memory a tensor.
std::string fingerprint(const Checkpoint& checkpoint);

}  // namespace mole::loader
