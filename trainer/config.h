// The configuration of a training run: a YAML file of sections, each key documented once in the
// table of config.cc, from which parsing, checks, `--help` and the manifest come. The section
// `model` is a Hugging Face config.json written as YAML and is checked by the architecture itself.
//
// `--set section.key=value` changes a key after the file is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "trainer/schedule.h"

namespace mole::trainer {

struct TrainConfig {
  Json model = Json::object();

  std::string output;  // folder of checkpoints and logs
  int64_t seed = 1;
  int64_t threads = 0;
  std::string dtype = "float32";

  std::string data;       // folder of `trainer data tokenize`
  std::string tokenizer;  // folder with tokenizer.json and its configuration
  int64_t sequence_length = 256;
  bool window_bos = true;

  int64_t steps = 1000;
  int64_t stop_after = 0;
  int64_t batch_sequences = 16;
  int64_t micro_batch_sequences = 0;

  double learning_rate = 1e-3;
  double min_learning_rate = 1e-4;
  int64_t warmup_steps = 100;
  std::string schedule = "cosine";
  int64_t decay_steps = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;

  double bias_update_speed = 1e-3;
  double balance_loss = 1e-4;

  int64_t eval_every = 200;
  int64_t eval_sequences = 64;
  int64_t checkpoint_every = 500;
  int64_t checkpoint_keep = 2;
  int64_t log_every = 1;
  bool tensorboard = true;

  Schedule learning_rate_schedule() const;
  /// Every key with its value, `model` included: what a checkpoint records.
  Json to_json() const;
  /// The part of to_json() that the bits of a run depend on; a run resumes only under an equal one.
  Json identity() const;
};

/// Reads `path`, then applies `settings` ("section.key=value"), then checks the values together.
/// Errors: kNotFound; kInvalidArgument naming key, value and what is accepted, for an unknown key
/// with the nearest known one.
StatusOr<TrainConfig> load_config(const std::filesystem::path& path,
                                  const std::vector<std::string>& settings);

/// Every key with default, unit and meaning, one a line, for `--help`.
std::string describe_config();

/// Keys (dotted) whose values differ, as "key: a, now b", for the message of a refused resume.
std::vector<std::string> differences(const Json& before, const Json& now);

}  // namespace mole::trainer
