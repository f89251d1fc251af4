#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {
namespace {

struct SiluShape {
  DType in = DType::kFloat32, out = DType::kFloat32;
  int64_t rows = 0, width = 0;
  double scale = 1;  // of the inputs: large ones saturate the sigmoid
};

std::string describe(const SiluShape& shape) {
  return "rows=" + std::to_string(shape.rows) + " width=" + std::to_string(shape.width) + " " +
         std::string(dtype_name(shape.in)) + "->" + std::string(dtype_name(shape.out));
}

// Roundings on the way: exp (2 units, so 4), sum, quotient, products, each of the value's own size.
constexpr int64_t kSteps = 10;
// Below z = -87.33 the sigmoid is denormal, so zero; silu(z) and its slope are then less than this.
constexpr double kSaturation = 0x1p-119;

class SiluMulCase : public KernelCase {
 public:
  SiluMulCase(const SiluShape& shape, CaseRandom& random)
      : shape_(shape),
        gate_up_(shape.in, shape.rows, 2 * shape.width),
        y_(shape.out, shape.rows, shape.width) {
    gate_up_.fill_normal(random, shape.scale);
  }

  std::string name() const override { return describe(shape_); }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 20.0 * static_cast<double>(y_.count()); }
  double bytes() const override {
    return static_cast<double>(gate_up_.count() * dtype_bytes(shape_.in) +
                               y_.count() * dtype_bytes(shape_.out));
  }
  std::vector<Tensor*> outputs() override { return {&y_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.rows, team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    Expectation out{&y_, "y", std::vector<double>(static_cast<std::size_t>(y_.count())), {}};
    silu_mul_ref(gate_up_.doubles().data(), out.want.data(), shape_.rows, shape_.width);
    for (std::size_t i = 0; i < out.want.size(); ++i) {
      const auto row = static_cast<int64_t>(i) / shape_.width;
      const auto column = static_cast<int64_t>(i) % shape_.width;
      const double up = std::abs(gate_up_.at(row, shape_.width + column));
      out.tolerance.push_back(steps_tolerance(kSteps, out.want[i]) + kSaturation * up +
                              rounding_tolerance(out.want[i], shape_.out));
    }
    return {out};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    silu_mul({.gate_up = gate_up_.row(first),
              .in_dtype = shape_.in,
              .rows = count,
              .width = shape_.width,
              .y = y_.row(first),
              .out_dtype = shape_.out},
             team);
  }

  SiluShape shape_;
  Tensor gate_up_, y_;
};

class SiluMulBackwardCase : public KernelCase {
 public:
  SiluMulBackwardCase(const SiluShape& shape, CaseRandom& random)
      : shape_(shape),
        gate_up_(shape.in, shape.rows, 2 * shape.width),
        dy_(DType::kFloat32, shape.rows, shape.width),
        dgate_up_(shape.out, shape.rows, 2 * shape.width) {
    gate_up_.fill_normal(random, shape.scale);
    dy_.fill_normal(random);
  }

  std::string name() const override { return describe(shape_); }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 30.0 * static_cast<double>(dy_.count()); }
  double bytes() const override {
    return static_cast<double>(gate_up_.count() * dtype_bytes(shape_.in) + dy_.count() * 4 +
                               dgate_up_.count() * dtype_bytes(shape_.out));
  }
  std::vector<Tensor*> outputs() override { return {&dgate_up_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.rows, team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    Expectation out{&dgate_up_, "dgate_up", {}, {}};
    out.want.resize(static_cast<std::size_t>(dgate_up_.count()));
    const std::vector<double> gate_up = gate_up_.doubles(), dy = dy_.doubles();
    silu_mul_backward_ref(gate_up.data(), dy.data(), out.want.data(), shape_.rows, shape_.width);
    const auto width = static_cast<std::size_t>(shape_.width);
    for (std::size_t i = 0; i < out.want.size(); ++i) {
      // The slope 1 + z (1 - s) may cancel: its error is that of its terms.
      const std::size_t row = i / (2 * width), column = i % width;
      const double z = gate_up[row * 2 * width + column];
      const double up = gate_up[row * 2 * width + width + column];
      const double s = 1 / (1 + std::exp(-z));
      const double slope = dy[row * width + column] * up * s * (1 + std::abs(z));
      const double size = i % (2 * width) < width ? slope : out.want[i];
      const double scale = std::abs(dy[row * width + column]) * (1 + std::abs(up));
      out.tolerance.push_back(steps_tolerance(kSteps, size) + kSaturation * scale +
                              rounding_tolerance(out.want[i], shape_.out));
    }
    return {out};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    SiluMulBackwardArgs args;
    args.forward = {.gate_up = gate_up_.row(first),
                    .in_dtype = shape_.in,
                    .rows = count,
                    .width = shape_.width,
                    .out_dtype = shape_.out};
    args.dy = static_cast<const float*>(dy_.row(first));
    args.dgate_up = dgate_up_.row(first);
    silu_mul_backward(args, team);
  }

  SiluShape shape_;
  Tensor gate_up_, dy_, dgate_up_;
};

template <typename Case>
CasePtr awkward(CaseRandom& random) {
  const SiluShape shape{random.float_dtype(), random.float_dtype(), random.awkward_rows(),
                        random.awkward_size(), random.coin() ? 1.0 : 40.0};
  return std::make_unique<Case>(shape, random);
}

template <typename Case>
OpCases cases(const std::string& op) {
  OpCases out{op, awkward<Case>, {}};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const SiluShape shape{DType::kFloat32, dtype, 8192, 256, 1};
    out.bench.push_back(
        [shape](CaseRandom& random) -> CasePtr { return std::make_unique<Case>(shape, random); });
  }
  return out;
}

}  // namespace

std::vector<OpCases> silu_mul_cases() {
  return {cases<SiluMulCase>("silu_mul"), cases<SiluMulBackwardCase>("silu_mul_backward")};
}

}  // namespace mole::kernels
