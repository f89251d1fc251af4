#include "tests/parity/bits_run.h"

#include <gtest/gtest.h>

#include <bit>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "model/quantize_checkpoint.h"
#include "model/registry.h"
#include "runtime/cache_shape.h"
#include "runtime/engine_core.h"
#include "runtime/swap_limits.h"
#include "runtime/swap_setup.h"
#include "runtime/validate.h"

namespace mole::model::testing {

namespace {

using runtime::SpeculativeMethod;
using runtime::StreamEvent;

constexpr int64_t kStepsMax = 100'000;  // nothing here takes a tenth of it

/// Every look takes some time, drawn: the scheduler's choices differ from run to run of a way.
class DrawnClock final : public Clock {
 public:
  explicit DrawnClock(uint64_t seed) : draw_(seed) {}
  TimeUs now_us() const override { return now_us_ += draw_.below(2000); }

 private:
  mutable Draw draw_;
  mutable TimeUs now_us_ = 0;
};

/// Waits for the swap file's thread.
class Waker {
 public:
  void wake() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      woken_ = true;
    }
    condition_.notify_one();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    condition_.wait(lock, [this] { return woken_; });
    woken_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool woken_ = false;  // guarded by mutex_
};

BitsSample sample_of(const StreamEvent& event) {
  BitsSample sample{event.token, std::bit_cast<uint32_t>(event.logprobs.logprob), {}};
  for (const auto& [token, logprob] : event.logprobs.top) {
    sample.best.emplace_back(token, std::bit_cast<uint32_t>(logprob));
  }
  return sample;
}

class BitsEngine {
 public:
  BitsEngine(std::unique_ptr<Model> model, const runtime::EngineOptions& resolved, uint64_t seed)
      : options_(resolved),
        vocab_(model->info().vocab_size),
        clock_(seed),
        metrics_(&registry_),
        core_(std::move(model), resolved, &clock_, &metrics_) {
    auto swap = runtime::open_swap(resolved, core_.model_info());
    EXPECT_TRUE(swap.ok()) << swap.status();
    if (swap.ok() && *swap != nullptr) {
      core_.use_swap(*std::move(swap), [this] { waker_.wake(); });
    }
  }

  BitsAnswers ask(const std::vector<runtime::GenerateRequest>& requests, bool together, Draw& draw,
                  BitsTally* tally) {
    std::vector<std::shared_ptr<runtime::OutputStream>> streams;
    for (const runtime::GenerateRequest& request : requests) {
      streams.push_back(add(request));
      const bool last = streams.size() == requests.size();
      const int64_t steps = together && !last ? draw.of<int32_t>({0, 1, 3, 20}) : kStepsMax;
      run(steps, tally);
    }
    EXPECT_TRUE(core_.idle());
    core_.flush_swap();
    BitsAnswers answers;
    for (size_t i = 0; i < streams.size(); ++i) {
      answers.push_back(read(*streams[i], requests[i].n, tally));
    }
    return answers;
  }

  int64_t pages_loaded() const {
    const auto* swapper = core_.scheduler().swapper();
    return swapper == nullptr ? 0 : swapper->stats().pages_loaded;
  }

 private:
  std::shared_ptr<runtime::OutputStream> add(runtime::GenerateRequest request) {
    request.id = RequestId{++last_id_};
    auto state = runtime::make_request_state(
        std::move(request), {.enable_prefix_caching = options_.enable_prefix_caching,
                             .vocab_size = vocab_,
                             .now_us = clock_.now_us(),
                             .stream_events_max = 2000,
                             .draft_tokens_max = options_.draft_tokens_max(),
                             .ngram = options_.ngram_options()});
    auto stream = state->stream;
    core_.add(std::move(state));
    return stream;
  }

  void run(int64_t steps, BitsTally* tally) {
    for (int64_t i = 0; i < steps && !core_.idle(); ++i, ++tally->steps) {
      if (core_.waits_for_pages()) waker_.wait();
      const Status status = core_.step();
      ASSERT_TRUE(status.ok()) << status;
      tally->preempted += core_.last_plan()->num_preempted;
    }
  }

  std::vector<BitsAnswer> read(runtime::OutputStream& stream, int32_t count, BitsTally* tally) {
    std::vector<BitsAnswer> answers(static_cast<size_t>(count));
    while (const auto event = stream.try_pop()) {
      BitsAnswer& answer = answers[static_cast<size_t>(event->index)];
      if (event->kind == StreamEvent::Kind::kPromptToken) {
        answer.prompt.push_back(sample_of(*event));
      } else if (event->kind == StreamEvent::Kind::kToken) {
        answer.tokens.push_back(sample_of(*event));
      } else if (event->kind == StreamEvent::Kind::kError) {
        answer.finish = event->error.ToString();
      } else {
        answer.stop_token = event->stop_token;
        answer.finish = runtime::finish_reason_name(event->finish_reason);
        note(event->usage, tally);
      }
    }
    return answers;
  }

  void note(const runtime::Usage& usage, BitsTally* tally) const {
    const bool mtp = options_.speculative_method == SpeculativeMethod::kMtp;
    (mtp ? tally->mtp_accepted : tally->ngram_accepted) += usage.accepted_tokens;
    tally->drafts_refused += usage.drafted_tokens - usage.accepted_tokens;
    tally->cached_tokens += usage.cached_tokens;
  }

  const runtime::EngineOptions options_;
  const int32_t vocab_;
  DrawnClock clock_;
  Metrics registry_;
  runtime::EngineMetrics metrics_;
  Waker waker_;  // outlives the core, whose swap device wakes it
  runtime::EngineCore core_;
  uint64_t last_id_ = 0;
};

/// Fills in what depends on the model's sizes.
runtime::EngineOptions options_for(const BitsWay& way, const ModelInfo& info,
                                   const std::filesystem::path& scratch) {
  runtime::EngineOptions options = way.options;
  const int64_t page = runtime::cache_shape(options, info, 1).total_bytes();
  const int32_t needed = kBitsModelLen / kBlockTokens;
  if (way.pages >= 0) {
    const int32_t spare = way.swap ? runtime::kSwapSpareBlocks : 0;
    options.kv_cache_bytes = (needed + spare + way.pages) * page;
  }
  if (way.swap) {
    options.kv_swap_file = (scratch / "pages").string();
    options.kv_swap_bytes = 64 * (page + 4096);
  }
  options.max_num_batched_tokens = std::max(options.max_num_batched_tokens, options.max_num_seqs);
  const auto resolved = runtime::resolve_options(options, info);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  return resolved.ok() ? *resolved : options;
}

std::filesystem::path weights_of(const BitsModel& model, const BitsWay& way,
                                 const std::filesystem::path& folder,
                                 const std::filesystem::path& scratch) {
  if (!way.ahead) return folder;
  const auto report = quantize_checkpoint(
      folder, scratch / "weights", {.format = model.formats.quantization, .threads = way.threads});
  EXPECT_TRUE(report.ok()) << report.status();
  return scratch / "weights";
}

}  // namespace

std::vector<BitsAnswers> run_bits(const BitsModel& model, const BitsWay& way,
                                  const std::vector<runtime::GenerateRequest>& requests,
                                  const std::filesystem::path& folder,
                                  const std::filesystem::path& scratch, uint64_t seed,
                                  BitsTally* tally) {
  const kernels::Isa highest = kernels::isa();
  kernels::set_isa_for_test(way.isa);
  Draw draw(seed);
  std::vector<BitsAnswers> all;
  const std::filesystem::path weights = weights_of(model, way, folder, scratch);
  for (int engines = way.restart ? 2 : 1; engines > 0; --engines) {
    auto loaded =
        load_model(weights, {.dtype = std::string(dtype_name(model.formats.dtype)),
                             .quantization = way.ahead ? "auto" : model.formats.quantization,
                             .threads = way.threads,
                             .mtp = way.options.speculative_method == SpeculativeMethod::kMtp,
                             .fingerprint = way.swap});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) break;
    const auto options = options_for(way, (*loaded)->info(), scratch);
    BitsEngine engine(*std::move(loaded), options, seed);
    for (int rounds = way.again ? 2 : 1; rounds > 0; --rounds) {
      all.push_back(engine.ask(requests, way.together, draw, tally));
    }
    tally->pages_loaded += engine.pages_loaded();
  }
  kernels::set_isa_for_test(highest);
  return all;
}

}  // namespace mole::model::testing
