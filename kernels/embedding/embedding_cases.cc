#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/embedding/embedding.h"

namespace mole::kernels {
namespace {

struct EmbeddingShape {
  DType dtype = DType::kFloat32;
  int64_t vocab = 0, tokens = 0, dim = 0;
};

std::string describe(const EmbeddingShape& shape) {
  return "vocab=" + std::to_string(shape.vocab) + " tokens=" + std::to_string(shape.tokens) +
         " dim=" + std::to_string(shape.dim) + " " + std::string(dtype_name(shape.dtype));
}

std::vector<TokenId> random_ids(const EmbeddingShape& shape, CaseRandom& random) {
  std::vector<TokenId> out;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    out.push_back(static_cast<TokenId>(random.between(0, shape.vocab - 1)));
  }
  return out;
}

class EmbeddingCase : public KernelCase {
 public:
  EmbeddingCase(const EmbeddingShape& shape, CaseRandom& random)
      : shape_(shape),
        ids_(random_ids(shape, random)),
        table_(shape.dtype, shape.vocab, shape.dim),
        y_(shape.dtype, shape.tokens, shape.dim) {
    table_.fill_normal(random);
  }

  std::string name() const override { return describe(shape_); }
  DType dtype() const override { return shape_.dtype; }
  double flops() const override { return 0; }
  double bytes() const override {
    return 2.0 * static_cast<double>(y_.count() * dtype_bytes(shape_.dtype));
  }
  std::vector<Tensor*> outputs() override { return {&y_}; }
  void run(ThreadTeam& team) override { rows(0, shape_.tokens, team); }
  int64_t independent_rows() const override { return shape_.tokens; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    Expectation out{&y_, "y", {}, {}};
    for (const TokenId id : ids_) {
      for (int64_t d = 0; d < shape_.dim; ++d) out.want.push_back(table_.at(id, d));
    }
    out.tolerance.assign(out.want.size(), 0.0);  // a copy
    return {out};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    embedding(table_.data(), shape_.dtype, ids_.data() + first, count, shape_.dim, y_.row(first),
              team);
  }

  EmbeddingShape shape_;
  std::vector<TokenId> ids_;
  Tensor table_, y_;
};

class EmbeddingBackwardCase : public KernelCase {
 public:
  EmbeddingBackwardCase(const EmbeddingShape& shape, CaseRandom& random)
      : shape_(shape),
        ids_(random_ids(shape, random)),
        dy_(shape.dtype, shape.tokens, shape.dim),
        dtable_(DType::kFloat32, shape.vocab, shape.dim) {
    dy_.fill_normal(random);
    dtable_.fill_normal(random);
  }

  std::string name() const override { return describe(shape_); }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return static_cast<double>(dy_.count()); }
  double bytes() const override {
    return static_cast<double>(dy_.count() * (dtype_bytes(shape_.dtype) + 8));
  }
  std::vector<Tensor*> outputs() override { return {&dtable_}; }
  void run(ThreadTeam& team) override {
    embedding_backward(dy_.data(), shape_.dtype, ids_.data(), shape_.tokens, shape_.vocab,
                       shape_.dim, dtable_.as<float>(), team);
  }

  std::vector<Expectation> expect() override {
    Expectation out{&dtable_, "dtable", dtable_.doubles(), {}};
    std::vector<double> magnitude;
    for (const double value : out.want) magnitude.push_back(std::abs(value));
    for (int64_t t = 0; t < shape_.tokens; ++t) {
      for (int64_t d = 0; d < shape_.dim; ++d) {
        const auto at =
            static_cast<std::size_t>(ids_[static_cast<std::size_t>(t)] * shape_.dim + d);
        out.want[at] += dy_.at(t, d);
        magnitude[at] += std::abs(dy_.at(t, d));
      }
    }
    for (const double size : magnitude) {
      out.tolerance.push_back(chain_tolerance(shape_.tokens + 1, size));
    }
    return {out};
  }

 private:
  EmbeddingShape shape_;
  std::vector<TokenId> ids_;
  Tensor dy_, dtable_;
};

template <typename Case>
CasePtr awkward(CaseRandom& random) {
  const EmbeddingShape shape{random.float_dtype(), random.between(1, 40), random.awkward_rows(),
                             random.awkward_size()};
  return std::make_unique<Case>(shape, random);
}

template <typename Case>
OpCases cases(const std::string& op) {
  OpCases out{op, awkward<Case>, {}};
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const EmbeddingShape shape{dtype, 8192, 4096, 512};
    out.bench.push_back(
        [shape](CaseRandom& random) -> CasePtr { return std::make_unique<Case>(shape, random); });
  }
  return out;
}

}  // namespace

std::vector<OpCases> embedding_cases() {
  return {cases<EmbeddingCase>("embedding"), cases<EmbeddingBackwardCase>("embedding_backward")};
}

}  // namespace mole::kernels
