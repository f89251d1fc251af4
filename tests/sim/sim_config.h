// What one simulated history is like: sizes of the engine, habits of the clients, and which faults
// happen. Each seed leaves out a random part of the features (a swarm): bugs that one feature would
// hide from another get their chance.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "runtime/engine.h"
#include "tests/sim/fake_model.h"
#include "tests/sim/fake_swap.h"
#include "tests/sim/sim_random.h"

namespace mole::sim {

struct SimConfig {
  FakeModelOptions model;
  runtime::EngineOptions engine;
  int32_t num_requests = 0;
  int32_t arrival_odds = 1;  // a request comes once in so many steps

  // The swap file behind the prefix cache; 0 slots = none.
  uint64_t swap_slots = 0;
  TimeUs swap_page_us = 0;
  SwapFaults swap_faults;
  int32_t restart_after = -1;  // so many requests; their end is waited for, then the engine is new

  bool timed = false;  // a step takes as long as its work, else no time

  // The swarm.
  bool bursts = false;  // many requests in one step
  bool duplicate_prompts = false;
  bool conversations = false;  // prompts that continue an earlier request's output
  bool several_sequences = false;
  bool priorities = false;
  bool deadlines = false;
  bool disconnects = false;
  bool cancels_of_one = false;
  bool slow_readers = false;
  bool scored_prompts = false;
  bool filters_and_penalties = false;
  bool salts = false;
};

inline void draw_swap(SimRandom& random, SimConfig* config) {
  const auto odds = [&] { return random.pick<int32_t>({0, 0, 0, 4, 20}); };
  config->swap_slots = static_cast<uint64_t>(random.between(1, 40));
  config->swap_page_us = random.pick<int32_t>({10, 100, 2000});
  config->swap_faults = {
      .slow = odds(), .io_error = odds(), .rot = odds(), .torn = odds(), .misdirected = odds()};
  config->duplicate_prompts = true;  // nothing is found again otherwise
  if (random.one_in(2)) config->restart_after = random.between(1, config->num_requests);
  config->engine.kv_swap_file = "simulated";
  config->engine.kv_cache_bytes += int64_t{model::kBlockTokens} * sizeof(uint64_t);
}

inline void draw_speculation(SimRandom& random, SimConfig* config) {
  using runtime::SpeculativeMethod;
  runtime::EngineOptions& engine = config->engine;
  engine.speculative_method = random.pick<SpeculativeMethod>(
      {SpeculativeMethod::kNone, SpeculativeMethod::kNgram, SpeculativeMethod::kMtp});
  engine.num_speculative_tokens = random.between(1, 5);
  engine.prompt_lookup_min = random.between(1, 2);
  engine.prompt_lookup_max = random.between(2, 4);
  config->model.habit = random.pick<float>({0, 6, 14});
  config->model.mtp = engine.speculative_method == SpeculativeMethod::kMtp;
}

inline SimConfig draw_config(uint64_t seed) {
  SimRandom random(seed);
  SimConfig config;
  config.model.vocab_size = 31;
  config.model.context_length = 64 * random.between(2, 4) + random.between(-1, 1);
  config.model.eos_token_ids = {1};

  runtime::EngineOptions& engine = config.engine;
  engine.max_model_len = config.model.context_length;
  engine.max_num_seqs = random.between(1, 8);
  engine.max_num_batched_tokens =
      std::max(engine.max_num_seqs, random.pick<int32_t>({1, 16, 65, 128, 300}));
  const int32_t blocks_per_sequence = (engine.max_model_len + 63) / 64;
  const int32_t blocks = blocks_per_sequence +
                         random.between(0, random.pick<int32_t>({1, 1, 3}) * engine.max_num_seqs);
  const int64_t block_bytes = int64_t{model::kBlockTokens} * sizeof(uint64_t);
  engine.kv_cache_bytes = blocks * block_bytes;
  engine.stream_events_max = 24;
  engine.enable_prefix_caching = !random.one_in(4);
  engine.queue_wait_max_us = random.one_in(3) ? 200'000 : 1'000'000'000;

  config.num_requests = random.between(6, 60);
  config.arrival_odds = random.pick<int32_t>({1, 1, 3, 20});
  for (bool* feature : {&config.bursts, &config.duplicate_prompts, &config.conversations,
                        &config.several_sequences, &config.priorities, &config.deadlines,
                        &config.disconnects, &config.cancels_of_one, &config.slow_readers,
                        &config.scored_prompts, &config.filters_and_penalties, &config.salts}) {
    *feature = random.one_in(2);
  }
  // Drawn last: what a seed meant before swapping, it still means.
  if (config.engine.enable_prefix_caching && random.one_in(2)) draw_swap(random, &config);
  draw_speculation(random, &config);
  config.timed = random.one_in(2);
  config.engine.target_itl_us = random.pick<int64_t>({0, 300, 1000, 5000});
  config.engine.prefill_chunk_min = random.pick<int32_t>({1, 16, 64});
  config.engine.prefill_wave_tokens = random.pick<int32_t>({0, 20, 100, 1000});
  config.model.num_layers = random.pick<int32_t>({1, 2, 3, 7});
  // As many blocks with more layers.
  config.engine.kv_cache_bytes *= config.model.num_layers + (config.model.mtp ? 1 : 0);
  return config;
}

}  // namespace mole::sim
