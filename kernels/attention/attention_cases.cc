#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/attention/attention_decode_bench.h"
#include "kernels/attention/attention_error.h"
#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"

namespace mole::kernels {
namespace {

struct AttentionShape {
  DType dtype = DType::kFloat32;
  int64_t sequences = 1, queries = 0, first = 0;
  int32_t heads = 1, kv_heads = 1, key = 1, shared = 0, value = 1;
  bool latent = false;  // values are the first `value` numbers of the keys
  KvFormat format = KvFormat::kModel;
};

/// One sequence's tensors; keys and values in blocks of 64 rows, NaN past the context.
class Sequence {
 public:
  Sequence(const AttentionShape& s, CaseRandom& random)
      : shape_(s),
        context_(s.first + s.queries),
        q_(s.dtype, s.queries, s.heads * (s.key + s.shared)),
        k_(s.dtype, capacity(), s.kv_heads * s.key),
        v_(s.dtype, s.latent ? 0 : capacity(), s.kv_heads * s.value),
        k_shared_(s.dtype, capacity(), s.shared),
        out_(s.dtype, s.queries, s.heads * s.value),
        logsumexp_(DType::kFloat32, s.queries, s.heads),
        dout_(s.dtype, s.queries, s.heads * s.value),
        dq_(DType::kFloat32, s.queries, s.heads * s.key),
        dq_shared_(DType::kFloat32, s.queries, s.heads * s.shared),
        dk_(DType::kFloat32, s.queries, s.kv_heads * s.key),
        dk_shared_(DType::kFloat32, s.queries, s.shared),
        dv_(DType::kFloat32, s.queries, s.kv_heads * s.value) {
    for (Tensor* tensor : {&q_, &k_, &v_, &k_shared_, &dout_}) tensor->fill_normal(random);
    for (Tensor* paged : {&k_, &v_, &k_shared_}) {
      for (int64_t r = context_; r < paged->rows(); ++r) {
        for (int64_t c = 0; c < paged->columns(); ++c) paged->set(r, c, std::nan(""));
      }
    }
    if (s.format != KvFormat::kModel) encode_keys();
    Tensor& values = s.latent ? k_ : v_;
    for (int64_t r = 0; r < context_; r += kAttentionBlock) {
      key_blocks_.push_back(s.format == KvFormat::kModel ? k_.row(r) : entries_.row(r));
      value_blocks_.push_back(values.row(r));
      shared_blocks_.push_back(k_shared_.row(r));
    }
  }

  /// Queries [begin, end).
  AttentionArgs args(int64_t begin, int64_t end) {
    const AttentionShape& s = shape_;
    const int64_t width = s.key + s.shared;
    auto* q = static_cast<std::byte*>(q_.row(begin));
    return {.dtype = s.dtype,
            .num_queries = end - begin,
            .first_position = s.first + begin,
            .num_heads = s.heads,
            .num_kv_heads = s.kv_heads,
            .key_dim = s.key,
            .shared_dim = s.shared,
            .value_dim = s.value,
            .scale = 1 / std::sqrt(static_cast<float>(width)),
            .q = q,
            .q_row_stride = s.heads * width,
            .q_head_stride = width,
            .q_shared = q + s.key * dtype_bytes(s.dtype),
            .q_shared_row_stride = s.heads * width,
            .q_shared_head_stride = width,
            .key_blocks = key_blocks_.data(),
            .value_blocks = value_blocks_.data(),
            .shared_blocks = shared_blocks_.data(),
            .key_row_stride = k_.stride(),
            .key_head_stride = s.key,
            .value_row_stride = s.latent ? k_.stride() : v_.stride(),
            .value_head_stride = s.latent ? s.key : s.value,
            .shared_row_stride = k_shared_.stride(),
            .key_format = s.format,
            .out = out_.row(begin),
            .out_row_stride = out_.stride(),
            .out_head_stride = s.value,
            .logsumexp = static_cast<float*>(logsumexp_.row(begin))};
  }
  AttentionArgs args() { return args(0, shape_.queries); }
  AttentionBackwardArgs backward() {
    return {args(),          dout_.data(),           dq_.as<float>(), dq_shared_.as<float>(),
            dk_.as<float>(), dk_shared_.as<float>(), dv_.as<float>()};
  }

  std::vector<Expectation> expect() {
    const PlainAttention plain = this->plain();
    const AttentionBounds bounds = attention_bounds(plain, unit_of(shape_.dtype));
    Expectation out = expectation(out_, "out"), logsumexp = expectation(logsumexp_, "logsumexp");
    attention_ref(plain.shape, plain.q.data(), plain.k.data(), plain.k_shared.data(),
                  plain.v.data(), out.want.data(), logsumexp.want.data());
    out.tolerance = bounds.out;
    logsumexp.tolerance = bounds.logsumexp;
    return {out, logsumexp};
  }

  std::vector<Expectation> expect_gradients() {
    const PlainAttention plain = this->plain();
    const std::vector<Expectation> forward = expect();
    const std::vector<double> dout = dout_.doubles();
    const AttentionGradientBounds bounds = attention_gradient_bounds(
        plain, dout, forward[0].want, forward[1].want, unit_of(shape_.dtype));
    std::vector<double> dq(plain.q.size());
    Expectation dk = expectation(dk_, "dk"), dv = expectation(dv_, "dv");
    Expectation dk_shared = expectation(dk_shared_, "dk_shared");
    attention_backward_ref(plain.shape, plain.q.data(), plain.k.data(), plain.k_shared.data(),
                           plain.v.data(), dout.data(), dq.data(), dk.want.data(),
                           dk_shared.want.data(), dv.want.data());
    dk.tolerance = bounds.dk;
    dk_shared.tolerance = bounds.dk_shared;
    dv.tolerance = bounds.dv;
    // dq holds both parts of a query; the operation writes them apart.
    Expectation own{&dq_, "dq", {}, {}}, shared{&dq_shared_, "dq_shared", {}, {}};
    const auto width = static_cast<std::size_t>(shape_.key + shape_.shared);
    for (std::size_t i = 0; i < dq.size(); ++i) {
      Expectation& part = i % width < static_cast<std::size_t>(shape_.key) ? own : shared;
      part.want.push_back(dq[i]);
      part.tolerance.push_back(bounds.dq[i]);
    }
    std::vector<Expectation> all = {own, dk, dv};
    if (shape_.shared > 0) all.insert(all.end(), {shared, dk_shared});
    return all;
  }

  std::vector<Tensor*> outputs() { return {&out_, &logsumexp_}; }
  std::vector<Tensor*> gradients() { return {&dq_, &dq_shared_, &dk_, &dk_shared_, &dv_}; }
  /// Of the keys and values that are read.
  double cache_bytes() const {
    if (shape_.format != KvFormat::kModel) {
      return static_cast<double>(context_ * entries_.columns() * 4);
    }
    return static_cast<double>(context_ * (k_.columns() + v_.columns() + k_shared_.columns()) *
                               dtype_bytes(shape_.dtype));
  }

 private:
  /// Keys to entries, and back to what those say.
  void encode_keys() {
    const KvEntryShape entry{shape_.format, shape_.dtype, shape_.value, shape_.key - shape_.value};
    entries_ = Tensor(DType::kInt32, capacity(), entry.bytes() / 4);
    std::vector<int64_t> slots(static_cast<std::size_t>(context_));
    std::iota(slots.begin(), slots.end(), 0);
    std::vector<const void*> blocks;
    for (int64_t r = 0; r < context_; r += kAttentionBlock) blocks.push_back(entries_.row(r));
    ThreadTeam team(1);
    kv_write({entry, k_.data(), context_, k_.stride(), slots.data(), entries_.as<std::byte>()},
             team);
    const KvReadArgs read{entry, blocks.data(), 0, context_, shape_.key, k_.data(), k_.stride()};
    kv_read(&read, 1, team);
  }

  int64_t capacity() const { return (context_ + kAttentionBlock - 1) / 64 * 64; }
  static Expectation expectation(const Tensor& tensor, const std::string& name) {
    return {&tensor, name, std::vector<double>(static_cast<std::size_t>(tensor.count())), {}};
  }

  /// The first `columns` numbers of every head of the rows inside the context.
  std::vector<double> rows(const Tensor& from, int64_t heads, int64_t dim, int64_t columns) const {
    std::vector<double> out;
    for (int64_t r = 0; r < context_; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t c = 0; c < columns; ++c) out.push_back(from.at(r, h * dim + c));
      }
    }
    return out;
  }
  PlainAttention plain() {
    const AttentionShape& s = shape_;
    return {args(), q_.doubles(), rows(k_, s.kv_heads, s.key, s.key),
            rows(k_shared_, 1, s.shared, s.shared),
            rows(s.latent ? k_ : v_, s.kv_heads, s.latent ? s.key : s.value, s.value)};
  }

  AttentionShape shape_;
  int64_t context_;
  Tensor q_, k_, v_, k_shared_, out_, logsumexp_, dout_, dq_, dq_shared_, dk_, dk_shared_, dv_;
  Tensor entries_;  // compressed keys
  std::vector<const void*> key_blocks_, value_blocks_, shared_blocks_;
};

class AttentionCase : public KernelCase {
 public:
  AttentionCase(const AttentionShape& shape, CaseRandom& random) : shape_(shape) {
    for (int64_t s = 0; s < shape.sequences; ++s) {
      sequences_.push_back(std::make_unique<Sequence>(shape, random));
      args_.push_back(sequences_.back()->args());
    }
  }

  std::string name() const override {
    const AttentionShape& s = shape_;
    return "sequences=" + std::to_string(s.sequences) + " queries=" + std::to_string(s.queries) +
           " after=" + std::to_string(s.first) + " heads=" + std::to_string(s.heads) + "/" +
           std::to_string(s.kv_heads) + " key=" + std::to_string(s.key) + "+" +
           std::to_string(s.shared) + " value=" + std::to_string(s.value) +
           (s.latent ? " latent " : " ") + std::string(dtype_name(s.dtype)) + " " +
           std::string(kv_format_name(s.format));
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override {
    return 2 * pairs() * (shape_.key + shape_.shared + shape_.value);
  }
  double bytes() const override {
    double sum = 0;
    for (const auto& sequence : sequences_) sum += sequence->cache_bytes();
    return sum;
  }
  std::vector<Tensor*> outputs() override {
    std::vector<Tensor*> all;
    for (const auto& sequence : sequences_) {
      for (Tensor* tensor : sequence->outputs()) all.push_back(tensor);
    }
    return all;
  }
  void run(ThreadTeam& team) override { attention(args_.data(), shape_.sequences, team); }
  int64_t independent_rows() const override { return shape_.sequences * shape_.queries; }
  void run_row(int64_t row, ThreadTeam& team) override {
    const int64_t query = row % shape_.queries;
    const auto sequence = static_cast<std::size_t>(row / shape_.queries);
    const AttentionArgs args = sequences_[sequence]->args(query, query + 1);
    attention(&args, 1, team);
  }
  std::vector<Expectation> expect() override {
    std::vector<Expectation> all;
    for (const auto& sequence : sequences_) {
      for (Expectation& one : sequence->expect()) all.push_back(std::move(one));
    }
    return all;
  }

 protected:
  double pairs() const {
    const auto queries = static_cast<double>(shape_.queries);
    return static_cast<double>(shape_.sequences * shape_.heads) *
           (queries * static_cast<double>(shape_.first) + queries * (queries + 1) / 2);
  }

  AttentionShape shape_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<AttentionArgs> args_;
};

class AttentionBackwardCase : public AttentionCase {
 public:
  AttentionBackwardCase(const AttentionShape& shape, CaseRandom& random)
      : AttentionCase(shape, random) {
    for (const auto& sequence : sequences_) backward_.push_back(sequence->backward());
    ThreadTeam one(1);
    AttentionCase::run(one);
  }
  double flops() const override {
    return 2 * pairs() * (3 * (shape_.key + shape_.shared) + 2 * shape_.value);
  }
  std::vector<Tensor*> outputs() override {
    std::vector<Tensor*> all;
    for (const auto& sequence : sequences_) {
      for (Tensor* tensor : sequence->gradients()) all.push_back(tensor);
    }
    return all;
  }
  void run(ThreadTeam& team) override {
    attention_backward(backward_.data(), shape_.sequences, team);
  }
  int64_t independent_rows() const override { return 0; }
  std::vector<Expectation> expect() override {
    std::vector<Expectation> all;
    for (const auto& sequence : sequences_) {
      for (Expectation& one : sequence->expect_gradients()) all.push_back(std::move(one));
    }
    return all;
  }

 private:
  std::vector<AttentionBackwardArgs> backward_;
};

AttentionShape awkward_shape(CaseRandom& random, bool whole) {
  AttentionShape s;
  s.dtype = random.float_dtype();
  s.sequences = random.between(1, 3);
  const int64_t context = random.pick({0, 1, 2, 9, 63, 64, 65, 100, 129, 257, 400});
  s.queries = whole ? context : std::min<int64_t>(context, random.pick({0, 1, 3, 9, 200}));
  s.first = context - s.queries;
  s.kv_heads = static_cast<int32_t>(random.between(1, 3));
  s.heads = s.kv_heads * static_cast<int32_t>(random.between(1, 5));
  s.key = static_cast<int32_t>(random.between(1, 50));
  s.shared = random.coin() ? 0 : static_cast<int32_t>(random.between(1, 20));
  s.latent = !whole && random.coin();
  s.value = static_cast<int32_t>(random.between(1, s.latent ? s.key : 50));
  if (s.latent && s.kv_heads == 1 && s.shared == 0) {
    s.format = static_cast<KvFormat>(random.between(0, 2));
  }
  return s;
}

template <typename Case>
OpCases cases(const std::string& op, bool whole, const std::vector<AttentionShape>& bench) {
  OpCases out{op,
              [whole](CaseRandom& random) -> CasePtr {
                return std::make_unique<Case>(awkward_shape(random, whole), random);
              },
              {}};
  for (const AttentionShape& shape : bench) {
    out.bench.push_back(
        [shape](CaseRandom& random) -> CasePtr { return std::make_unique<Case>(shape, random); });
  }
  return out;
}

}  // namespace

std::vector<OpCases> attention_cases() {
  constexpr DType kBf16 = DType::kBFloat16;
  const std::vector<AttentionShape> training = {{kBf16, 8, 256, 0, 8, 8, 32, 16, 32},
                                                {kBf16, 4, 512, 0, 8, 8, 32, 16, 32},
                                                {kBf16, 1, 512, 0, 16, 16, 128, 64, 128}};
  std::vector<AttentionShape> forward = training;
  forward.push_back({kBf16, 1, 512, 3584, 16, 16, 128, 64, 128});  // a late chunk of a prompt
  forward.push_back({kBf16, 8, 1, 511, 8, 1, 144, 0, 128, true});  // small MLA decode
  forward.push_back({kBf16, 1, 1, 4095, 32, 8, 128, 0, 128});      // Mixtral decode
  OpCases all = cases<AttentionCase>("attention", false, forward);
  all.memory = attention_decode_benches();
  return {all, cases<AttentionBackwardCase>("attention_backward", true, training)};
}

}  // namespace mole::kernels
