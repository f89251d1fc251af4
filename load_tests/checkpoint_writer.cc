#include "load_tests/checkpoint_writer.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/file.h"
#include "load_tests/bench_models.h"
#include "load_tests/random_values.h"
#include "model_loader/safetensors.h"

namespace mole::load_tests {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kChunk = int64_t{1} << 20;  // elements one thread fills at a time

struct Shard {
  std::vector<const TensorSpec*> tensors;
  int64_t bytes = 0;
};

DType dtype_of(const TensorSpec& spec, DType model) {
  return spec.always_float32 ? DType::kFloat32 : model;
}

int64_t bytes_of(const TensorSpec& spec, DType model) {
  return spec.num_elements() * dtype_bytes(dtype_of(spec, model));
}

std::vector<Shard> cut(const std::vector<TensorSpec>& specs, DType dtype, int64_t bytes_max) {
  std::vector<Shard> shards(1);
  for (const TensorSpec& spec : specs) {
    const int64_t bytes = bytes_of(spec, dtype);
    if (shards.back().bytes > 0 && shards.back().bytes + bytes > bytes_max) shards.emplace_back();
    shards.back().tensors.push_back(&spec);
    shards.back().bytes += bytes;
  }
  return shards;
}

void fill_constant(const TensorSpec& spec, DType dtype, std::byte* out) {
  const float value = spec.fill == Fill::kOnes ? 1.0f : 0.0f;
  for (int64_t i = 0; i < spec.num_elements(); ++i) {
    if (dtype == DType::kFloat32) {
      std::memcpy(out + i * 4, &value, 4);
    } else {
      const BFloat16 rounded = to_bfloat16(value);
      std::memcpy(out + i * 2, &rounded, 2);
    }
  }
}

/// Thread `t` of `threads` takes every threads-th chunk.
void fill_part(const TensorSpec& spec, DType dtype, uint64_t seed, int32_t t, int32_t threads,
               std::byte* out) {
  if (spec.fill != Fill::kNormal) {
    if (t == 0) fill_constant(spec, dtype, out);
    return;
  }
  const uint64_t key = stream_key(seed, spec.name);
  const int64_t count = spec.num_elements();
  for (int64_t first = t * kChunk; first < count; first += threads * kChunk) {
    fill_normal(key, first, std::min(kChunk, count - first), spec.standard_deviation, dtype,
                out + first * dtype_bytes(dtype));
  }
}

class Writer {
 public:
  Writer(const fs::path& folder, DType dtype, const WriteOptions& options, int64_t buffer_bytes)
      : folder_(folder),
        dtype_(dtype),
        options_(options),
        buffer_(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(buffer_bytes))) {}

  Status write(const Shard& shard, const std::string& name) {
    fill(shard);
    std::map<std::string, loader::TensorView> views;
    std::byte* at = buffer_.get();
    for (const TensorSpec* spec : shard.tensors) {
      const auto bytes = static_cast<size_t>(bytes_of(*spec, dtype_));
      views[spec->name] = {dtype_of(*spec, dtype_), spec->shape, {at, bytes}};
      at += bytes;
    }
    return loader::write_safetensors(folder_ / name, views, {{"format", "pt"}});
  }

 private:
  void fill(const Shard& shard) {
    const int32_t count = std::max(options_.threads, 1);
    const auto work = [&](int32_t t) {
      std::byte* at = buffer_.get();
      for (const TensorSpec* spec : shard.tensors) {
        fill_part(*spec, dtype_of(*spec, dtype_), options_.seed, t, count, at);
        at += bytes_of(*spec, dtype_);
      }
    };
    std::vector<std::thread> threads;
    for (int32_t t = 1; t < count; ++t) threads.emplace_back(work, t);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

  fs::path folder_;
  DType dtype_;
  WriteOptions options_;
  std::unique_ptr<std::byte[]> buffer_;
};

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

Status write_shards(const fs::path& folder, const std::vector<TensorSpec>& specs, DType dtype,
                    const WriteOptions& options, Written* written) {
  const std::vector<Shard> shards = cut(specs, dtype, options.shard_bytes_max);
  int64_t largest = 0;
  for (const Shard& shard : shards) largest = std::max(largest, shard.bytes);
  Writer writer(folder, dtype, options, largest);
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    for (const TensorSpec* spec : shards[i].tensors) {
      map[spec->name] = name;
      written->parameters += spec->num_elements();
    }
    written->bytes += shards[i].bytes;
    MOLE_RETURN_IF_ERROR(writer.write(shards[i], name));
  }
  written->shards = static_cast<int64_t>(shards.size());
  if (shards.size() == 1) return absl::OkStatus();
  const Json index = {{"metadata", {{"total_size", written->bytes}}}, {"weight_map", map}};
  return write_file_atomic(folder / "model.safetensors.index.json", index.dump(1));
}

Status copy_tokenizer(const fs::path& from, const fs::path& folder) {
  if (!fs::exists(from / "tokenizer.json")) {
    return absl::InvalidArgumentError("tokenizer-from is \"" + from.string() +
                                      "\"; a folder with tokenizer.json is accepted");
  }
  std::error_code error;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    if (!fs::exists(from / name)) continue;
    fs::copy_file(from / name, folder / name, error);
    if (error)
      return absl::InternalError("cannot copy " + std::string(name) + ": " + error.message());
  }
  return absl::OkStatus();
}

Status write_filler_tokenizer(const Json& config, const fs::path& folder) {
  const int64_t bos = config.at("bos_token_id"), eos = config.at("eos_token_id");
  const Json tokenizer = filler_tokenizer(config.at("vocab_size"), bos, eos);
  MOLE_RETURN_IF_ERROR(write_file_atomic(folder / "tokenizer.json", tokenizer.dump()));
  const Json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                         {"add_bos_token", true},
                         {"bos_token", "<|bos|>"},
                         {"eos_token", "<|eos|>"},
                         {"clean_up_tokenization_spaces", false},
                         {"model_max_length", config.at("max_position_embeddings")}};
  return write_file_atomic(folder / "tokenizer_config.json", settings.dump(1) + "\n");
}

}  // namespace

StatusOr<Written> write_checkpoint(const fs::path& folder, const Json& config,
                                   const WriteOptions& options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_empty(folder, error) || error) {
    return absl::InvalidArgumentError("output \"" + folder.string() +
                                      "\" can't be made or is not empty; a new folder is accepted");
  }
  const DType dtype = config.at("torch_dtype") == "float32" ? DType::kFloat32 : DType::kBFloat16;
  if (options.tokenizer_from.empty()) {
    MOLE_RETURN_IF_ERROR(write_filler_tokenizer(config, folder));
  } else {
    MOLE_RETURN_IF_ERROR(copy_tokenizer(options.tokenizer_from, folder));
  }
  Written written;
  MOLE_RETURN_IF_ERROR(write_shards(folder, tensors_of(config), dtype, options, &written));
  MOLE_RETURN_IF_ERROR(write_file_atomic(folder / "config.json", config.dump(2) + "\n"));
  return written;
}

}  // namespace mole::load_tests
