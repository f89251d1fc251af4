// linear with weights that come from memory, as in a large model's step.
#include "kernels/cases/memory_weights.h"
#include "kernels/linear/linear_cases.h"

namespace mole::kernels {
namespace {

class LinearMemoryCase : public KernelCase {
 public:
  LinearMemoryCase(int64_t rows, int64_t n, int64_t k, CaseRandom& random)
      : rows_(rows), n_(n), k_(k), x_(DType::kBFloat16, rows, k), y_(DType::kBFloat16, rows, n) {
    x_.fill_normal(random);
  }

  std::string name() const override {
    return "rows=" + std::to_string(rows_) + " n=" + std::to_string(n_) +
           " k=" + std::to_string(k_) + " bfloat16";
  }
  double flops() const override { return 2.0 * static_cast<double>(rows_ * n_ * k_); }
  double bytes() const override { return 2.0 * static_cast<double>(n_ * k_); }  // the weight's
  DType dtype() const override { return DType::kBFloat16; }
  std::vector<Tensor*> outputs() override { return {&y_}; }
  std::vector<Expectation> expect() override { return {}; }

  void run(ThreadTeam& team) override {
    if (weights_ == nullptr) weights_ = memory_weights(n_, k_, team);
    LinearArgs args{.x = x_.data(), .rows = rows_, .x_stride = k_};
    args.weight = &(*weights_)[next_++ % weights_->size()];
    args.y = y_.data();
    args.y_dtype = DType::kBFloat16;
    args.y_stride = n_;
    linear(args, team);
  }

 private:
  int64_t rows_, n_, k_;
  Tensor x_, y_;
  std::shared_ptr<const std::vector<PackedWeight>> weights_;
  std::size_t next_ = 0;
};

}  // namespace

std::vector<std::function<CasePtr(CaseRandom&)>> linear_memory_cases() {
  struct Shape {
    int64_t n, k;
    std::vector<int64_t> rows;
  };
  // An expert's width, a dense layer there and back, the vocabulary.
  const std::vector<Shape> shapes = {{2816, 2048, {1, 2, 4, 8, 16, 32, 64, 512}},
                                     {10944, 2048, {1, 8, 32, 512}},
                                     {2048, 10944, {1, 8, 32, 512}},
                                     {102400, 2048, {1, 8, 32}}};
  std::vector<std::function<CasePtr(CaseRandom&)>> out;
  for (const Shape& shape : shapes) {
    for (const int64_t rows : shape.rows) {
      out.push_back([rows, n = shape.n, k = shape.k](CaseRandom& random) -> CasePtr {
        return std::make_unique<LinearMemoryCase>(rows, n, k, random);
      });
    }
  }
  return out;
}

}  // namespace mole::kernels
