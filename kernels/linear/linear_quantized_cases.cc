#include <algorithm>
#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/linear/quantize.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

struct QuantizedShape {
  WeightFormat format = WeightFormat::kInt8;
  DType y_dtype = DType::kFloat32;
  int64_t rows = 0, n = 0, k = 0;
  int64_t copies = 1;   // the weight is stacked so often: sizes beyond the caches from little data
  int64_t padding = 0;  // of strides
  bool mapped = false, accumulate = false;
};

class LinearQuantizedCase : public KernelCase {
 public:
  LinearQuantizedCase(const QuantizedShape& shape, CaseRandom& random) : shape_(shape) {
    x_ = Tensor(DType::kBFloat16, shape.rows, shape.k, shape.k + shape.padding);
    y_ = Tensor(shape.y_dtype, shape.rows, outputs_count(), outputs_count() + shape.padding);
    x_.fill_normal(random);
    if (shape.accumulate) y_.fill_normal(random);
    if (shape.mapped) {
      // Rows of x may be read twice; rows of y are a rotation.
      const int64_t first = random.between(0, std::max<int64_t>(shape.rows - 1, 0));
      for (int64_t i = 0; i < shape.rows; ++i) {
        x_map_.push_back(static_cast<int32_t>(random.between(0, shape.rows - 1)));
        y_map_.push_back(static_cast<int32_t>((i + first) % shape.rows));
      }
    }
    quantize_weight(random);
  }

  std::string name() const override {
    std::string out = "rows=" + std::to_string(shape_.rows) +
                      " n=" + std::to_string(outputs_count()) + " k=" + std::to_string(shape_.k) +
                      " " + std::string(format_name(shape_.format)) + "->" +
                      std::string(dtype_name(shape_.y_dtype));
    if (shape_.padding != 0) out += " padded";
    if (shape_.accumulate) out += " +=";
    if (shape_.mapped) out += " mapped";
    return out;
  }
  DType dtype() const override { return DType::kBFloat16; }
  double flops() const override {
    return 2.0 * static_cast<double>(shape_.rows) * static_cast<double>(outputs_count() * shape_.k);
  }
  double bytes() const override {
    return static_cast<double>(x_.count() * 2 + packed_.bytes() +
                               y_.count() * dtype_bytes(shape_.y_dtype));
  }
  std::vector<Tensor*> outputs() override { return {&y_}; }

  void run(ThreadTeam& team) override { linear(arguments(0, shape_.rows), team); }
  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override { linear(arguments(row, 1), team); }

  std::vector<Expectation> expect() override {
    std::vector<BFloat16> x;
    for (int64_t r = 0; r < shape_.rows; ++r) {
      const int64_t from = shape_.mapped ? x_map_[static_cast<std::size_t>(r)] : r;
      const auto* row = static_cast<const BFloat16*>(x_.row(from));
      x.insert(x.end(), row, row + shape_.k);
    }
    const auto count = static_cast<std::size_t>(y_.count());
    std::vector<double> sums(count), magnitudes(count);
    linear_quantized_ref(x.data(), matrix_, shape_.rows, sums.data(), magnitudes.data());
    // A term passes the roundings of its sum, of the scales' product and of every group after it.
    const int64_t groups = ceil_div(shape_.k, kGroupK);
    const int64_t terms = int8_activations(shape_.format) ? groups + 5 : shape_.k + groups + 1;
    Expectation out{&y_, "y", sums, sums};
    for (int64_t r = 0; r < shape_.rows; ++r) {
      const int64_t row = shape_.mapped ? y_map_[static_cast<std::size_t>(r)] : r;
      for (int64_t n = 0; n < shape_.n; ++n) {
        const auto from = static_cast<std::size_t>(r * shape_.n + n);
        const auto to = static_cast<std::size_t>(row * shape_.n + n);
        out.want[to] = sums[from] + (shape_.accumulate ? y_.at(row, n) : 0);
        const double chain = chain_tolerance(terms, magnitudes[from]);
        out.tolerance[to] =
            chain + rounding_tolerance(std::abs(out.want[to]) + chain, shape_.y_dtype);
      }
    }
    return {out};
  }

 private:
  int64_t outputs_count() const { return shape_.n * shape_.copies; }

  void quantize_weight(CaseRandom& random) {
    Tensor weight(DType::kBFloat16, shape_.n, shape_.k);
    weight.fill_normal(random);
    const WeightFormat format = shape_.format;
    codes_.resize(static_cast<std::size_t>(shape_.n * code_row_bytes(format, shape_.k)));
    scales_.resize(
        static_cast<std::size_t>(scale_rows(format, shape_.n) * scale_columns(format, shape_.k)));
    ThreadTeam team(shape_.copies > 1 ? 0 : 1);
    quantize(format, weight.as<BFloat16>(), shape_.n, shape_.k, codes_.data(), scales_.data(),
             team);
    matrix_ = {format, shape_.n, shape_.k, codes_.data(),
               reinterpret_cast<const std::byte*>(scales_.data())};
    const std::vector<QuantizedMatrix> parts(static_cast<std::size_t>(shape_.copies), matrix_);
    pack_quantized(parts, packed_, team);
  }

  LinearArgs arguments(int64_t row, int64_t rows) {
    LinearArgs args{.x = x_.data(), .rows = rows, .x_stride = x_.stride()};
    args.weight = &packed_;
    args.y = y_.data();
    args.y_dtype = shape_.y_dtype;
    args.y_stride = y_.stride();
    args.accumulate = shape_.accumulate;
    if (shape_.mapped) {
      args.x_rows = x_map_.data() + row;
      args.y_rows = y_map_.data() + row;
    } else {
      args.x = x_.row(row);
      args.y = y_.row(row);
    }
    return args;
  }

  QuantizedShape shape_;
  Tensor x_, y_;
  std::vector<int32_t> x_map_, y_map_;
  std::vector<std::byte> codes_;
  std::vector<float> scales_;
  QuantizedMatrix matrix_;
  PackedWeight packed_;
};

CasePtr awkward(CaseRandom& random) {
  QuantizedShape shape;
  shape.format = kQuantizedFormats[random.between(0, std::size(kQuantizedFormats) - 1)];
  shape.y_dtype = random.float_dtype();
  shape.rows = random.awkward_rows();
  shape.n = random.awkward_size();
  shape.k = random.coin() ? random.awkward_size() : random.pick({0, 127, 128, 129, 256, 300, 520});
  shape.padding = random.pick({0, 1, 5, 16});
  shape.accumulate = random.coin() && shape.y_dtype == DType::kFloat32;
  shape.mapped = random.coin();
  return std::make_unique<LinearQuantizedCase>(shape, random);
}

}  // namespace

std::vector<OpCases> linear_quantized_cases() {
  OpCases out{"linear_quantized", awkward, {}};
  for (const WeightFormat format : kQuantizedFormats) {
    auto add = [&](int64_t rows, int64_t n, int64_t k, int64_t copies) {
      QuantizedShape shape{.format = format, .y_dtype = DType::kBFloat16, .rows = rows, .n = n};
      shape.k = k;
      shape.copies = copies;
      out.bench.push_back([shape](CaseRandom& random) -> CasePtr {
        return std::make_unique<LinearQuantizedCase>(shape, random);
      });
    };
    for (const int64_t rows : {1, 8, 512}) add(rows, 2048, 2048, 1);
    // From memory: 512 MiB of codes (256 of int4).
    for (const int64_t rows : {1, 4, 8, 32, 128}) add(rows, 2048, 2048, 128);
  }
  return {out};
}

}  // namespace mole::kernels
