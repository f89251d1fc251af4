#include "base/options.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>

namespace mole {
namespace {

std::string kebab(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string environment_name(const std::string& name) {
  std::string upper = "MOLE_";
  for (char c : name) upper += c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return upper;
}

// Edit distance, for "did you mean".
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t cost = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = row[j];
      row[j] = cost;
    }
  }
  return row[b.size()];
}

// Feeds CLI11 from YAML: flat keys, scalars or lists of scalars.
class YamlConfig : public CLI::Config {
 public:
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    YAML::Node root;
    try {
      root = YAML::Load(input);
    } catch (const YAML::Exception& e) {
      throw CLI::ConversionError("config file is not YAML: " + std::string(e.what()));
    }
    std::vector<CLI::ConfigItem> found;
    if (root.IsNull()) return found;
    if (!root.IsMap()) throw CLI::ConversionError("config file must be a YAML map of options");
    for (const auto& entry : root) {
      CLI::ConfigItem item;
      item.name = kebab(entry.first.as<std::string>());
      // CLI11 reads the file before the environment and keeps the first; the environment must win.
      if (std::getenv(environment_name(item.name).c_str()) != nullptr) continue;
      if (entry.second.IsScalar()) {
        item.inputs.push_back(entry.second.Scalar());
      } else if (entry.second.IsSequence()) {
        for (const auto& element : entry.second) item.inputs.push_back(element.as<std::string>());
      } else {
        throw CLI::ConversionError("config key \"" + item.name + "\" must be a value or a list");
      }
      found.push_back(std::move(item));
    }
    return found;
  }
  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return {}; }
};

}  // namespace

struct Options::Impl {
  CLI::App app;
  std::string program;
  std::vector<std::string> names;
  std::vector<std::function<void(YAML::Emitter&)>> print;

  CLI::Option* finish(CLI::Option* option, const std::string& name) {
    names.push_back(name);
    return option->envname(environment_name(name));
  }
  template <typename T>
  void remember(const std::string& name, const T* value) {
    print.push_back(
        [name, value](YAML::Emitter& out) { out << YAML::Key << name << YAML::Value << *value; });
  }
  std::string suggestion(const std::string& given) const {
    const auto best = std::min_element(names.begin(), names.end(), [&](auto& a, auto& b) {
      return edit_distance(a, given) < edit_distance(b, given);
    });
    if (best == names.end() || edit_distance(*best, given) > 3) return "";
    return "; did you mean \"" + *best + "\"?";
  }
};

Options::Options(std::string program, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->program = program;
  impl_->app.name(std::move(program));
  impl_->app.description(std::move(description));
  impl_->app.config_formatter(std::make_shared<YamlConfig>());
  impl_->app.set_config("--config", "", "YAML file of options")->envname("MOLE_CONFIG");
  impl_->app.allow_config_extras(CLI::config_extras_mode::error);
}

Options::~Options() = default;

void Options::add(const std::string& name, std::string* value, const std::string& help) {
  impl_->finish(impl_->app.add_option("--" + name, *value, help)->capture_default_str(), name);
  impl_->remember(name, value);
}

void Options::add(const std::string& name, bool* value, const std::string& help) {
  // --x, --x=false and --no-x all work.
  impl_->finish(impl_->app.add_flag("--" + name + ",!--no-" + name, *value,
                                    help + (*value ? " [on]" : " [off]")),
                name);
  impl_->remember(name, value);
}

void Options::add(const std::string& name, int64_t* value, int64_t min, int64_t max,
                  const std::string& unit, const std::string& help) {
  impl_->finish(impl_->app.add_option("--" + name, *value, help)
                    ->check(CLI::Range(min, max))
                    ->type_name(unit.empty() ? "N" : unit)
                    ->capture_default_str(),
                name);
  impl_->remember(name, value);
}

void Options::add(const std::string& name, double* value, double min, double max,
                  const std::string& unit, const std::string& help) {
  impl_->finish(impl_->app.add_option("--" + name, *value, help)
                    ->check(CLI::Range(min, max))
                    ->type_name(unit.empty() ? "X" : unit)
                    ->capture_default_str(),
                name);
  impl_->remember(name, value);
}

void Options::add_choice(const std::string& name, std::string* value,
                         const std::vector<std::string>& choices, const std::string& help) {
  std::string listed;
  for (const auto& choice : choices) listed += (listed.empty() ? "" : "|") + choice;
  impl_->finish(impl_->app.add_option("--" + name, *value, help)
                    ->check(CLI::IsMember(choices))
                    ->type_name(listed)
                    ->capture_default_str(),
                name);
  impl_->remember(name, value);
}

void Options::add_list(const std::string& name, std::vector<std::string>* values,
                       const std::string& help) {
  impl_->finish(impl_->app.add_option("--" + name, *values, help)
                    ->type_name("TEXT…")
                    ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                    ->expected(1)
                    ->allow_extra_args(false)
                    ->delimiter('\0'),
                name);
  impl_->remember(name, values);
}

void Options::add_positional(const std::string& name, std::string* value, const std::string& help) {
  impl_->app.add_option(name, *value, help);
}

bool Options::parse(int argc, const char* const* argv, int* exit_code) {
  try {
    impl_->app.parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    std::cout << impl_->app.help();
    *exit_code = kExitOk;
  } catch (const CLI::ConfigError& e) {
    // CLI11's text: "INI was not able to parse KEY"; say it in our words, with a suggestion.
    const std::string text = e.what();
    const std::string key = text.substr(text.find_last_of(' ') + 1);
    std::cerr << impl_->program << ": unknown key \"" << key << "\" in the config file"
              << impl_->suggestion(key) << "\n";
    *exit_code = kExitConfiguration;
  } catch (const CLI::ExtrasError& e) {
    std::string given = e.what();
    given = given.substr(given.find_last_of(' ') + 1);
    std::string bare = given;
    bare.erase(0, bare.find_first_not_of('-'));
    std::cerr << impl_->program << ": unknown argument \"" << given << "\""
              << impl_->suggestion(bare) << "\n";
    *exit_code = kExitUsage;
  } catch (const CLI::FileError& e) {
    std::cerr << impl_->program << ": cannot read the config file: " << e.what() << "\n";
    *exit_code = kExitConfiguration;
  } catch (const CLI::ParseError& e) {
    std::cerr << impl_->program << ": " << e.what() << "\n";
    *exit_code = std::string(e.what()).rfind("config ", 0) == 0 ? kExitConfiguration : kExitUsage;
  }
  return false;
}

std::string Options::to_yaml() const {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const auto& print : impl_->print) print(out);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace mole
