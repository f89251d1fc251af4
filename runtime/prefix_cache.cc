#include "runtime/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "base/check.h"
#include "base/file.h"
#include "model/model.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {
namespace {

using model::kBlockTokens;

// One round of a multiply-and-fold mixer; only the spread over the buckets depends on its quality.
uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

uint64_t hash_key(const SaltDigest& salt, uint64_t parent, const PrefixCache::Contents& contents) {
  uint64_t hash = mix(parent == 0 ? salt.words[0] : 0, parent);
  if (!injected(InjectedBug::kWrongFormHash)) {
    hash = mix(hash, static_cast<uint64_t>(contents.num_expanded));
  }
  for (const TokenId token : contents.tokens) hash = mix(hash, static_cast<uint32_t>(token));
  return hash;
}

}  // namespace

SaltDigest digest_salt(std::string_view salt) {
  const std::string hex = sha256_hex(std::as_bytes(std::span(salt)));
  SaltDigest digest;
  for (size_t i = 0; i < digest.words.size(); ++i) {
    const char* first = hex.data() + 16 * i;
    std::from_chars(first, first + 16, digest.words[i], 16);
  }
  return digest;
}

PrefixCache::PrefixCache(BlockPool* pool)
    : pool_(pool),
      entries_(pool->num_blocks()),
      tokens_(static_cast<size_t>(pool->num_blocks()) * kBlockTokens),
      buckets_(std::bit_ceil(static_cast<size_t>(pool->num_blocks()) * 2), -1) {}

PrefixCache::Contents PrefixCache::block_contents(std::span<const TokenId> tokens,
                                                  int32_t num_prompt, int32_t block) {
  const int32_t first = block * kBlockTokens;
  return {tokens.subspan(first, kBlockTokens), std::clamp(num_prompt - first, 0, kBlockTokens)};
}

int32_t PrefixCache::find(uint64_t hash, const SaltDigest& salt, uint64_t parent,
                          const Contents& contents) const {
  int32_t block = buckets_[hash & (buckets_.size() - 1)];
  for (; block >= 0; block = entries_[block].next_in_bucket) {
    const Entry& entry = entries_[block];
    if (entry.hash != hash || entry.parent != parent) continue;
    if (parent == 0 && entry.salt != salt) continue;
    if (entry.num_expanded != contents.num_expanded && !injected(InjectedBug::kWrongFormHash)) {
      continue;
    }
    const TokenId* held = tokens_.data() + static_cast<size_t>(block) * kBlockTokens;
    if (std::equal(contents.tokens.begin(), contents.tokens.end(), held)) return block;
  }
  return -1;
}

ChainLink PrefixCache::match(const SaltDigest& salt, std::span<const TokenId> tokens,
                             int32_t num_prompt, int32_t tokens_max, std::vector<BlockId>* blocks) {
  ChainLink link;
  while ((link.blocks + 1) * kBlockTokens <= tokens_max) {
    const Contents contents = block_contents(tokens, num_prompt, link.blocks);
    const uint64_t hash = hash_key(salt, link.serial, contents);
    const int32_t block = find(hash, salt, link.serial, contents);
    if (block < 0) break;
    // The first block of a chain is the one most requests share: forgetting it there shows soonest.
    if (!injected(InjectedBug::kForgottenRefcount) || link.blocks > 0) {
      pool_->add_ref(BlockId{block});
    }
    blocks->push_back(BlockId{block});
    link = {entries_[block].serial, link.blocks + 1};
  }
  return link;
}

ChainLink PrefixCache::publish(BlockId id, const SaltDigest& salt, ChainLink link,
                               const Contents& contents) {
  MOLE_CHECK_EQ(contents.tokens.size(), size_t{kBlockTokens});
  MOLE_CHECK_GT(pool_->refs(id), 0);
  const uint64_t hash = hash_key(salt, link.serial, contents);
  const int32_t equal = find(hash, salt, link.serial, contents);
  if (equal >= 0) return {entries_[equal].serial, link.blocks + 1};
  Entry& entry = entries_[id.value];
  MOLE_CHECK_EQ(entry.serial, uint64_t{0});
  entry = {next_serial_++, hash, link.serial, salt, contents.num_expanded, bucket(hash)};
  bucket(hash) = id.value;
  std::copy(contents.tokens.begin(), contents.tokens.end(),
            tokens_.begin() + static_cast<ptrdiff_t>(id.value) * kBlockTokens);
  ++num_published_;
  return {entry.serial, link.blocks + 1};
}

void PrefixCache::forget(int32_t block) {
  Entry& entry = entries_[block];
  if (entry.serial == 0) return;
  int32_t* at = &bucket(entry.hash);
  while (*at != block) at = &entries_[*at].next_in_bucket;
  *at = entry.next_in_bucket;
  entry = Entry{};
  --num_published_;
}

BlockId PrefixCache::take() {
  const BlockId block = pool_->allocate();
  forget(block.value);
  return block;
}

void PrefixCache::release(BlockId block) {
  using Reuse = BlockPool::Reuse;
  const bool published = entries_[block.value].serial != 0;
  pool_->release(block, published ? Reuse::kLast : Reuse::kFirst);
}

}  // namespace mole::runtime
