// Does the scheduler keep decodes at their pace? Open-loop load on the fake model, whose steps take
// the time that a small machine would need, by the simulation's clock: prompts of 16 to 8,000
// tokens, Poisson arrivals. Nothing here measures real time. MOLE_SIM_FIRST_SEED draws other loads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "runtime/engine_core.h"
#include "runtime/validate.h"
#include "tests/sim/fake_model.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_seeds.h"

namespace mole::sim {
namespace {

constexpr int32_t kPromptMin = 16, kPromptMax = 8000, kRequests = 120, kLayers = 27;

// 2 cores and 2.4 of 16 billion parameters: a pass over the dense weights, the experts' share,
// rows, the entries they read, prompt tokens, context to expand and pairs. Up to a tenth of noise.
constexpr runtime::StepFactors kCosts = {25e-3, 40e-3, 5e-4, 5e-8, 1.2e-3, 2e-6, 5e-8};

struct Load {
  std::vector<TimeUs> arrivals;
  std::vector<int32_t> prompts, outputs;
};

Load draw_load(uint64_t seed, double requests_per_s) {
  SimRandom random(seed);
  const auto uniform = [&] { return (random.between(0, 999'999) + 0.5) * 1e-6; };
  Load load;
  double now_s = 0;
  for (int32_t i = 0; i < kRequests; ++i) {
    if (requests_per_s > 0) now_s -= std::log(uniform()) / requests_per_s;
    load.arrivals.push_back(static_cast<TimeUs>(now_s * 1e6));
    const double prompt = kPromptMin * std::pow(double{kPromptMax} / kPromptMin, uniform());
    load.prompts.push_back(static_cast<int32_t>(prompt));
    load.outputs.push_back(random.between(16, 128));
  }
  return load;
}

struct Outcome {
  double seconds = 0;               // of virtual time until all were done
  std::vector<double> gaps;         // between two tokens of a sequence
  std::vector<double> short_waits;  // to the first token of prompts below 64 tokens
  double model_error = 0;

  static double quantile(std::vector<double> values, double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
  }
};

class PacedEngine {
 public:
  explicit PacedEngine(int64_t target_itl_us) : metrics_(&registry_) {
    FakeModelOptions model;
    model.vocab_size = 31;
    model.num_layers = kLayers;
    model.context_length = kPromptMax + 200;
    model.on_forward = [this](const model::StepInput& input) { let_time_pass(input); };
    runtime::EngineOptions options;
    options.max_num_seqs = 32;
    options.kv_cache_bytes =
        int64_t{32} * kLayers * (model.context_length + 64) * int64_t{sizeof(uint64_t)};
    options.queue_wait_max_us = int64_t{1} << 40;
    options.target_itl_us = target_itl_us;
    auto fake = std::make_unique<FakeModel>(model);
    options_ = *runtime::resolve_options(options, fake->info());
    core_ = std::make_unique<runtime::EngineCore>(std::move(fake), options_, &clock_, &metrics_);
  }

  Outcome run(const Load& load) {
    Outcome outcome;
    size_t next = 0;
    while (next < load.arrivals.size() || !core_->idle()) {
      if (core_->idle() && load.arrivals[next] > clock_.now_us()) {
        clock_.advance_us(load.arrivals[next] - clock_.now_us());
      }
      for (; next < load.arrivals.size() && load.arrivals[next] <= clock_.now_us(); ++next) {
        submit(load, next);
      }
      EXPECT_TRUE(core_->step().ok());
      note_tokens(load, &outcome);
      core_->notices().left_queue.clear();
      core_->notices().ended.clear();
    }
    outcome.seconds = static_cast<double>(clock_.now_us()) * 1e-6;
    outcome.model_error = core_->step_times().mean_error();
    return outcome;
  }

 private:
  struct Reader {
    std::shared_ptr<runtime::OutputStream> stream;
    TimeUs last_us = -1;
  };

  void let_time_pass(const model::StepInput& input) {
    runtime::StepWork work;
    const size_t steady = input.forms.size() - static_cast<size_t>(input.wave.num_sequences);
    for (size_t s = 0; s < input.forms.size(); ++s) {
      const int32_t first = input.sequence_starts[s], rows = input.sequence_starts[s + 1] - first;
      const int32_t position = input.positions[static_cast<size_t>(first)];
      if (s < steady) work.add(input.forms[s], position, rows);
      if (s >= steady) work.wave.add(position, rows);
    }
    work.wave.share = double{1} * (input.wave.end_layer - input.wave.begin_layer) / kLayers;
    const runtime::StepFactors factors = work.factors(6.0 / 64);
    const double seconds = std::inner_product(factors.begin(), factors.end(), kCosts.begin(), 0.0);
    const double noise = 1 + 0.1 * noise_.between(0, 1000) * 1e-3;
    clock_.advance_us(static_cast<TimeUs>(seconds * noise * 1e6));
  }

  void submit(const Load& load, size_t i) {
    runtime::GenerateRequest request;
    request.id = RequestId{i + 1};
    for (int32_t t = 0; t < load.prompts[i]; ++t) request.prompt.push_back(noise_.between(2, 30));
    request.sampling.max_tokens = load.outputs[i];
    request.sampling.ignore_eos = true;
    auto state = runtime::make_request_state(std::move(request), {.seed = i,
                                                                  .enable_prefix_caching = false,
                                                                  .vocab_size = 31,
                                                                  .now_us = clock_.now_us(),
                                                                  .stream_events_max = 1024});
    readers_[i].stream = state->stream;
    core_->add(std::move(state));
  }

  void note_tokens(const Load& load, Outcome* outcome) {
    const TimeUs now_us = clock_.now_us();
    for (auto& [i, reader] : readers_) {
      while (const auto event = reader.stream->try_pop()) {
        if (event->kind != runtime::StreamEvent::Kind::kToken) continue;
        if (reader.last_us >= 0) {
          outcome->gaps.push_back(static_cast<double>(now_us - reader.last_us) * 1e-6);
        } else if (load.prompts[i] < 64) {
          outcome->short_waits.push_back(static_cast<double>(now_us - load.arrivals[i]) * 1e-6);
        }
        reader.last_us = now_us;
      }
    }
  }

  Metrics registry_;
  runtime::EngineMetrics metrics_;
  ManualClock clock_;
  SimRandom noise_{99};
  runtime::EngineOptions options_;
  std::unique_ptr<runtime::EngineCore> core_;
  std::map<size_t, Reader> readers_;
};

Outcome run(int64_t target_itl_us, double requests_per_s) {
  PacedEngine engine(target_itl_us);
  const Outcome outcome = engine.run(draw_load(first_seed(), requests_per_s));
  std::printf(
      "target %3.0f ms, %.3f requests/s: %.0f s, between tokens p50 %.1f p99 %.1f ms, "
      "first token of short prompts p50 %.0f p99 %.0f ms, error of the model %.3f\n",
      static_cast<double>(target_itl_us) * 1e-3, requests_per_s, outcome.seconds,
      1e3 * Outcome::quantile(outcome.gaps, 0.5), 1e3 * Outcome::quantile(outcome.gaps, 0.99),
      1e3 * Outcome::quantile(outcome.short_waits, 0.5),
      1e3 * Outcome::quantile(outcome.short_waits, 0.99), outcome.model_error);
  return outcome;
}

TEST(PaceTest, DecodesKeepTheirPaceUnderOpenLoad) {
  constexpr int64_t kTargetUs = 150'000;
  const double capacity = kRequests / run(kTargetUs, 0).seconds;
  run(0, 0.8 * capacity);
  for (const double load : {0.5, 0.8, 1.2}) {
    const Outcome outcome = run(kTargetUs, load * capacity);
    // The noise, and what the model does not know, on top of the target.
    EXPECT_LT(Outcome::quantile(outcome.gaps, 0.99), 1.2 * kTargetUs * 1e-6) << load;
    if (load == 0.8) {
      EXPECT_LT(Outcome::quantile(outcome.gaps, 0.99), 1.5 * Outcome::quantile(outcome.gaps, 0.5));
    }
  }
}

}  // namespace
}  // namespace mole::sim
