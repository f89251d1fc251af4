#include "load_tests/step_floor.h"

#include "base/file.h"
#include "kernels/linear/weight_format.h"

namespace mole::load_tests {

namespace {

using kernels::WeightFormat;

constexpr size_t kConfigBytesMax = size_t{1} << 20;

int64_t integer(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || !found->is_number() ? 0 : found->get<int64_t>();
}

int64_t matrix_bytes(int64_t n, int64_t k, WeightFormat format, DType dtype) {
  if (format == WeightFormat::kPlain) return n * k * dtype_bytes(dtype);
  return n * kernels::code_row_bytes(format, k) +
         kernels::scale_rows(format, n) * kernels::scale_columns(format, k) * 4;
}

}  // namespace

StepFloor step_floor(const Json& config, const model::ModelInfo& info,
                     const std::string& quantization) {
  const WeightFormat format = kernels::format_of(quantization).value_or(WeightFormat::kPlain);
  const int64_t hidden = integer(config, "hidden_size"),
                heads = integer(config, "num_attention_heads");
  int64_t width = integer(config, "moe_intermediate_size");
  if (width == 0) width = integer(config, "intermediate_size");
  const int64_t latent = integer(config, "kv_lora_rank"),
                rope = integer(config, "qk_rope_head_dim");
  const int64_t nope = integer(config, "qk_nope_head_dim"), value = integer(config, "v_head_dim");

  StepFloor floor;
  floor.num_layers = info.num_layers;
  floor.num_moe_layers = info.num_moe_layers;
  if (info.num_moe_layers > 0) {
    floor.expert_bytes = matrix_bytes(2 * width, hidden, format, info.dtype) +
                         matrix_bytes(hidden, width, format, info.dtype);
  }
  const bool tied = config.value("tie_word_embeddings", false);
  const int64_t embedding = int64_t{info.vocab_size} * hidden;
  // kv_b lies there twice: as it is for prompts, and cut by heads for the absorbed form.
  const int64_t kv_b = info.num_layers * heads * (nope + value) * latent * dtype_bytes(info.dtype);
  floor.non_routed_bytes = info.weight_bytes - kv_b - embedding * dtype_bytes(info.dtype) -
                           floor.expert_bytes * info.num_experts * info.num_moe_layers;
  floor.flops_per_token = 2 * (info.num_active_parameters - (tied ? 0 : embedding));
  floor.attention_flops = latent > 0
                              ? 2 * info.num_layers * heads * (nope + rope + value)
                              : 2 * info.num_layers * 2 * heads * integer(config, "head_dim");
  return floor;
}

StatusOr<Json> read_config(const std::filesystem::path& folder) {
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(folder / "config.json", kConfigBytesMax));
  return parse_json(text);
}

}  // namespace mole::load_tests
