#include "kernels/kv_entry/kv_entry.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"

namespace mole::kernels {
namespace {

struct RoundTripShape {
  KvFormat format = KvFormat::kModel;
  DType dtype = DType::kFloat32;
  int64_t rows = 0, latent = 1, rope = 0, pad = 0;
};

/// Writes rows to shuffled slots and reads them back.
class RoundTripCase : public KernelCase {
 public:
  RoundTripCase(const RoundTripShape& s, CaseRandom& random)
      : shape_(s),
        entry_{s.format, s.dtype, s.latent, s.rope},
        rows_(s.dtype, s.rows, s.latent + s.rope, s.latent + s.rope + s.pad),
        // Words of a page; an odd bfloat16 entry of the model's own form has no whole words.
        pages_(word(), pages() * kKvPageTokens, entry_.bytes() / dtype_bytes(word())),
        out_(s.dtype, s.rows, s.latent + s.rope, s.latent + s.rope + s.pad) {
    rows_.fill_normal(random);
    std::vector<int64_t> order(static_cast<std::size_t>(pages()));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size(); i > 1; --i) {
      const int64_t other = random.between(0, static_cast<int64_t>(i) - 1);
      std::swap(order[i - 1], order[static_cast<std::size_t>(other)]);
    }
    for (int64_t r = 0; r < s.rows; ++r) {
      const int64_t page = order[static_cast<std::size_t>(r / kKvPageTokens)];
      slots_.push_back(page * kKvPageTokens + r % kKvPageTokens);
    }
    for (const int64_t page : order) blocks_.push_back(pages_.row(page * kKvPageTokens));
  }

  std::string name() const override {
    return std::string(kv_format_name(shape_.format)) + " rows=" + std::to_string(shape_.rows) +
           " entry=" + std::to_string(shape_.latent) + "+" + std::to_string(shape_.rope) + " " +
           std::string(dtype_name(shape_.dtype));
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 12.0 * static_cast<double>(out_.count()); }
  double bytes() const override {
    return static_cast<double>(2 * shape_.rows * entry_.bytes() +
                               2 * out_.count() * dtype_bytes(shape_.dtype));
  }
  std::vector<Tensor*> outputs() override { return {&pages_, &out_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.rows, team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    Expectation out{
        &out_, "decoded", out_.rows() == 0 ? std::vector<double>() : rows_.doubles(), {}};
    for (int64_t r = 0; r < shape_.rows; ++r) {
      for (int64_t c = 0; c < out_.columns(); ++c) out.tolerance.push_back(tolerance(r, c));
    }
    return {out};
  }

 private:
  DType word() const { return shape_.format == KvFormat::kModel ? shape_.dtype : DType::kInt32; }
  int64_t pages() const { return (shape_.rows + kKvPageTokens - 1) / kKvPageTokens; }

  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    kv_write({.entry = entry_,
              .rows = rows_.row(first),
              .num_rows = count,
              .row_stride = rows_.stride(),
              .slots = slots_.data() + first,
              .pages = static_cast<std::byte*>(pages_.data())},
             team);
    // Reading starts at position 0; a row alone is read with those before it, which it leaves as
    // they are.
    const KvReadArgs read{.entry = entry_,
                          .blocks = blocks_.data(),
                          .num_rows = first + count,
                          .columns = shape_.latent + shape_.rope,
                          .out = out_.data(),
                          .out_stride = out_.stride()};
    kv_read(&read, 1, team);
  }

  /// "codes" of docs/numerics.md.
  double tolerance(int64_t row, int64_t column) const {
    if (shape_.format == KvFormat::kModel || column >= shape_.latent) return 0;
    const bool fp8 = shape_.format == KvFormat::kFp8;
    const int64_t begin = fp8 ? column / kKvFp8Group * kKvFp8Group : 0;
    const int64_t end = fp8 ? std::min(shape_.latent, begin + kKvFp8Group) : shape_.latent;
    double largest = 0;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(rows_.at(row, i)));
    const double x = std::abs(rows_.at(row, column));
    const double code = fp8 ? std::max(x * 0x1p-4, largest / 448 * 0x1p-10) : largest / 254;
    return code + rounding_tolerance(x + code, shape_.dtype) + steps_tolerance(4, x + code);
  }

  RoundTripShape shape_;
  KvEntryShape entry_;
  Tensor rows_, pages_, out_;
  std::vector<int64_t> slots_;
  std::vector<const void*> blocks_;
};

RoundTripShape awkward_shape(CaseRandom& random) {
  RoundTripShape s;
  s.format = static_cast<KvFormat>(random.between(0, 2));
  s.dtype = random.float_dtype();
  s.rows = random.awkward_rows();
  s.latent = random.coin() ? random.awkward_size() : random.pick({127, 128, 129, 256, 300});
  s.rope = random.coin() ? 0 : random.between(1, 40);
  s.pad = random.between(0, 5);
  return s;
}

}  // namespace

std::vector<OpCases> kv_entry_cases() {
  auto make = [](const RoundTripShape& shape) {
    return [shape](CaseRandom& random) -> CasePtr {
      return std::make_unique<RoundTripCase>(shape, random);
    };
  };
  OpCases out{"kv_entry",
              [](CaseRandom& random) -> CasePtr {
                return std::make_unique<RoundTripCase>(awkward_shape(random), random);
              },
              {}};
  for (const KvFormat format : {KvFormat::kModel, KvFormat::kInt8, KvFormat::kFp8}) {
    out.bench.push_back(make({format, DType::kBFloat16, 4096, 512, 64}));
  }
  return {out};
}

}  // namespace mole::kernels
