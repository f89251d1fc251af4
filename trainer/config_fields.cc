#include "trainer/config_fields.h"

#include <charconv>
#include <cstdlib>
#include <sstream>

namespace mole::trainer {
namespace {

constexpr double kCountMax = 1e15;

bool is_choice(const std::string& choices, const std::string& text) {
  std::stringstream list(choices);
  for (std::string choice; std::getline(list, choice, '|');) {
    if (choice == text) return true;
  }
  return choices.find('|') == std::string::npos;
}

std::string number_text(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

bool parse_number(const std::string& text, double* value) {
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return !text.empty() && end == text.c_str() + text.size();
}

bool parse_integer(const std::string& text, int64_t* value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return code == std::errc() && end == text.data() + text.size();
}

}  // namespace

Status ConfigField::set(const std::string& text) const {
  const auto refuse = [&](const std::string& accepted) {
    return absl::InvalidArgumentError(key + ": '" + text + "', accepted: " + accepted);
  };
  const std::string range = number_text(min) + " to " + number_text(max);
  if (auto* target = std::get_if<std::string*>(&value)) {
    if (!is_choice(unit, text)) return refuse(unit);
    **target = text;
  } else if (auto* flag = std::get_if<bool*>(&value)) {
    if (text != "true" && text != "false") return refuse("true, false");
    **flag = text == "true";
  } else if (auto* integer = std::get_if<int64_t*>(&value)) {
    int64_t parsed = 0;
    if (!parse_integer(text, &parsed)) return refuse("a whole number, " + range);
    if (static_cast<double>(parsed) < min || static_cast<double>(parsed) > max)
      return refuse(range);
    **integer = parsed;
  } else {
    double parsed = 0;
    if (!parse_number(text, &parsed)) return refuse("a number, " + range);
    if (!(parsed >= min && parsed <= max)) return refuse(range);
    *std::get<double*>(value) = parsed;
  }
  return absl::OkStatus();
}

Json ConfigField::get() const {
  return std::visit([](auto* target) { return Json(*target); }, value);
}

std::vector<ConfigField> config_fields(TrainConfig* c) {
  return {
      {"run.output", &c->output, 0, 0, "folder", "checkpoints, log.jsonl and events go here",
       false},
      {"run.seed", &c->seed, 0, kCountMax, "", "of initial weights and of the order of the data"},
      {"run.threads", &c->threads, 0, 1024, "threads", "0 = all cores; the bits don't depend on it",
       false},
      {"run.dtype", &c->dtype, 0, 0, "float32|bfloat16",
       "of weights as used and of activations; masters stay float32"},
      {"data.folder", &c->data, 0, 0, "folder", "what `trainer data tokenize` wrote", false},
      {"data.tokenizer", &c->tokenizer, 0, 0, "folder", "holds tokenizer.json", false},
      {"data.sequence_length", &c->sequence_length, 2, 1 << 20, "tokens", "of a training window"},
      {"data.window_bos", &c->window_bos, 0, 0, "",
       "put BOS before each window, as serving puts it before each prompt"},
      {"train.steps", &c->steps, 1, kCountMax, "optimizer steps", "of the whole run"},
      {"train.stop_after", &c->stop_after, 0, kCountMax, "optimizer steps",
       "end early with a checkpoint, the schedule unchanged; 0 = don't", false},
      {"train.batch_sequences", &c->batch_sequences, 1, 1 << 20, "windows",
       "of one optimizer step"},
      {"train.micro_batch_sequences", &c->micro_batch_sequences, 0, 1 << 20, "windows",
       "computed at once; the rest is accumulated; 0 = the whole batch"},
      {"optimizer.learning_rate", &c->learning_rate, 0, 10, "", "peak"},
      {"optimizer.min_learning_rate", &c->min_learning_rate, 0, 10, "", "at the last step"},
      {"optimizer.warmup_steps", &c->warmup_steps, 0, kCountMax, "optimizer steps",
       "linear from zero to the peak"},
      {"optimizer.schedule", &c->schedule, 0, 0, "cosine|linear|wsd|constant",
       "after the warm-up; wsd stays at the peak until decay_steps before the end"},
      {"optimizer.decay_steps", &c->decay_steps, 0, kCountMax, "optimizer steps", "of wsd"},
      {"optimizer.beta1", &c->beta1, 0, 1, "", "AdamW: decay of the first moment"},
      {"optimizer.beta2", &c->beta2, 0, 1, "", "AdamW: decay of the second moment"},
      {"optimizer.eps", &c->eps, 0, 1, "", "AdamW: added to the root of the second moment"},
      {"optimizer.weight_decay", &c->weight_decay, 0, 10, "", "AdamW: of matrices only"},
      {"optimizer.clip_norm", &c->clip_norm, 0, 1e9, "",
       "of all gradients together; 0 = don't clip"},
      {"router.bias_update_speed", &c->bias_update_speed, 0, 1, "",
       "step of the selection bias towards equal load, once per optimizer step; 0 = fixed"},
      {"router.balance_loss", &c->balance_loss, 0, 1, "",
       "coefficient of the sequence-wise auxiliary loss; 0 = none"},
      {"eval.every", &c->eval_every, 0, kCountMax, "optimizer steps", "0 = never", false},
      {"eval.sequences", &c->eval_sequences, 0, kCountMax, "windows",
       "from the start of the held-out tokens; 0 = all", false},
      {"checkpoint.every", &c->checkpoint_every, 0, kCountMax, "optimizer steps",
       "0 = only at the end", false},
      {"checkpoint.keep", &c->checkpoint_keep, 2, 1000, "checkpoints", "older ones are deleted",
       false},
      {"log.every", &c->log_every, 1, kCountMax, "optimizer steps", "between lines of log.jsonl",
       false},
      {"log.tensorboard", &c->tensorboard, 0, 0, "", "write TensorBoard event files too", false},
  };
}

}  // namespace mole::trainer
