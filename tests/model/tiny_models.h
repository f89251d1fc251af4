// Small random models of every architecture, written as checkpoints and loaded again. Torch-free.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/json.h"
#include "model/model.h"

namespace mole::model::testing {

/// "deepseek_v3" (YaRN, groups, q_lora, shared experts), "deepseek_v2" (no q_lora, softmax),
/// "mixtral" (2 heads share a key-value head). Widths are odd on purpose.
Json tiny_config(const std::string& name);

/// A folder under the test's temporary directory, removed with the object.
class TinyCheckpoint {
 public:
  /// Random values by `seed`, exported in `dtype`. A DeepSeek configuration may ask for a
  /// multi-token-prediction module by num_nextn_predict_layers = 1.
  TinyCheckpoint(const Json& config, uint64_t seed, DType dtype);
  ~TinyCheckpoint();
  TinyCheckpoint(const TinyCheckpoint&) = delete;
  TinyCheckpoint& operator=(const TinyCheckpoint&) = delete;
  const std::filesystem::path& folder() const { return folder_; }
  /// Loads it as the server does; fails the test on an error.
  std::unique_ptr<Model> load(DType dtype, int32_t threads = 1,
                              const std::string& quantization = "auto") const;

 private:
  std::filesystem::path folder_;
};

}  // namespace mole::model::testing
