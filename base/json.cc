#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/limit_error.h"

namespace mole {
namespace {

// Builds the value through nlohmann's own SAX builder and stops at the first broken bound.
class BoundedBuilder : public nlohmann::json_sax<Json> {
 public:
  BoundedBuilder(Json* root, const JsonLimits& limits) : builder_(*root, false), limits_(limits) {}

  bool null() override { return node() && builder_.null(); }
  bool boolean(bool v) override { return node() && builder_.boolean(v); }
  bool number_integer(number_integer_t v) override { return node() && builder_.number_integer(v); }
  bool number_unsigned(number_unsigned_t v) override {
    return node() && builder_.number_unsigned(v);
  }
  bool number_float(number_float_t v, const string_t& s) override {
    return node() && builder_.number_float(v, s);
  }
  bool string(string_t& v) override { return node() && builder_.string(v); }
  bool binary(binary_t& v) override { return node() && builder_.binary(v); }
  bool start_object(size_t count) override {
    return node() && enter() && builder_.start_object(count);
  }
  bool start_array(size_t count) override {
    return node() && enter() && builder_.start_array(count);
  }
  bool end_object() override { return leave() && builder_.end_object(); }
  bool end_array() override { return leave() && builder_.end_array(); }

  bool key(string_t& name) override {
    auto& keys = open_.back();
    if (!keys.insert(name).second) return fail("duplicate key \"" + name.substr(0, 64) + "\"");
    if (keys.size() > limits_.object_keys_max) {
      return pass("object_keys_max",
                  "more than " + std::to_string(limits_.object_keys_max) + " keys in one object");
    }
    return node() && builder_.key(name);
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& e) override {
    // nlohmann's text starts with "[json.exception.…] "; the rest says where and what.
    std::string what = e.what();
    const size_t end = what.find("] ");
    if (end != std::string::npos) what.erase(0, end + 2);
    return fail(what + " (byte " + std::to_string(position) + ")");
  }

  Status error() const {
    const Status status = absl::InvalidArgumentError("invalid JSON: " + error_);
    return passed_.empty() ? status : with_passed_limit(status, passed_);
  }

 private:
  bool fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }
  bool pass(std::string_view limit, std::string message) {
    if (error_.empty()) passed_ = limit;
    return fail(std::move(message));
  }
  bool node() {
    if (++nodes_ <= limits_.nodes_max) return true;
    return pass("nodes_max", "more than " + std::to_string(limits_.nodes_max) + " values");
  }
  bool enter() {
    open_.emplace_back();
    if (open_.size() <= limits_.depth_max) return true;
    return pass("depth_max", "nested deeper than " + std::to_string(limits_.depth_max));
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  nlohmann::detail::json_sax_dom_parser<Json> builder_;
  const JsonLimits& limits_;
  std::vector<std::unordered_set<std::string>> open_;  // keys of each open object or array
  size_t nodes_ = 0;
  std::string error_;
  std::string_view passed_;  // the limit that the error is about
};

}  // namespace

StatusOr<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  // nlohmann takes NUL for the end of its input; JSON has no place for one.
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    return absl::InvalidArgumentError("invalid JSON: NUL at byte " + std::to_string(nul));
  }
  Json root;
  BoundedBuilder builder(&root, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return builder.error();
  }
  return root;
}

}  // namespace mole
