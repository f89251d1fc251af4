#include "trainer/data/dataset.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/file.h"

namespace mole::trainer {
namespace {

constexpr size_t kManifestBytesMax = 16u << 20;

Status check_format(const Json& manifest) {
  if (manifest.value("format", "") != "mole-tokens" || manifest.value("version", 0) != 1) {
    return absl::InvalidArgumentError("accepted: \"format\": \"mole-tokens\", \"version\": 1");
  }
  return absl::OkStatus();
}

}  // namespace

void TokenStream::append(Shard shard) {
  if (starts_.empty()) starts_.push_back(0);
  starts_.push_back(starts_.back() + shard.count());
  shards_.push_back(std::move(shard));
}

void TokenStream::read(int64_t begin, std::span<TokenId> out) const {
  MOLE_CHECK_LE(begin + static_cast<int64_t>(out.size()), count());
  size_t shard = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) -
                                     starts_.begin()) -
                 1;
  while (!out.empty()) {
    const int64_t available = starts_[shard + 1] - begin;
    const size_t part = std::min(out.size(), static_cast<size_t>(available));
    shards_[shard].read(begin - starts_[shard], out.subspan(0, part));
    out = out.subspan(part);
    begin += static_cast<int64_t>(part);
    ++shard;
  }
}

StatusOr<TokenDataset> TokenDataset::open(const std::filesystem::path& folder, bool verify) {
  const std::filesystem::path manifest_path = folder / "manifest.json";
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(manifest_path, kManifestBytesMax));
  const StatusOr<Json> parsed = parse_json(text);
  if (!parsed.ok()) return annotate(parsed.status(), manifest_path.string());
  MOLE_RETURN_IF_ERROR(annotate(check_format(*parsed), manifest_path.string()));

  TokenDataset data;
  data.digest_ = sha256_hex(std::as_bytes(std::span(text)));
  try {
    data.vocab_size_ = parsed->at("vocab_size").get<int32_t>();
    data.bos_token_id_ = parsed->at("bos_token_id").get<TokenId>();
    data.eos_token_id_ = parsed->at("eos_token_id").get<TokenId>();
    data.tokenizer_sha256_ = parsed->at("tokenizer_sha256").get<std::string>();
    for (const auto& [name, stream] :
         {std::pair{"train", &data.train_}, std::pair{"heldout", &data.heldout_}}) {
      for (const Json& entry : parsed->at("splits").at(name).at("shards")) {
        const std::filesystem::path path = folder / entry.at("file").get<std::string>();
        MOLE_ASSIGN_OR_RETURN(Shard shard, Shard::open(path, verify));
        if (shard.count() != entry.at("tokens").get<int64_t>()) {
          return absl::DataLossError(path.string() + ": holds " + std::to_string(shard.count()) +
                                     " tokens, the manifest says " + entry.at("tokens").dump());
        }
        stream->append(std::move(shard));
      }
    }
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(manifest_path.string() + ": " + error.what());
  }
  return data;
}

}  // namespace mole::trainer
