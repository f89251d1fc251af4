#include "kernels/attention/attention_decode_bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/attention/attention.h"
#include "kernels/cpu/huge_pages.h"

namespace mole::kernels {
namespace {

struct DecodeShape {
  int64_t batch = 1, context = 0;
  int32_t heads = 16;
  KvFormat format = KvFormat::kModel;
};

constexpr int32_t kLatent = 512, kRope = 64;  // DeepSeek-V2-Lite's and V3's
// Runs take other pages in turn until this much was read: more than a last-level cache keeps.
constexpr int64_t kColdBytes = int64_t{640} << 20;

/// One step of decoding in one layer, a token a sequence, pages in random order.
class DecodeBench : public KernelCase {
 public:
  DecodeBench(const DecodeShape& s, CaseRandom& random)
      : shape_(s),
        entry_{s.format, DType::kBFloat16, kLatent, kRope},
        q_(DType::kBFloat16, s.batch, s.heads * (kLatent + kRope)),
        out_(DType::kBFloat16, s.batch, s.heads * kLatent) {
    q_.fill_normal(random);
    const int64_t step_bytes = s.batch * pages_of_sequence() * page_bytes();
    turns_ = (kColdBytes + step_bytes - 1) / step_bytes;
    fill_pages(random);
    for (int64_t i = 0; i < turns_ * s.batch; ++i) args_.push_back(sequence(i));
  }

  std::string name() const override {
    return "decode batch=" + std::to_string(shape_.batch) +
           " context=" + std::to_string(shape_.context) + " heads=" + std::to_string(shape_.heads) +
           " latent 512+64 " + std::string(kv_format_name(shape_.format));
  }
  DType dtype() const override { return DType::kBFloat16; }
  double flops() const override {
    return 2.0 * static_cast<double>(shape_.batch * shape_.context * shape_.heads) *
           (2 * kLatent + kRope);
  }
  double bytes() const override {
    return static_cast<double>(shape_.batch * shape_.context * entry_.bytes());
  }
  std::vector<Tensor*> outputs() override { return {&out_}; }
  std::vector<Expectation> expect() override { return {}; }
  void run(ThreadTeam& team) override {
    attention(args_.data() + turn_ * shape_.batch, shape_.batch, team);
    turn_ = (turn_ + 1) % turns_;
  }

 private:
  int64_t pages_of_sequence() const { return (shape_.context + kKvPageTokens - 1) / kKvPageTokens; }
  int64_t page_bytes() const { return kKvPageTokens * entry_.bytes(); }

  /// All pages hold the same random entries; their order is shuffled.
  void fill_pages(CaseRandom& random) {
    const int64_t count = turns_ * shape_.batch * pages_of_sequence();
    pages_ = allocate_pages(count * page_bytes());
    Tensor rows(DType::kBFloat16, kKvPageTokens, kLatent + kRope);
    rows.fill_normal(random);
    std::vector<int64_t> slots(kKvPageTokens);
    std::iota(slots.begin(), slots.end(), 0);
    ThreadTeam team(1);
    kv_write({entry_, rows.data(), kKvPageTokens, rows.stride(), slots.data(), pages_.get()}, team);
    for (int64_t i = 0; i < count; ++i) {
      std::byte* page = pages_.get() + i * page_bytes();
      if (i > 0) std::memcpy(page, pages_.get(), static_cast<std::size_t>(page_bytes()));
      blocks_.push_back(page);
    }
    for (std::size_t i = blocks_.size(); i > 1; --i) {
      const auto other = static_cast<std::size_t>(random.between(0, static_cast<int64_t>(i) - 1));
      std::swap(blocks_[i - 1], blocks_[other]);
    }
  }

  AttentionArgs sequence(int64_t i) {
    const int64_t row = i % shape_.batch;
    const void* const* blocks = blocks_.data() + i * pages_of_sequence();
    return {.dtype = DType::kBFloat16,
            .num_queries = 1,
            .first_position = shape_.context - 1,
            .num_heads = shape_.heads,
            .num_kv_heads = 1,
            .key_dim = kLatent + kRope,
            .value_dim = kLatent,
            .scale = 1 / std::sqrt(192.0f),
            .q = q_.row(row),
            .q_row_stride = q_.stride(),
            .q_head_stride = kLatent + kRope,
            .key_blocks = blocks,
            .value_blocks = blocks,
            .key_row_stride = kLatent + kRope,
            .value_row_stride = kLatent + kRope,
            .key_format = shape_.format,
            .out = out_.row(row),
            .out_row_stride = out_.stride(),
            .out_head_stride = kLatent};
  }

  DecodeShape shape_;
  KvEntryShape entry_;
  Tensor q_, out_;
  int64_t turns_ = 1, turn_ = 0;
  Pages pages_;
  std::vector<const void*> blocks_;
  std::vector<AttentionArgs> args_;
};

}  // namespace

std::vector<std::function<CasePtr(CaseRandom&)>> attention_decode_benches() {
  constexpr KvFormat kModel = KvFormat::kModel;
  std::vector<std::function<CasePtr(CaseRandom&)>> out;
  for (const DecodeShape& shape : {DecodeShape{1, 512, 16, kModel},
                                   {1, 4096, 16, kModel},
                                   {1, 16384, 16, kModel},
                                   {4, 16384, 16, kModel},
                                   {32, 4096, 16, kModel},
                                   {32, 16384, 16, kModel},
                                   {4, 16384, 16, KvFormat::kInt8},
                                   {4, 16384, 16, KvFormat::kFp8},
                                   {1, 4096, 128, kModel},
                                   {4, 4096, 128, kModel}}) {
    out.push_back([shape](CaseRandom& random) -> CasePtr {
      return std::make_unique<DecodeBench>(shape, random);
    });
  }
  return out;
}

}  // namespace mole::kernels
