#include <algorithm>
#include <numeric>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_cases.h"

namespace mole::kernels {
namespace {

struct LinearShape {
  DType dtype = DType::kFloat32, y_dtype = DType::kFloat32;
  int64_t rows = 0, n = 0, k = 0;
  int64_t padding = 0;  // of every stride
  bool weight_transposed = false, x_transposed = false, accumulate = false, mapped = false;
  bool pack_once = false;  // as a weight that is packed at load; else packing is part of every run
};

/// A random order of 0 … count - 1.
std::vector<int32_t> shuffled(int64_t count, CaseRandom& random) {
  std::vector<int32_t> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), 0);
  for (int64_t i = count - 1; i > 0; --i) {
    std::swap(out[static_cast<std::size_t>(i)],
              out[static_cast<std::size_t>(random.between(0, i))]);
  }
  return out;
}

class LinearCase : public KernelCase {
 public:
  LinearCase(const LinearShape& shape, CaseRandom& random) : shape_(shape) {
    const int64_t x_rows = shape.x_transposed ? shape.k : shape.rows;
    const int64_t x_columns = shape.x_transposed ? shape.rows : shape.k;
    x_ = Tensor(shape.dtype, x_rows, x_columns, x_columns + shape.padding);
    const int64_t w_rows = shape.weight_transposed ? shape.k : shape.n;
    const int64_t w_columns = shape.weight_transposed ? shape.n : shape.k;
    weight_ = Tensor(shape.dtype, w_rows, w_columns, w_columns + shape.padding);
    y_ = Tensor(shape.y_dtype, shape.rows, shape.n, shape.n + shape.padding);
    x_.fill_normal(random);
    weight_.fill_normal(random);
    if (shape.accumulate) y_.fill_normal(random);
    if (shape.mapped) {
      x_map_ = shuffled(x_rows, random);
      y_map_ = shuffled(shape.rows, random);
    }
  }

  std::string name() const override {
    std::string out = "rows=" + std::to_string(shape_.rows) + " n=" + std::to_string(shape_.n) +
                      " k=" + std::to_string(shape_.k) + " " +
                      std::string(dtype_name(shape_.dtype)) + "->" +
                      std::string(dtype_name(shape_.y_dtype));
    if (shape_.padding != 0) out += " padded";
    if (shape_.weight_transposed) out += " W^T";
    if (shape_.x_transposed) out += " x^T";
    if (shape_.accumulate) out += " +=";
    if (shape_.mapped) out += " mapped";
    return out;
  }
  DType dtype() const override { return shape_.dtype; }
  double flops() const override {
    return 2.0 * static_cast<double>(shape_.rows) * static_cast<double>(shape_.n * shape_.k);
  }
  double bytes() const override {
    return static_cast<double>(x_.count() * dtype_bytes(shape_.dtype) +
                               weight_.count() * dtype_bytes(shape_.dtype) +
                               y_.count() * dtype_bytes(shape_.y_dtype));
  }
  std::vector<Tensor*> outputs() override { return {&y_}; }

  void run(ThreadTeam& team) override {
    pack(team);
    LinearArgs args = arguments();
    linear(args, team);
  }

  int64_t independent_rows() const override { return shape_.rows; }
  void run_row(int64_t row, ThreadTeam& team) override {
    pack(team);
    LinearArgs args = arguments();
    args.rows = 1;
    const int64_t step = (shape_.x_transposed ? 1 : args.x_stride) * dtype_bytes(shape_.dtype);
    if (shape_.x_transposed || args.x_rows == nullptr) {
      args.x = static_cast<const std::byte*>(args.x) + row * step;
    } else {
      args.x_rows += row;
    }
    if (args.y_rows != nullptr) {
      args.y_rows += row;
    } else {
      args.y = static_cast<std::byte*>(args.y) + row * args.y_stride * dtype_bytes(args.y_dtype);
    }
    linear(args, team);
  }

  std::vector<Expectation> expect() override {
    std::vector<double> x, weight, magnitude_x, magnitude_w;
    for (int64_t r = 0; r < shape_.rows; ++r) {
      for (int64_t k = 0; k < shape_.k; ++k) {
        const int64_t memory = mapped(x_map_, shape_.x_transposed ? k : r);
        x.push_back(shape_.x_transposed ? x_.at(memory, r) : x_.at(memory, k));
        magnitude_x.push_back(std::abs(x.back()));
      }
    }
    for (int64_t n = 0; n < shape_.n; ++n) {
      for (int64_t k = 0; k < shape_.k; ++k) {
        weight.push_back(shape_.weight_transposed ? weight_.at(k, n) : weight_.at(n, k));
        magnitude_w.push_back(std::abs(weight.back()));
      }
    }
    std::vector<double> sums(static_cast<std::size_t>(y_.count())), magnitudes(sums.size());
    linear_ref(x.data(), weight.data(), sums.data(), shape_.rows, shape_.n, shape_.k);
    linear_ref(magnitude_x.data(), magnitude_w.data(), magnitudes.data(), shape_.rows, shape_.n,
               shape_.k);
    Expectation out{&y_, "y", sums, sums};
    for (int64_t r = 0; r < shape_.rows; ++r) {
      for (int64_t n = 0; n < shape_.n; ++n) {
        const auto from = static_cast<std::size_t>(r * shape_.n + n);
        const int64_t row = mapped(y_map_, r);
        const auto to = static_cast<std::size_t>(row * shape_.n + n);
        out.want[to] = sums[from] + (shape_.accumulate ? y_.at(row, n) : 0);
        const double chain = chain_tolerance(shape_.k, magnitudes[from]);
        out.tolerance[to] =
            chain + rounding_tolerance(std::abs(out.want[to]) + chain, shape_.y_dtype);
      }
    }
    return {out};
  }

 private:
  static int64_t mapped(const std::vector<int32_t>& map, int64_t i) {
    return map.empty() ? i : map[static_cast<std::size_t>(i)];
  }

  void pack(ThreadTeam& team) {
    if (packed_ && shape_.pack_once) return;
    packed_weight_.pack(weight_.data(), shape_.dtype, shape_.n, shape_.k, weight_.stride(),
                        shape_.weight_transposed, team);
    packed_ = true;
  }

  LinearArgs arguments() {
    LinearArgs args{.x = x_.data(), .rows = shape_.rows, .x_stride = x_.stride()};
    args.weight = &packed_weight_;
    args.y = y_.data();
    args.y_dtype = shape_.y_dtype;
    args.y_stride = y_.stride();
    args.accumulate = shape_.accumulate;
    args.x_transposed = shape_.x_transposed;
    if (shape_.mapped) {
      args.x_rows = x_map_.data();
      args.y_rows = y_map_.data();
    }
    return args;
  }

  LinearShape shape_;
  Tensor x_, weight_, y_;
  std::vector<int32_t> x_map_, y_map_;
  PackedWeight packed_weight_;
  bool packed_ = false;
};

CasePtr awkward(CaseRandom& random) {
  LinearShape shape;
  shape.dtype = random.float_dtype();
  shape.y_dtype = random.float_dtype();
  shape.rows = random.awkward_rows();
  shape.n = random.awkward_size();
  shape.k = random.awkward_size();
  shape.padding = random.pick({0, 1, 5, 16});
  shape.weight_transposed = random.coin();
  shape.x_transposed = random.coin();
  shape.accumulate = random.coin() && shape.y_dtype == DType::kFloat32;
  shape.mapped = random.coin();
  return std::make_unique<LinearCase>(shape, random);
}

}  // namespace

std::vector<OpCases> linear_cases() {
  OpCases out{"linear", awkward, {}};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t rows : {1, 8, 32, 512, 4096}) {
      for (const int64_t size : {256, 512, 2048}) {
        if (rows == 4096 && size == 2048) continue;
        LinearShape shape{.dtype = dtype, .y_dtype = dtype, .rows = rows, .n = size, .k = size};
        shape.pack_once = true;
        out.bench.push_back([shape](CaseRandom& random) -> CasePtr {
          return std::make_unique<LinearCase>(shape, random);
        });
      }
    }
    // A weight's gradient: 4096 tokens, hidden 512, expert width 128.
    LinearShape gradient{.dtype = dtype, .rows = 256, .n = 512, .k = 4096};
    gradient.weight_transposed = gradient.x_transposed = gradient.accumulate = true;
    out.bench.push_back([gradient](CaseRandom& random) -> CasePtr {
      return std::make_unique<LinearCase>(gradient, random);
    });
  }
  out.memory = linear_memory_cases();
  return {out};
}

}  // namespace mole::kernels
