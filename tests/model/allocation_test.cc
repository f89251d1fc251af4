// A warm step of a real model takes no memory: neither from operator new nor from malloc, counted
// for the whole process over steps of shapes that were seen before. (A program of its own, as the
// hooks are everybody's.)
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <numeric>

#include "model/registry.h"
#include "tests/model/tiny_models.h"

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// malloc is the sanitizer's there; operator new is still ours.
void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#else
// glibc's own allocator under its second name: what malloc and operator new come to.
extern "C" void* __libc_malloc(size_t bytes);
extern "C" void* __libc_memalign(size_t alignment, size_t bytes);
extern "C" void* malloc(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
extern "C" int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
#endif

namespace mole::model::testing {
namespace {

constexpr int32_t kBlocksEach = 4;
constexpr int kWarmRounds = 20;

/// Steps over a few sequences that begin anew each round, with memory of its own taken up front.
class Rounds {
 public:
  Rounds(Model* model, int32_t sequences)
      : model_(*model),
        sequences_(sequences),
        cache_({.num_layers = model->info().cache_layers(),
                .num_blocks = int64_t{sequences + 1} * kBlocksEach,
                .entry_elements = model->info().kv_entry_elements,
                .dtype = model->info().dtype}),
        tables_(static_cast<size_t>(sequences + 1) * kBlocksEach) {
    std::iota(tables_.begin(), tables_.end(), 0);
    for (auto* list : {&positions_, &starts_, &rows_}) list->reserve(1024);
    ids_.reserve(1024);
    forms_.reserve(1024);
  }

  /// Prompts in chunks beside decodes, then decodes alone, and one more prompt in waves of two
  /// steps each; counts what the model took.
  int64_t run() {
    int64_t taken = 0;
    for (int32_t step = 0; step < 12; ++step) {
      begin();
      for (int32_t s = 0; s < sequences_; ++s) {
        // Sequence s gets its prompt in steps 0 … s, and generates after that.
        const bool prompt = step <= s;
        add(prompt ? 21 * step : 21 * (s + 1) + step - s - 1, prompt ? 21 : 1,
            prompt ? AttentionForm::kExpanded : AttentionForm::kAbsorbed);
      }
      const int32_t layers = model_.info().num_layers;
      const bool ends = step % 2 == 1;
      add(21 * (step / 2), 21, AttentionForm::kExpanded);
      if (!ends) rows_.pop_back();
      const StepInput input{.token_ids = ids_,
                            .positions = positions_,
                            .sequence_starts = starts_,
                            .forms = forms_,
                            .block_tables = tables_,
                            .blocks_per_sequence = kBlocksEach,
                            .logit_rows = rows_,
                            .wave = {1, ends ? 1 : 0, ends ? layers : 1, places_}};
      StepOutput output;
      const int64_t before = allocations.load();
      const Status status = model_.forward(input, cache_, &output);
      taken += allocations.load() - before;
      EXPECT_TRUE(status.ok()) << status;
    }
    return taken;
  }

 private:
  void begin() {
    ids_.clear();
    positions_.clear();
    rows_.clear();
    forms_.clear();
    starts_.assign(1, 0);
  }

  void add(int32_t first, int32_t count, AttentionForm form) {
    for (int32_t i = 0; i < count; ++i) {
      ids_.push_back((7 * (first + i)) % model_.info().vocab_size);
      positions_.push_back(first + i);
    }
    starts_.push_back(static_cast<int32_t>(ids_.size()));
    rows_.push_back(starts_.back() - 1);
    forms_.push_back(form);
  }

  Model& model_;
  int32_t sequences_;
  KvCache cache_;
  std::vector<TokenId> ids_;
  std::vector<int32_t> positions_, starts_, rows_, tables_, places_{0};
  std::vector<AttentionForm> forms_;
};

struct Case {
  const char* architecture;
  DType dtype;
  int32_t threads;
};

class Allocation : public ::testing::TestWithParam<Case> {};

TEST_P(Allocation, AWarmStepTakesNoMemory) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 3, GetParam().dtype);
  const auto model = checkpoint.load(GetParam().dtype, GetParam().threads);
  ASSERT_NE(model, nullptr);
  Rounds rounds(model.get(), 4);
  int64_t taken = rounds.run();
  EXPECT_GT(taken, 0);  // the count counts
  // Which thread gets which part is chance, so each one's own memory may grow for some rounds more.
  for (int round = 0; round < kWarmRounds && taken > 0; ++round) taken = rounds.run();
  EXPECT_EQ(taken, 0);
}

INSTANTIATE_TEST_SUITE_P(All, Allocation,
                         ::testing::Values(Case{"deepseek_v3", DType::kFloat32, 1},
                                           Case{"deepseek_v3", DType::kBFloat16, 2},
                                           Case{"deepseek_v2", DType::kBFloat16, 1},
                                           Case{"mixtral", DType::kBFloat16, 2}),
                         [](const auto& instance) {
                           return std::string(instance.param.architecture) + "_" +
                                  std::string(dtype_name(instance.param.dtype));
                         });

}  // namespace
}  // namespace mole::model::testing
