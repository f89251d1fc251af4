#include "server/sampling_defaults.h"

#include <limits>

#include "base/file.h"
#include "base/json.h"
#include "server/field_reader.h"

namespace mole::server {
namespace {

constexpr size_t kFileBytesMax = 1u << 20;

}  // namespace

StatusOr<SamplingDefaults> load_sampling_defaults(const std::filesystem::path& model_folder) {
  const auto path = model_folder / "generation_config.json";
  SamplingDefaults defaults;
  const auto text = read_file(path, kFileBytesMax);
  if (absl::IsNotFound(text.status())) return defaults;
  MOLE_RETURN_IF_ERROR(annotate(text.status(), path.string()));
  const auto json = parse_json(*text);
  MOLE_RETURN_IF_ERROR(annotate(json.status(), path.string()));

  FieldReader fields(*json);
  constexpr int64_t kIntMax = std::numeric_limits<int32_t>::max();
  defaults.temperature = fields.number("temperature", defaults.temperature, 0, 2);
  defaults.top_p = fields.number_above("top_p", defaults.top_p, 0, 1);
  defaults.min_p = fields.number("min_p", defaults.min_p, 0, 1);
  defaults.repetition_penalty =
      fields.number_above("repetition_penalty", defaults.repetition_penalty, 0, 10);
  defaults.top_k = fields.integer("top_k", defaults.top_k, 0, kIntMax);
  if (fields.find("max_new_tokens") != nullptr) {
    defaults.max_new_tokens = fields.integer("max_new_tokens", 1, 1, kIntMax);
  }
  if (fields.failed()) {
    return absl::InvalidArgumentError(path.string() + ": " + fields.error()->message);
  }
  return defaults;
}

}  // namespace mole::server
