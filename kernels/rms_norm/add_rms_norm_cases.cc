#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/rms_norm/add_rms_norm.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mole::kernels {
namespace {

struct AddShape {
  DType dtype = DType::kFloat32;
  int64_t rows = 0, dim = 0;
  bool two_deltas = false;
};

constexpr float kEps = 1e-6f;

/// a + b, rounded once to float32 (double holds twice as many bits, so its own rounding doesn't
/// show) and then to the dtype.
double rounded_sum(double a, double b, DType dtype) {
  const float sum = static_cast<float>(a + b);
  return dtype == DType::kBFloat16 ? to_float(to_bfloat16(sum)) : sum;
}

class AddNormCase : public KernelCase {
 public:
  AddNormCase(const AddShape& shape, CaseRandom& random)
      : shape_(shape),
        x_(shape.dtype, shape.rows, shape.dim),
        delta_(shape.dtype, shape.rows, shape.dim),
        second_(shape.dtype, shape.rows, shape.dim),
        weight_(shape.dtype, 1, shape.dim),
        sum_(shape.dtype, shape.rows, shape.dim),
        y_(shape.dtype, shape.rows, shape.dim) {
    x_.fill_normal(random, 2);
    delta_.fill_normal(random);
    second_.fill_normal(random, 0.5);
    weight_.fill_normal(random);
  }

  std::string name() const override {
    return "rows=" + std::to_string(shape_.rows) + " dim=" + std::to_string(shape_.dim) +
           (shape_.two_deltas ? " two deltas " : " ") + std::string(dtype_name(shape_.dtype));
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 5.0 * static_cast<double>(x_.count()); }
  double bytes() const override {
    return static_cast<double>((shape_.two_deltas ? 5 : 4) * x_.count() *
                               dtype_bytes(shape_.dtype));
  }
  std::vector<Tensor*> outputs() override { return {&sum_, &y_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.rows, team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    const int64_t rows = shape_.rows, dim = shape_.dim;
    Expectation sum{&sum_, "sum", {}, {}};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < dim; ++i) {
        double delta = delta_.at(r, i);
        if (shape_.two_deltas) delta = rounded_sum(delta, second_.at(r, i), shape_.dtype);
        sum.want.push_back(rounded_sum(x_.at(r, i), delta, shape_.dtype));
        sum.tolerance.push_back(0x1p-125);  // a flushed denormal; else every bit is said
      }
    }
    // docs/numerics.md, "rms_norm": of the stored sum.
    Expectation y{&y_, "y", std::vector<double>(sum.want.size()), {}};
    rms_norm_ref(sum.want.data(), weight_.doubles().data(), rows, dim, kEps, y.want.data());
    for (const double value : y.want) {
      y.tolerance.push_back(steps_tolerance((dim / 16 + 6) / 2 + 6, value) +
                            rounding_tolerance(value, shape_.dtype));
    }
    return {sum, y};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    add_rms_norm({.x = x_.row(first),
                  .delta = delta_.row(first),
                  .second_delta = shape_.two_deltas ? second_.row(first) : nullptr,
                  .sum = sum_.row(first),
                  .weight = weight_.data(),
                  .y = y_.row(first),
                  .dtype = shape_.dtype,
                  .rows = count,
                  .dim = shape_.dim,
                  .eps = kEps},
                 team);
  }

  AddShape shape_;
  Tensor x_, delta_, second_, weight_, sum_, y_;
};

}  // namespace

std::vector<OpCases> add_rms_norm_cases() {
  OpCases out{"add_rms_norm",
              [](CaseRandom& random) -> CasePtr {
                const AddShape shape{random.float_dtype(), random.awkward_rows(),
                                     random.awkward_size(), random.coin()};
                return std::make_unique<AddNormCase>(shape, random);
              },
              {}};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const AddShape shape{dtype, 8192, 2048, true};
    out.bench.push_back([shape](CaseRandom& random) -> CasePtr {
      return std::make_unique<AddNormCase>(shape, random);
    });
  }
  return {out};
}

}  // namespace mole::kernels
