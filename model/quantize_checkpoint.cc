#include "model/quantize_checkpoint.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "kernels/linear/quantize.h"
#include "model_loader/checkpoint.h"
#include "model_loader/convert.h"
#include "model_loader/safetensors.h"

namespace mole::model {
namespace {

namespace fs = std::filesystem;
using kernels::WeightFormat;
using loader::StoredFormat;
using loader::TensorView;

/// Endings of the names of matrices that stay as they are: looked up (embeddings), or used in more
/// ways than one (MLA's kv_b), or deciding (router gates).
constexpr std::string_view kKeptEndings[] = {"embed_tokens.weight", "kv_b_proj.weight",
                                             "mlp.gate.weight", "block_sparse_moe.gate.weight"};
const std::string kTableName = "model.embed_tokens.weight", kHeadName = "lm_head.weight";
constexpr std::string_view kHeadEndings[] = {"lm_head.weight", "shared_head.head.weight"};

bool ends_with_any(const std::string& name, std::span<const std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

StoredFormat stored(WeightFormat format) {
  return *loader::stored_format_of(kernels::format_name(format));
}

/// One tensor of the result: copied, or made from `shape` values.
struct Planned {
  std::string name;
  std::string from;  // its name in the source; another for the head that is the embedding table
  const TensorView* source = nullptr;
  WeightFormat format = WeightFormat::kPlain;
  std::vector<int64_t> shape;  // of the values
  int64_t bytes = 0;           // codes and scales, or the copy
};

/// Shape of the values that a tensor of the source stands for.
std::vector<int64_t> value_shape(const loader::Checkpoint& checkpoint, const std::string& name,
                                 const TensorView& tensor) {
  std::vector<int64_t> shape = tensor.shape;
  const auto scales = checkpoint.tensors().find(name + "_scale");
  const bool halved = checkpoint.stored_format() == StoredFormat::kInt4 &&
                      tensor.dtype == DType::kUInt8 && scales != checkpoint.tensors().end() &&
                      shape.size() == 2;
  // An odd last column can't be seen from the codes; no published width is odd.
  if (halved && scales->second.shape.back() > 1) shape[1] *= 2;
  return shape;
}

/// What tensor `from` of the source becomes under the name `name`.
Planned plan_tensor(const loader::Checkpoint& checkpoint, const std::string& from,
                    const std::string& name, WeightFormat wanted) {
  const TensorView& tensor = checkpoint.tensors().at(from);
  Planned entry{name, from, &tensor, WeightFormat::kPlain, value_shape(checkpoint, from, tensor),
                0};
  const bool coded = tensor.dtype == DType::kFloat8E4M3 || tensor.dtype == DType::kUInt8;
  const bool matrix = entry.shape.size() == 2 && name.ends_with(".weight") &&
                      (coded || loader::is_floating(tensor.dtype));
  if (matrix && !ends_with_any(name, kKeptEndings)) {
    const bool head = ends_with_any(name, kHeadEndings);
    entry.format = head && wanted == WeightFormat::kInt4 ? WeightFormat::kInt8 : wanted;
    if (!kernels::can_quantize(entry.format, entry.shape[1])) entry.format = WeightFormat::kPlain;
  }
  if (entry.format != WeightFormat::kPlain) {
    const int64_t n = entry.shape[0], k = entry.shape[1];
    entry.bytes =
        n * kernels::code_row_bytes(entry.format, k) +
        4 * kernels::scale_rows(entry.format, n) * kernels::scale_columns(entry.format, k);
  } else {
    // Codes of the source are written out as bfloat16.
    int64_t elements = 1;
    for (const int64_t extent : entry.shape) elements *= extent;
    entry.bytes = coded ? 2 * elements : static_cast<int64_t>(tensor.bytes.size());
  }
  return entry;
}

bool is_tied(const Json& config) {
  const auto tied = config.find("tie_word_embeddings");
  return tied != config.end() && tied->is_boolean() && tied->get<bool>();
}

/// A head that is the embedding table is quantised on load, the table is not: they become two.
std::vector<Planned> make_plan(const loader::Checkpoint& checkpoint, WeightFormat wanted) {
  const bool tied = is_tied(checkpoint.config());
  std::vector<Planned> plan;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (name.ends_with("_scale_inv") || name.ends_with("_scale")) continue;  // with their codes
    if (tied && name == kHeadName) continue;                                 // nobody reads it
    plan.push_back(plan_tensor(checkpoint, name, name, wanted));
    if (tied && name == kTableName) {
      plan.push_back(plan_tensor(checkpoint, name, kHeadName, wanted));
    }
  }
  return plan;
}

/// The plan cut into files.
std::vector<std::span<const Planned>> make_shards(const std::vector<Planned>& plan,
                                                  int64_t shard_bytes) {
  std::vector<std::span<const Planned>> shards;
  size_t first = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (i > first && bytes + plan[i].bytes > shard_bytes) {
      shards.push_back(std::span(plan).subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += plan[i].bytes;
  }
  shards.push_back(std::span(plan).subspan(first));
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  const auto five = [](size_t number) {
    const std::string digits = std::to_string(number);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return "model-" + five(index + 1) + "-of-" + five(count) + ".safetensors";
}

class ShardWriter {
 public:
  ShardWriter(loader::TensorSource* source, kernels::ThreadTeam* team)
      : source_(*source), team_(*team) {}

  Status write(std::span<const Planned> shard, const fs::path& path) {
    tensors_.clear();
    memory_.clear();
    for (const Planned& entry : shard) {
      if (entry.format != WeightFormat::kPlain) {
        MOLE_RETURN_IF_ERROR(add_quantized(entry));
      } else if (entry.source->dtype == DType::kFloat8E4M3 ||
                 entry.source->dtype == DType::kUInt8) {
        add_values(entry);
      } else {
        tensors_[entry.name] = *entry.source;
      }
    }
    return loader::write_safetensors(path, tensors_, {{"format", "pt"}});
  }

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  std::span<std::byte> reserve(int64_t bytes) {
    return memory_.emplace_back(static_cast<size_t>(bytes));
  }

  std::vector<BFloat16>& read(const Planned& entry) {
    values_.resize(static_cast<size_t>(entry.shape[0] * entry.shape[1]));
    source_.read(entry.from, entry.shape, DType::kBFloat16, values_.data());
    return values_;
  }

  void add_values(const Planned& entry) {
    const auto bytes = std::as_bytes(std::span(read(entry)));
    const auto copy = reserve(static_cast<int64_t>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), copy.begin());
    tensors_[entry.name] = {DType::kBFloat16, entry.shape, copy};
  }

  Status add_quantized(const Planned& entry) {
    const int64_t n = entry.shape[0], k = entry.shape[1];
    const StoredFormat format = stored(entry.format);
    const auto codes = reserve(n * kernels::code_row_bytes(entry.format, k));
    const auto scales =
        reserve(4 * kernels::scale_rows(entry.format, n) * kernels::scale_columns(entry.format, k));
    if (!kernels::quantize(entry.format, read(entry).data(), n, k, codes.data(),
                           reinterpret_cast<float*>(scales.data()), team_)) {
      return absl::DataLossError("tensor " + entry.name +
                                 ": a value is not finite, so it can't be quantised");
    }
    tensors_[entry.name] = {loader::code_dtype(format), loader::code_shape(format, n, k), codes};
    tensors_[loader::scale_name(format, entry.name)] = {DType::kFloat32,
                                                        loader::scale_shape(format, n, k), scales};
    return absl::OkStatus();
  }

  loader::TensorSource& source_;
  kernels::ThreadTeam& team_;
  std::map<std::string, TensorView> tensors_;
  std::vector<std::vector<std::byte>> memory_;  // of the shard
  std::vector<BFloat16> values_;
};

/// All that is no weight: tokenizer, templates, generation_config.json.
Status copy_others(const fs::path& in, const fs::path& out) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(in, error)) {
    const fs::path name = entry.path().filename();
    const bool weights =
        name.extension() == ".safetensors" || name == "model.safetensors.index.json";
    if (weights || name == "config.json" || !entry.is_regular_file()) continue;
    fs::copy_file(entry.path(), out / name, error);
    if (error) break;
  }
  if (!error) return absl::OkStatus();
  return absl::InternalError("cannot copy " + in.string() + " to " + out.string() + ": " +
                             error.message());
}

Status check_out(const fs::path& out) {
  std::error_code error;
  fs::create_directories(out, error);
  if (error) {
    return absl::InternalError("cannot create " + out.string() + ": " + error.message());
  }
  if (!fs::is_empty(out, error)) {
    return absl::InvalidArgumentError(out.string() + " is not empty; give a new folder");
  }
  return absl::OkStatus();
}

StatusOr<WeightFormat> wanted_format(const std::string& name, StoredFormat before) {
  const auto format = kernels::format_of(name);
  if (!format.has_value() || *format == WeightFormat::kPlain) {
    std::string accepted;
    for (const WeightFormat known : kernels::kQuantizedFormats) {
      accepted += (accepted.empty() ? "" : ", ") + std::string(kernels::format_name(known));
    }
    return absl::InvalidArgumentError("format is \"" + name + "\"; accepted: " + accepted);
  }
  if (stored(*format) == before) {
    return absl::InvalidArgumentError("format is \"" + name + "\", which the checkpoint is in");
  }
  return *format;
}

}  // namespace

StatusOr<QuantizeReport> quantize_checkpoint(const fs::path& in, const fs::path& out,
                                             const QuantizeOptions& options) {
  MOLE_ASSIGN_OR_RETURN(const auto checkpoint, loader::Checkpoint::open(in));
  MOLE_ASSIGN_OR_RETURN(const WeightFormat wanted,
                        wanted_format(options.format, checkpoint->stored_format()));
  MOLE_RETURN_IF_ERROR(check_out(out));
  const std::vector<Planned> plan = make_plan(*checkpoint, wanted);
  const auto shards = make_shards(plan, options.shard_bytes);
  loader::TensorSource source(checkpoint);
  kernels::ThreadTeam team(options.threads);
  ShardWriter writer(&source, &team);
  QuantizeReport report;
  report.bytes_before = checkpoint->weight_bytes();
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    MOLE_RETURN_IF_ERROR(writer.write(shards[i], out / name));
    for (const auto& [tensor, view] : writer.tensors()) {
      weight_map[tensor] = name;
      report.bytes_after += static_cast<int64_t>(view.bytes.size());
    }
  }
  loader::LoadReport read = source.finish();
  read.unused.clear();  // what was copied was not read
  MOLE_RETURN_IF_ERROR(annotate(read.status(), in.string()));
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", report.bytes_after}}},
                        {"weight_map", weight_map}};
    MOLE_RETURN_IF_ERROR(
        write_file_atomic(out / "model.safetensors.index.json", index.dump(2) + "\n"));
  }
  report.tensors = static_cast<int64_t>(plan.size());
  report.quantized = std::count_if(plan.begin(), plan.end(), [](const Planned& entry) {
    return entry.format != WeightFormat::kPlain;
  });
  MOLE_RETURN_IF_ERROR(copy_others(in, out));
  Json config = checkpoint->config();
  if (is_tied(config)) config["tie_word_embeddings"] = false;
  config["quantization_config"] = loader::quantization_config(stored(wanted));
  MOLE_RETURN_IF_ERROR(write_file_atomic(out / "config.json", config.dump(2) + "\n"));
  return report;
}

}  // namespace mole::model
