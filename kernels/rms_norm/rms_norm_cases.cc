#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mole::kernels {
namespace {

struct NormShape {
  DType dtype = DType::kFloat32;
  int64_t rows = 0, dim = 0, pad = 0;  // pad: gap after each row of x and y
};

constexpr float kEps = 1e-6f;

/// docs/numerics.md, "rms_norm": relative error of 1/rms in roundoffs.
int64_t inverse_steps(int64_t dim) { return (dim / 16 + 6) / 2 + 4; }

class NormCase : public KernelCase {
 public:
  NormCase(const NormShape& shape, CaseRandom& random)
      : shape_(shape),
        x_(shape.dtype, shape.rows, shape.dim, shape.dim + shape.pad),
        weight_(shape.dtype, 1, shape.dim),
        y_(shape.dtype, shape.rows, shape.dim, shape.dim + shape.pad),
        inverse_(DType::kFloat32, shape.rows, 1) {
    x_.fill_normal(random, 2);
    weight_.fill_normal(random);
  }

  std::string name() const override {
    return "rows=" + std::to_string(shape_.rows) + " dim=" + std::to_string(shape_.dim) + " " +
           std::string(dtype_name(shape_.dtype));
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 4.0 * static_cast<double>(x_.count()); }
  double bytes() const override {
    return static_cast<double>(2 * x_.count() * dtype_bytes(shape_.dtype));
  }
  std::vector<Tensor*> outputs() override { return {&y_, &inverse_}; }
  void run(ThreadTeam& team) override { rms_norm(args(0, shape_.rows), team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rms_norm(args(row, 1), team); }

  std::vector<Expectation> expect() override {
    Expectation out{&y_, "y", std::vector<double>(static_cast<std::size_t>(y_.count())), {}};
    rms_norm_ref(x_.doubles().data(), weight_.doubles().data(), shape_.rows, shape_.dim, kEps,
                 out.want.data());
    for (const double y : out.want) {
      out.tolerance.push_back(steps_tolerance(inverse_steps(shape_.dim) + 2, y) +
                              rounding_tolerance(y, shape_.dtype));
    }
    return {out};
  }

 protected:
  RmsNormArgs args(int64_t first, int64_t rows) {
    return {.x = x_.row(first),
            .weight = weight_.data(),
            .y = y_.row(first),
            .dtype = shape_.dtype,
            .rows = rows,
            .dim = shape_.dim,
            .x_stride = x_.stride(),
            .y_stride = y_.stride(),
            .eps = kEps,
            .inverse_rms = inverse_.as<float>() + first};
  }

  NormShape shape_;
  Tensor x_, weight_, y_, inverse_;
};

class NormBackwardCase : public NormCase {
 public:
  NormBackwardCase(const NormShape& shape, CaseRandom& random)
      : NormCase(shape, random),
        dy_(shape.dtype, shape.rows, shape.dim),
        dresidual_(shape.dtype, shape.rows, shape.dim),
        dx_(DType::kFloat32, shape.rows, shape.dim),
        dweight_(DType::kFloat32, 1, shape.dim) {
    dy_.fill_normal(random);
    dresidual_.fill_normal(random);
    with_residual_ = random.coin();
    dweight_.fill_normal(random);
    ThreadTeam one(1);
    rms_norm(args(0, shape_.rows), one);
  }

  double flops() const override { return 12.0 * static_cast<double>(x_.count()); }
  double bytes() const override {
    return static_cast<double>(x_.count() * (2 * dtype_bytes(shape_.dtype) + 4));
  }
  std::vector<Tensor*> outputs() override { return {&dx_, &dweight_}; }
  void run(ThreadTeam& team) override {
    rms_norm_backward({.forward = args(0, shape_.rows),
                       .dy = dy_.data(),
                       .dx = dx_.as<float>(),
                       .dweight = dweight_.as<float>(),
                       .dresidual = with_residual_ ? dresidual_.data() : nullptr},
                      team);
  }
  int64_t independent_rows() const override { return 0; }

  std::vector<Expectation> expect() override {
    const int64_t rows = shape_.rows, dim = shape_.dim;
    const std::vector<double> x = x_.doubles(), weight = weight_.doubles(), dy = dy_.doubles();
    Expectation dx{&dx_, "dx", std::vector<double>(x.size()), std::vector<double>(x.size())};
    Expectation dweight{&dweight_, "dweight", std::vector<double>(weight.size()), {}};
    rms_norm_backward_ref(x.data(), weight.data(), dy.data(), rows, dim, kEps, dx.want.data(),
                          dweight.want.data());
    std::vector<double> sums;  // of the magnitudes that each dweight adds up
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const double before = dweight_.at(0, static_cast<int64_t>(i));
      dweight.want[i] += before;
      sums.push_back(std::abs(before));
    }
    for (int64_t r = 0; r < rows; ++r) {
      const double inverse = inverse_.at(r, 0);
      double mean = 0;
      for (int64_t i = 0; i < dim; ++i) {
        const auto at = static_cast<std::size_t>(r * dim + i), column = static_cast<std::size_t>(i);
        mean += std::abs(dy[at] * weight[column] * x[at]) * inverse / static_cast<double>(dim);
        sums[column] += std::abs(dy[at] * x[at]) * inverse;
      }
      for (int64_t i = 0; i < dim; ++i) {
        const auto at = static_cast<std::size_t>(r * dim + i), column = static_cast<std::size_t>(i);
        const double own = std::abs(dy[at] * weight[column]);
        const double pull = std::abs(x[at]) * inverse * mean;
        dx.tolerance[at] =
            steps_tolerance(3 * inverse_steps(dim) + dim / 16 + 12, inverse * (own + pull));
        if (!with_residual_) continue;
        dx.want[at] += dresidual_.at(r, i);
        dx.tolerance[at] += steps_tolerance(1, dx.want[at]);
      }
    }
    for (const double sum : sums) {
      dweight.tolerance.push_back(chain_tolerance(rows + inverse_steps(dim) + 2, sum));
    }
    return {dx, dweight};
  }

 private:
  Tensor dy_, dresidual_, dx_, dweight_;
  bool with_residual_ = false;
};

template <typename Case>
OpCases cases(const std::string& op) {
  OpCases out{op,
              [](CaseRandom& random) -> CasePtr {
                const NormShape shape{random.float_dtype(), random.awkward_rows(),
                                      random.awkward_size(), random.pick({0, 1, 16})};
                return std::make_unique<Case>(shape, random);
              },
              {}};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const NormShape shape{dtype, 8192, 512, 0};
    out.bench.push_back(
        [shape](CaseRandom& random) -> CasePtr { return std::make_unique<Case>(shape, random); });
  }
  return out;
}

}  // namespace

std::vector<OpCases> rms_norm_cases() {
  return {cases<NormCase>("rms_norm"), cases<NormBackwardCase>("rms_norm_backward")};
}

}  // namespace mole::kernels
