// What the bit tests draw at random: which numbers are computed (the model, its weights' and its
// cache's format), by which way (instruction set, threads, chunks, batches, drafts, pages), and for
// which requests. The first may show in a result's bits; the second must not. Torch-free.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"
#include "kernels/cpu/isa.h"
#include "runtime/engine.h"
#include "runtime/request.h"

namespace mole::model::testing {

inline constexpr int32_t kBitsModelLen = 448;  // max_model_len: seven pages

/// Draws whole numbers; the same ones for the same seed on every machine.
class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}
  int32_t below(int32_t bound) {
    return static_cast<int32_t>(random_() % static_cast<uint64_t>(bound));
  }
  bool one_in(int32_t count) { return below(count) == 0; }
  template <typename T>
  T of(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(below(static_cast<int32_t>(choices.size())))];
  }

 private:
  std::mt19937_64 random_;
};

/// Of the weights and of the cache, in the words of mole-server's flags.
struct BitsFormats {
  DType dtype = DType::kFloat32;
  std::string quantization;  // none or a format, which needs bfloat16
  std::string cache;         // auto, int8, fp8
  std::string describe() const;
};
/// Every pair there is.
std::vector<BitsFormats> all_bits_formats();

struct BitsModel {
  BitsFormats formats;
  Json config;   // deepseek_v3 with a multi-token-prediction module, deepseek_v2, mixtral
  DType stored;  // of the checkpoint's tensors
  bool mtp() const { return config.contains("num_nextn_predict_layers"); }
};
BitsModel draw_model(const BitsFormats& formats, Draw& draw);

struct BitsWay {
  kernels::Isa isa = kernels::isa();
  int32_t threads = 1;
  bool ahead = false;     // weights quantised into a directory of their own, then loaded from there
  bool together = false;  // requests come while others run, not one after the other
  bool again = false;     // all of them a second time
  bool restart = false;   // and by a second engine, which finds the first one's swap file
  bool swap = false;
  int32_t pages = 0;  // of the cache beyond what one sequence may need; -1 = room for all
  runtime::EngineOptions options;
  std::string describe() const;
};
/// Alone, the prompt in one step, one thread, neither drafts nor pages that are found.
BitsWay plain_way(const BitsModel& model);
/// Way number `index` of a model: of as many ways as there are threads or instruction sets to
/// choose from, none has the same.
BitsWay draw_way(const BitsModel& model, int32_t index, Draw& draw);

/// Prompts with common beginnings, every kind of sampling.
std::vector<runtime::GenerateRequest> draw_requests(const BitsModel& model, Draw& draw);

}  // namespace mole::model::testing
