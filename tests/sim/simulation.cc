#include "tests/sim/simulation.h"

#include <algorithm>
#include <utility>

#include "runtime/validate.h"

namespace mole::sim {
namespace {

// Far more steps than any history needs: beyond that something stands still.
constexpr int64_t kStepsMax = 60'000;

// Tokens that pass the model in a step, those of a wave as far as they come.
TimeUs passed_tokens(const model::StepInput& input, int32_t num_layers) {
  const size_t steady = input.forms.size() - static_cast<size_t>(input.wave.num_sequences);
  const auto before = static_cast<TimeUs>(input.sequence_starts[steady]);
  const auto all = static_cast<TimeUs>(input.token_ids.size());
  return before + (all - before) * (input.wave.end_layer - input.wave.begin_layer) / num_layers;
}

}  // namespace

Simulation::Simulation(uint64_t seed, runtime::EngineMetrics* metrics)
    : config_(draw_config(seed)),
      random_(seed ^ 0x5115),
      metrics_(metrics),
      fairness_(config_.engine.max_num_seqs) {
  if (config_.swap_slots > 0) {
    swap_store_ =
        std::make_unique<FakeSwapStore>(seed ^ 0x5701, config_.swap_slots, config_.swap_faults);
  }
  make_core();
}

void Simulation::make_core() {
  FakeModelOptions model_options = config_.model;
  if (config_.timed) {
    model_options.on_forward = [this](const model::StepInput& input) {
      clock_.advance_us(50 + 8 * passed_tokens(input, config_.model.num_layers));
    };
  }
  auto model = std::make_unique<FakeModel>(model_options);
  const runtime::EngineOptions options = *runtime::resolve_options(config_.engine, model->info());
  core_ = std::make_unique<runtime::EngineCore>(std::move(model), options, &clock_, metrics_);
  if (swap_store_ != nullptr) {
    auto device = std::make_unique<FakeSwapDevice>(
        random_.bits(), swap_store_.get(), &swap_truth_, &clock_, config_.swap_page_us,
        config_.swap_faults.slow,
        model::kBlockTokens * sizeof(uint64_t) * static_cast<uint64_t>(config_.model.num_layers));
    swap_device_ = device.get();
    core_->use_swap(std::move(device), nullptr);
  }
  bounds_.max_num_seqs = options.max_num_seqs;
  bounds_.max_num_batched_tokens = options.max_num_batched_tokens;
  bounds_.prefill_wave_tokens = options.prefill_wave_tokens;
}

// As after the end of a process: all is gone but the swap file. What was on its way is lost.
void Simulation::restart() {
  hits_before_ += core_->scheduler().prefix_stats().hit_tokens;
  add_swap_counts();
  ++restarts_;
  make_core();
}

void Simulation::add_swap_counts() {
  if (swap_device_ == nullptr) return;
  const runtime::PageSwapper::Stats& stats = core_->scheduler().swapper()->stats();
  pages_loaded_ += stats.pages_loaded;
  for (const int64_t count : stats.refused) pages_refused_ += count;
}

std::string Simulation::run() {
  const auto requests = static_cast<size_t>(config_.num_requests);
  while (clients_.size() < requests || !core_->idle()) {
    if (static_cast<int32_t>(clients_.size()) == config_.restart_after && restarts_ == 0 &&
        core_->idle()) {
      restart();
    }
    if (++step_ > kStepsMax) return "no end after " + std::to_string(step_) + " steps";
    if (const std::string wrong = one_step(); !wrong.empty()) {
      return "step " + std::to_string(step_) + ": " + wrong;
    }
  }
  return check_end();
}

std::string Simulation::one_step() {
  clock_.advance_us(random_.between(100, 3000));
  let_requests_come();
  let_clients_act();
  fairness_.before_step(core_->scheduler());
  const bool idle = core_->idle();
  const Status status = core_->step();
  if (!status.ok()) return std::string(status.message());
  const runtime::StepPlan& plan = *core_->last_plan();
  if (!idle && plan.num_tokens == 0 && plan.expired.empty() && !core_->waits_for_pages()) {
    return "requests wait and nothing runs";
  }
  num_preempted_ += plan.num_preempted;
  num_drafted_ += plan.num_drafts;
  num_wave_steps_ += plan.wave.num_chunks > 0 ? 1 : 0;
  history_ = fake_mix(history_, static_cast<uint64_t>(plan.num_tokens));
  for (std::string wrong :
       {check_blocks(core_->scheduler()), check_swap(core_->scheduler()),
        check_bounds(core_->scheduler(), plan, bounds_),
        check_wave(core_->scheduler(), plan, bounds_), fairness_.after_step(core_->scheduler())}) {
    if (!wrong.empty()) return wrong;
  }
  if (swap_device_ != nullptr && !swap_device_->violation().empty()) {
    return swap_device_->violation();
  }
  for (const auto& client : clients_) {
    if (std::string wrong = client->read(clock_.now_us()); !wrong.empty()) return wrong;
  }
  core_->notices().left_queue.clear();
  core_->notices().ended.clear();
  return "";
}

void Simulation::let_requests_come() {
  const auto left = config_.num_requests - static_cast<int32_t>(clients_.size());
  const bool must_end = static_cast<int32_t>(clients_.size()) == config_.restart_after;
  if (must_end && restarts_ == 0) return;
  if (left == 0 || !random_.one_in(config_.arrival_odds)) return;
  const bool burst = config_.bursts && random_.one_in(4);
  const int32_t count = burst ? std::min(left, random_.between(4, 30)) : 1;
  for (int32_t i = 0; i < count; ++i) {
    submit();
    if (restarts_ == 0 && static_cast<int32_t>(clients_.size()) == config_.restart_after) return;
  }
}

void Simulation::submit() {
  runtime::GenerateRequest request = draw_request();
  const runtime::RequestStateOptions options{
      .seed = 0,
      .enable_prefix_caching = config_.engine.enable_prefix_caching,
      .vocab_size = config_.model.vocab_size,
      .now_us = clock_.now_us(),
      .stream_events_max = static_cast<size_t>(config_.engine.stream_events_max),
      .draft_tokens_max = config_.engine.draft_tokens_max(),
      .ngram = config_.engine.ngram_options()};
  auto client = std::make_unique<SimClient>(request, &config_, clock_.now_us());
  draw_faults(client.get());
  auto state = runtime::make_request_state(std::move(request), options);
  client->attach(state->stream);
  fairness_.note_arrival(*state);
  core_->add(std::move(state));
  clients_.push_back(std::move(client));
}

runtime::GenerateRequest Simulation::draw_request() {
  runtime::GenerateRequest request;
  request.id = RequestId{clients_.size() + 1};
  request.prompt = draw_prompt();
  const int32_t room = config_.engine.max_model_len - static_cast<int32_t>(request.prompt.size());
  draw_sampling(&request.sampling, room);
  if (config_.several_sequences && random_.one_in(3)) request.n = random_.between(2, 4);
  if (config_.priorities) request.priority = random_.between(0, 2);
  if (config_.deadlines && random_.one_in(4)) {
    request.deadline_us = clock_.now_us() + random_.between(1, 200'000);
  }
  if (config_.salts && random_.one_in(3)) request.cache_salt = "another tenant";
  return request;
}

std::vector<TokenId> Simulation::draw_prompt() {
  const int32_t longest = config_.engine.max_model_len;
  std::vector<TokenId> prompt;
  if (!clients_.empty() && config_.duplicate_prompts && random_.one_in(2)) {
    prompt = random_.pick(clients_)->request().prompt;
    if (random_.one_in(2)) return prompt;
    prompt.resize(static_cast<size_t>(random_.between(1, static_cast<int32_t>(prompt.size()))));
  } else if (!clients_.empty() && config_.conversations && random_.one_in(2)) {
    prompt = random_.pick(clients_)->conversation();
  }
  // Around a block's end most mistakes of one token show.
  const int32_t more = random_.one_in(2) ? random_.between(1, 40)
                                         : 64 * random_.between(1, 3) + random_.between(-1, 1) -
                                               static_cast<int32_t>(prompt.size() % 64);
  for (int32_t i = 0; i < more; ++i) {
    prompt.push_back(random_.between(2, config_.model.vocab_size - 1));
  }
  prompt.resize(std::min(prompt.size(), static_cast<size_t>(longest)));
  return prompt;
}

void Simulation::draw_sampling(runtime::SamplingParams* sampling, int32_t room) {
  sampling->seed = random_.between(0, 1'000'000);
  sampling->temperature = random_.one_in(3) ? 0.0 : 1.0;
  sampling->max_tokens = std::min(
      room, random_.one_in(8) ? 0 : random_.between(1, random_.pick<int32_t>({20, 90, 250})));
  sampling->min_tokens = random_.between(0, sampling->max_tokens);
  sampling->ignore_eos = random_.one_in(2);
  if (random_.one_in(4)) sampling->stop_token_ids = {3};
  if (random_.one_in(6)) sampling->logprobs = random_.between(0, 3);
  if (config_.scored_prompts && random_.one_in(4)) sampling->prompt_logprobs = 1;
  if (!config_.filters_and_penalties) return;
  if (random_.one_in(3)) sampling->top_k = random_.between(1, 40);
  if (random_.one_in(3)) sampling->top_p = 0.7;
  if (random_.one_in(3)) sampling->min_p = 0.1;
  if (random_.one_in(3)) sampling->presence_penalty = 0.5;
  if (random_.one_in(3)) sampling->repetition_penalty = 1.2;
}

void Simulation::draw_faults(SimClient* client) {
  const auto soon = [&] { return static_cast<int32_t>(step_) + random_.between(0, 60); };
  if (config_.slow_readers && random_.one_in(5)) client->never_reads = true;
  if (config_.disconnects && random_.one_in(4)) client->disconnect_at_step = soon();
  if (config_.cancels_of_one && random_.one_in(4)) {
    client->cancel_at_step = soon();
    client->cancel_index = random_.between(0, client->request().n - 1);
  }
}

void Simulation::let_clients_act() {
  for (const auto& client : clients_) {
    const RequestId id = client->request().id;
    if (client->disconnect_at_step == step_) {
      client->disconnected = true;
      core_->cancel(id, std::nullopt);
    }
    if (client->cancel_at_step == step_) {
      client->cancelled_one = true;
      core_->cancel(id, client->cancel_index);
    }
  }
}

std::string Simulation::check_end() {
  for (const auto& client : clients_) {
    if (std::string wrong = client->read_all(clock_.now_us()); !wrong.empty()) return wrong;
    num_accepted_ += client->accepted_tokens();
    if (!client->ended()) {
      return "request " + std::to_string(client->request().id.value) + " never ended";
    }
    history_ = fake_mix(history_, client->conversation().size());
  }
  add_swap_counts();
  const runtime::PageSwapper* swapper = core_->scheduler().swapper();
  const int32_t loading = swapper == nullptr ? 0 : swapper->num_loading();
  if (core_->scheduler().pool().num_used() != loading) return "blocks are still in use at the end";
  return "";
}

}  // namespace mole::sim
