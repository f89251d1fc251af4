#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/rope/rope.h"

namespace mole::kernels {
namespace {

struct RopeShape {
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int32_t heads = 0, half = 0;
  RopeLayout layout = RopeLayout::kInterleaved;
  bool inverse = false;
  bool moved = false;  // from another place, its rows the other way round
};

constexpr int32_t kPositions = 4096;
constexpr double kFactor = 1.25;  // YaRN's attention factor

class RopeCase : public KernelCase {
 public:
  RopeCase(const RopeShape& shape, CaseRandom& random)
      : shape_(shape),
        x_(shape.dtype, shape.rows, 2 * shape.half * shape.heads),
        from_(shape.dtype, shape.rows, x_.columns(), x_.columns() + 3) {
    x_.fill_normal(random);
    for (int64_t r = 0; r < shape.rows; ++r) {
      from_rows_.push_back(static_cast<int32_t>(shape.rows - 1 - r));
      for (int64_t i = 0; i < x_.columns(); ++i) from_.set(from_rows_.back(), i, x_.at(r, i));
      positions_.push_back(static_cast<int32_t>(random.between(0, kPositions - 1)));
    }
    for (int32_t i = 0; i < shape.half; ++i) {
      frequencies_.push_back(std::pow(1e4, -static_cast<double>(i) / shape.half));
    }
    table_ = make_rope_table(frequencies_, kPositions, kFactor);
  }

  std::string name() const override {
    return "rows=" + std::to_string(shape_.rows) + " heads=" + std::to_string(shape_.heads) +
           " dim=" + std::to_string(2 * shape_.half) +
           (shape_.layout == RopeLayout::kInterleaved ? " interleaved" : " half-split") +
           (shape_.inverse ? " inverse" : "") + (shape_.moved ? " moved " : " ") +
           std::string(dtype_name(shape_.dtype));
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 3.0 * static_cast<double>(x_.count()); }
  double bytes() const override {
    return static_cast<double>(2 * x_.count() * dtype_bytes(shape_.dtype));
  }
  std::vector<Tensor*> outputs() override { return {&x_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.rows, team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    const std::vector<double> before = x_.doubles();
    Expectation out{&x_, "x", before, {}};
    rope_ref(out.want.data(), shape_.rows, shape_.heads, positions_.data(), frequencies_, kFactor,
             shape_.layout, shape_.inverse);
    const auto half = static_cast<std::size_t>(shape_.half);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::size_t in_head = i % (2 * half), head = i - in_head;
      const std::size_t other =
          head +
          (shape_.layout == RopeLayout::kInterleaved ? in_head ^ 1 : (in_head + half) % (2 * half));
      // The table's rounding, the product's, the chain's.
      const double size = kFactor * (std::abs(before[i]) + std::abs(before[other]));
      out.tolerance.push_back(steps_tolerance(3, size) +
                              rounding_tolerance(out.want[i], shape_.dtype));
    }
    return {out};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    rope({.x = x_.row(first),
          .dtype = shape_.dtype,
          .rows = count,
          .heads = shape_.heads,
          .row_stride = x_.stride(),
          .head_stride = table_.dim,
          .positions = positions_.data() + first,
          .table = &table_,
          .layout = shape_.layout,
          .inverse = shape_.inverse,
          .from = shape_.moved ? from_.data() : nullptr,
          .from_row_stride = from_.stride(),
          .from_head_stride = table_.dim,
          .from_rows = shape_.moved ? from_rows_.data() + first : nullptr},
         team);
  }

  RopeShape shape_;
  Tensor x_, from_;
  std::vector<int32_t> positions_, from_rows_;
  std::vector<double> frequencies_;
  RopeTable table_;
};

}  // namespace

std::vector<OpCases> rope_cases() {
  OpCases out{"rope",
              [](CaseRandom& random) -> CasePtr {
                const RopeShape shape{
                    random.float_dtype(),
                    random.awkward_rows(),
                    static_cast<int32_t>(random.between(1, 5)),
                    static_cast<int32_t>(random.pick({1, 3, 8, 16, 17, 32, 40})),
                    random.coin() ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit,
                    random.coin(),
                    random.coin()};
                return std::make_unique<RopeCase>(shape, random);
              },
              {}};
  for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalfSplit}) {
    const RopeShape shape{DType::kBFloat16, 8192, 9, 32, layout, false, false};
    out.bench.push_back([shape](CaseRandom& random) -> CasePtr {
      return std::make_unique<RopeCase>(shape, random);
    });
  }
  return {out};
}

}  // namespace mole::kernels
