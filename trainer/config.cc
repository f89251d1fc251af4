#include "trainer/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <sstream>

#include "base/file.h"
#include "trainer/config_fields.h"

namespace mole::trainer {
namespace {

constexpr size_t kConfigBytesMax = 1u << 20;
constexpr std::string_view kModelSection = "model";

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

Status unknown_key(const std::string& key, const std::vector<ConfigField>& fields) {
  const auto nearest = std::min_element(fields.begin(), fields.end(), [&](auto& a, auto& b) {
    return edit_distance(a.key, key) < edit_distance(b.key, key);
  });
  return absl::InvalidArgumentError(key + ": no such key; did you mean " + nearest->key + "?");
}

/// A plain YAML scalar with JSON's types; a quoted one stays text.
Json scalar_to_json(const YAML::Node& node) {
  const std::string text = node.Scalar();
  if (node.Tag() == "!") return text;
  if (text == "true" || text == "false") return text == "true";
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  int64_t integer = 0;
  const char* end = text.data() + text.size();
  if (auto [at, code] = std::from_chars(text.data(), end, integer);
      code == std::errc() && at == end) {
    return integer;
  }
  double real = 0;
  if (auto [at, code] = std::from_chars(text.data(), end, real); code == std::errc() && at == end) {
    return real;
  }
  return text;
}

Json to_json(const YAML::Node& node) {
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& entry : node) object[entry.first.Scalar()] = to_json(entry.second);
    return object;
  }
  if (node.IsSequence()) {
    Json array = Json::array();
    for (const auto& entry : node) array.push_back(to_json(entry));
    return array;
  }
  return node.IsScalar() ? scalar_to_json(node) : Json(nullptr);
}

Status set_key(const std::string& key, const std::string& text, TrainConfig* config) {
  const auto fields = config_fields(config);
  const auto field =
      std::find_if(fields.begin(), fields.end(), [&](auto& f) { return f.key == key; });
  return field == fields.end() ? unknown_key(key, fields) : field->set(text);
}

Status apply_section(const std::string& section, const YAML::Node& node, TrainConfig* config) {
  if (section == kModelSection) {
    if (!node.IsMap()) return absl::InvalidArgumentError("model: accepted: a mapping");
    config->model = to_json(node);
    return absl::OkStatus();
  }
  if (!node.IsMap()) return unknown_key(section, config_fields(config));
  for (const auto& entry : node) {
    const std::string key = section + "." + entry.first.Scalar();
    if (!entry.second.IsScalar()) return absl::InvalidArgumentError(key + ": accepted: one value");
    MOLE_RETURN_IF_ERROR(set_key(key, entry.second.Scalar(), config));
  }
  return absl::OkStatus();
}

Status apply_setting(const std::string& setting, TrainConfig* config) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError("--set " + setting + ": accepted: section.key=value");
  }
  const std::string key = setting.substr(0, equals), text = setting.substr(equals + 1);
  const std::string model_prefix = std::string(kModelSection) + ".";
  if (key.rfind(model_prefix, 0) == 0) {
    config->model[key.substr(model_prefix.size())] = to_json(YAML::Load(text));
    return absl::OkStatus();
  }
  return set_key(key, text, config);
}

Status check(const TrainConfig& c) {
  for (const auto& [key, value] : {std::pair{"run.output", &c.output},
                                   {"data.folder", &c.data},
                                   {"data.tokenizer", &c.tokenizer}}) {
    if (value->empty()) return absl::InvalidArgumentError(std::string(key) + ": must be given");
  }
  if (c.micro_batch_sequences > 0 && c.batch_sequences % c.micro_batch_sequences != 0) {
    return absl::InvalidArgumentError(
        "train.micro_batch_sequences: " + std::to_string(c.micro_batch_sequences) +
        ", accepted: a divisor of train.batch_sequences (" + std::to_string(c.batch_sequences) +
        ")");
  }
  if (c.min_learning_rate > c.learning_rate) {
    return absl::InvalidArgumentError("optimizer.min_learning_rate: above optimizer.learning_rate");
  }
  if (c.model.empty())
    return absl::InvalidArgumentError("model: must be given (config.json's keys)");
  return absl::OkStatus();
}

void flatten(const Json& value, const std::string& prefix, std::map<std::string, Json>* out) {
  if (!value.is_object()) {
    (*out)[prefix] = value;
    return;
  }
  for (const auto& [key, child] : value.items()) {
    flatten(child, prefix.empty() ? key : prefix + "." + key, out);
  }
}

Json fields_to_json(const TrainConfig& config, bool only_identity) {
  TrainConfig copy = config;  // the table points to mutable fields
  Json out = Json::object();
  for (const ConfigField& field : config_fields(&copy)) {
    if (only_identity && !field.changes_bits) continue;
    const size_t dot = field.key.find('.');
    out[field.key.substr(0, dot)][field.key.substr(dot + 1)] = field.get();
  }
  out[std::string(kModelSection)] = config.model;
  return out;
}

}  // namespace

Schedule TrainConfig::learning_rate_schedule() const {
  Schedule out;
  out.shape = schedule == "linear"     ? ScheduleShape::kLinear
              : schedule == "wsd"      ? ScheduleShape::kWsd
              : schedule == "constant" ? ScheduleShape::kConstant
                                       : ScheduleShape::kCosine;
  out.peak = learning_rate;
  out.minimum = min_learning_rate;
  out.warmup_steps = warmup_steps;
  out.steps = steps;
  out.decay_steps = decay_steps;
  return out;
}

Json TrainConfig::to_json() const { return fields_to_json(*this, false); }

Json TrainConfig::identity() const { return fields_to_json(*this, true); }

StatusOr<TrainConfig> load_config(const std::filesystem::path& path,
                                  const std::vector<std::string>& settings) {
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kConfigBytesMax));
  TrainConfig config;
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(path.string() + ": accepted: a mapping of sections");
    }
    for (const auto& entry : root) {
      MOLE_RETURN_IF_ERROR(
          annotate(apply_section(entry.first.Scalar(), entry.second, &config), path.string()));
    }
    for (const std::string& setting : settings) {
      MOLE_RETURN_IF_ERROR(apply_setting(setting, &config));
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(path.string() + ": " + error.what());
  }
  MOLE_RETURN_IF_ERROR(annotate(check(config), path.string()));
  return config;
}

std::string describe_config() {
  TrainConfig defaults;
  std::ostringstream out;
  for (const ConfigField& field : config_fields(&defaults)) {
    out << "  " << field.key << " (" << (field.unit.empty() ? "" : field.unit + ", ") << "default "
        << field.get().dump() << ")\n      " << field.help << "\n";
  }
  out << "  model.*\n      the keys of a Hugging Face config.json\n";
  return out.str();
}

std::vector<std::string> differences(const Json& before, const Json& now) {
  std::map<std::string, Json> a, b;
  flatten(before, "", &a);
  flatten(now, "", &b);
  std::vector<std::string> out;
  for (const auto& [key, value] : b) {
    const auto old = a.find(key);
    if (old == a.end()) {
      out.push_back(key + ": unset, now " + value.dump());
    } else if (old->second != value) {
      out.push_back(key + ": " + old->second.dump() + ", now " + value.dump());
    }
  }
  for (const auto& [key, value] : a) {
    if (!b.contains(key)) out.push_back(key + ": " + value.dump() + ", now unset");
  }
  return out;
}

}  // namespace mole::trainer
