#include "runtime/swap_device.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "base/check.h"

namespace mole::runtime {
namespace {

constexpr uint64_t kHeadersAtOnce = 1024;

struct KeyHash {
  size_t operator()(const BlockKey& key) const { return key.words[1]; }
};

}  // namespace

CachePages::CachePages(model::KvCache* cache, int32_t num_layers)
    : cache_(cache), pieces_(static_cast<size_t>(num_layers)) {
  MOLE_CHECK_LE(num_layers, cache->shape().num_layers);
}

uint64_t CachePages::page_bytes() const {
  return pieces_.size() * static_cast<uint64_t>(cache_->shape().block_bytes());
}

PagePieces CachePages::pieces(int32_t block) {
  const auto bytes = static_cast<size_t>(cache_->shape().block_bytes());
  for (size_t layer = 0; layer < pieces_.size(); ++layer) {
    pieces_[layer] = {cache_->block(static_cast<int32_t>(layer), block), bytes};
  }
  return pieces_;
}

void CachePages::clear_rest(int32_t block) {
  const auto bytes = static_cast<size_t>(cache_->shape().block_bytes());
  for (auto layer = static_cast<int32_t>(pieces_.size()); layer < cache_->shape().num_layers;
       ++layer) {
    std::memset(cache_->block(layer, block), 0, bytes);
  }
}

SwapOutcome run_swap_job(const SwapJob& job, const Sha256Digest& fingerprint, SwapStore& store,
                         CachePages& pages) {
  const PagePieces pieces = pages.pieces(job.block);
  const auto slot = static_cast<uint64_t>(job.slot);
  if (job.write) {
    const SwapPageHeader header = seal_page(slot, job.written, job.key, fingerprint, pieces);
    return store.write_page(slot, header, pieces).ok() ? SwapOutcome::kOk : SwapOutcome::kIoError;
  }
  SwapPageHeader header;
  if (!store.read_page(slot, &header, pieces).ok()) return SwapOutcome::kIoError;
  pages.clear_rest(job.block);
  return check_page(header, slot, job.key, fingerprint, pieces);
}

std::vector<RecoveredPage> recover_pages(SwapStore& store, uint64_t page_bytes,
                                         const Sha256Digest& fingerprint,
                                         std::span<int64_t> refused) {
  std::unordered_map<BlockKey, RecoveredPage, KeyHash> newest;
  std::vector<SwapPageHeader> headers;
  for (uint64_t first = 0; first < store.num_slots(); first += headers.size()) {
    headers.assign(std::min(kHeadersAtOnce, store.num_slots() - first), SwapPageHeader{});
    if (!store.read_headers(first, headers).ok()) {
      refused[static_cast<size_t>(SwapOutcome::kIoError)] += static_cast<int64_t>(headers.size());
      continue;
    }
    for (size_t i = 0; i < headers.size(); ++i) {
      const SwapPageHeader& header = headers[i];
      const SwapPageHeader empty;
      if (std::memcmp(&header, &empty, sizeof(empty)) == 0) continue;
      const SwapOutcome found = check_header(header, first + i, page_bytes, fingerprint);
      if (found != SwapOutcome::kOk) {
        ++refused[static_cast<size_t>(found)];
        continue;
      }
      RecoveredPage& page = newest[header.key];
      if (header.written < page.written) continue;
      page = {static_cast<int32_t>(first + i), header.written, header.key};
    }
  }
  std::vector<RecoveredPage> pages;
  pages.reserve(newest.size());
  for (const auto& [key, page] : newest) pages.push_back(page);
  std::sort(pages.begin(), pages.end(), [](const RecoveredPage& a, const RecoveredPage& b) {
    return a.written != b.written ? a.written < b.written : a.slot < b.slot;
  });
  return pages;
}

}  // namespace mole::runtime
