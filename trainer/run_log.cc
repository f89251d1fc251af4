#include "trainer/run_log.h"

#include <cmath>
#include <string>

#include "base/log.h"

namespace mole::trainer {
namespace {

Json step_line(const StepRecord& record, const ExpertLoads& loads) {
  Json line = {{"step", record.step},
               {"tokens", record.tokens_seen},
               {"loss", record.loss},
               {"perplexity", std::exp(record.loss)},
               {"learning_rate", record.learning_rate},
               {"grad_norm", record.gradient_norm},
               {"tokens_per_s", record.tokens_per_s}};
  if (loads.empty()) return line;
  const LoadSummary worst = summarize_loads(loads);
  line["balance_loss"] = record.balance_loss;
  line["expert_load"] = {{"min", worst.min_share},
                         {"max", worst.max_share},
                         {"entropy", worst.entropy},
                         {"max_violation", worst.max_violation}};
  return line;
}

Scalars step_scalars(const StepRecord& record, const ExpertLoads& loads) {
  Scalars out = {{"train/loss", record.loss},
                 {"train/perplexity", std::exp(record.loss)},
                 {"train/learning_rate", record.learning_rate},
                 {"train/grad_norm", record.gradient_norm},
                 {"train/tokens_per_s", record.tokens_per_s}};
  for (size_t layer = 0; layer < loads.size(); ++layer) {
    const std::string prefix = "moe_layer_" + std::to_string(layer);
    double total = 0;
    for (int64_t tokens : loads[layer]) total += static_cast<double>(tokens);
    for (size_t e = 0; e < loads[layer].size() && total > 0; ++e) {
      out.emplace_back("expert_load/" + prefix + "/expert_" + std::to_string(e),
                       static_cast<double>(loads[layer][e]) / total);
    }
    out.emplace_back("expert_max_violation/" + prefix, summarize_load(loads[layer]).max_violation);
  }
  return out;
}

}  // namespace

StatusOr<RunLog> RunLog::open(const TrainConfig& config, int64_t step) {
  RunLog out;
  const std::filesystem::path folder = config.output;
  MOLE_ASSIGN_OR_RETURN(out.lines_, JsonlLog::open(folder / "log.jsonl", step));
  if (config.tensorboard) {
    MOLE_ASSIGN_OR_RETURN(out.events_, TensorBoardWriter::create(folder / "events"));
  }
  return out;
}

Status RunLog::step(const StepRecord& record, const ExpertLoads& loads) {
  MOLE_RETURN_IF_ERROR(lines_->write(step_line(record, loads)));
  if (events_) MOLE_RETURN_IF_ERROR(events_->add(record.step, step_scalars(record, loads)));
  log::info("step", {{"step", record.step},
                     {"loss", record.loss},
                     {"learning_rate", record.learning_rate},
                     {"grad_norm", record.gradient_norm},
                     {"tokens_per_s", record.tokens_per_s}});
  return absl::OkStatus();
}

Status RunLog::evaluation(int64_t step, const EvalResult& result) {
  MOLE_RETURN_IF_ERROR(lines_->write({{"step", step}, {"eval", result.to_json()}}));
  if (events_) {
    MOLE_RETURN_IF_ERROR(events_->add(step, {{"eval/loss", result.loss()},
                                             {"eval/perplexity", result.perplexity()},
                                             {"eval/bits_per_byte", result.bits_per_byte()}}));
  }
  log::info("evaluation", {{"step", step},
                           {"loss", result.loss()},
                           {"perplexity", result.perplexity()},
                           {"bits_per_byte", result.bits_per_byte()}});
  return absl::OkStatus();
}

}  // namespace mole::trainer
