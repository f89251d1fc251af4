#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/sampling/sampling.h"

namespace mole::kernels {
namespace {

// All passes over `rows` rows of logits, as a sampler makes them; the threads share the rows.
class SamplingCase : public KernelCase {
 public:
  SamplingCase(int64_t rows, int64_t vocab, double spread, double temperature, CaseRandom& random)
      : temperature_(temperature),
        logits_(DType::kFloat32, rows, vocab),
        maxima_(DType::kFloat32, rows, vocab_blocks(vocab)),
        weights_(DType::kFloat32, rows, vocab),
        sums_(DType::kFloat32, rows, vocab_blocks(vocab)),
        kept_sums_(DType::kFloat32, rows, vocab_blocks(vocab)),
        ids_(DType::kInt32, rows, vocab) {
    logits_.fill_normal(random, spread);
    for (int64_t r = 0; r < rows; ++r) {  // tokens that can't come, but one of each block can
      for (int64_t left = random.between(0, 3); left > 0; --left) {
        const int64_t id = random.between(0, vocab - 1);
        if (id % kVocabBlock > 0) logits_.set(r, id, -std::numeric_limits<double>::infinity());
      }
    }
  }

  std::string name() const override {
    return "rows=" + std::to_string(logits_.rows()) +
           " vocab=" + std::to_string(logits_.columns()) + " T=" + std::to_string(temperature_);
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 25.0 * static_cast<double>(logits_.count()); }
  double bytes() const override { return 20.0 * static_cast<double>(logits_.count()); }
  std::vector<Tensor*> outputs() override {
    return {&maxima_, &weights_, &sums_, &kept_sums_, &ids_};
  }
  void run(ThreadTeam& team) override {
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) pass(row);
    };
    team.parallel_for(logits_.rows(), 1, part);
  }
  int64_t independent_rows() const override { return logits_.rows(); }
  void run_row(int64_t row, ThreadTeam& team) override {
    auto one = [&](int64_t, int64_t) { pass(row); };
    team.parallel_for(1, 1, one);
  }

  std::vector<Expectation> expect() override {
    Expectation maxima{&maxima_, "maxima", {}, {}}, weights{&weights_, "weights", {}, {}};
    Expectation sums{&sums_, "sums", {}, {}}, kept_sums{&kept_sums_, "kept sums", {}, {}};
    Expectation ids{&ids_, "ids", {}, {}};
    const auto vocab = static_cast<size_t>(logits_.columns());
    const auto blocks = static_cast<size_t>(vocab_blocks(logits_.columns()));
    const std::vector<double> logits = logits_.doubles();
    std::vector<double> row_weights(vocab), row_sums(blocks), row_maxima(blocks);
    for (size_t first = 0; first < logits.size(); first += vocab) {
      block_maxima_ref(&logits[first], logits_.columns(), row_maxima.data());
      append(&maxima, row_maxima, 0);
      sampling_weights_ref(&logits[first], logits_.columns(), temperature_, 0, row_weights.data(),
                           row_sums.data());
      expect_weights(row_weights, &weights);
      expect_sums(row_sums, row_weights, &sums);
      sampling_weights_ref(&logits[first], logits_.columns(), temperature_, kLeast,
                           row_weights.data(), row_sums.data());
      expect_sums(row_sums, row_weights, &kept_sums);
      expect_ids(&logits[first], &ids);
    }
    return {maxima, weights, sums, kept_sums, ids};
  }

 private:
  static constexpr float kLeast = 0.01f;           // of the weights that are kept
  static constexpr float kLow = -1, kHigh = 1.5f;  // of the logits whose ids are wanted
  // Of a weight: the argument's three roundings, at most 87 large; the exponential's two units; a
  // small weight that is given as 0.
  static double weight_tolerance(double weight) {
    return weight * (steps_tolerance(5, 1) + steps_tolerance(3, 87)) + 0x1p-125;
  }

  void pass(int64_t row) {
    const int64_t vocab = logits_.columns();
    const auto* logits = static_cast<const float*>(logits_.row(row));
    auto* maxima = static_cast<float*>(maxima_.row(row));
    auto* weights = static_cast<float*>(weights_.row(row));
    block_maxima(logits, vocab, maxima);
    const float largest = *std::max_element(maxima, maxima + vocab_blocks(vocab));
    sampling_weights(logits, vocab, largest, temperature_, weights,
                     static_cast<float*>(sums_.row(row)));
    sums_at_least(weights, vocab, kLeast, static_cast<float*>(kept_sums_.row(row)));
    std::vector<TokenId> found;
    ids_between(logits, vocab, kLow, kHigh, &found);
    found.resize(static_cast<size_t>(vocab), -1);
    std::copy(found.begin(), found.end(), static_cast<TokenId*>(ids_.row(row)));
  }

  static void append(Expectation* expectation, const std::vector<double>& want, double tolerance) {
    expectation->want.insert(expectation->want.end(), want.begin(), want.end());
    expectation->tolerance.resize(expectation->want.size(), tolerance);
  }
  static void expect_weights(const std::vector<double>& want, Expectation* weights) {
    for (const double weight : want) {
      weights->want.push_back(weight);
      weights->tolerance.push_back(weight_tolerance(weight));
    }
  }
  // A weight next to the limit may be counted by one side only.
  static void expect_sums(const std::vector<double>& want, const std::vector<double>& weights,
                          Expectation* sums) {
    std::vector<double> tolerance(want.size(), 0x1p-100);
    for (size_t id = 0; id < weights.size(); ++id) {
      double& block = tolerance[id / kVocabBlock];
      block += weight_tolerance(weights[id]) + chain_tolerance(kVocabBlock / 16 + 4, weights[id]);
      if (std::abs(weights[id] - kLeast) <= weight_tolerance(kLeast)) block += weights[id];
    }
    sums->want.insert(sums->want.end(), want.begin(), want.end());
    sums->tolerance.insert(sums->tolerance.end(), tolerance.begin(), tolerance.end());
  }
  void expect_ids(const double* logits, Expectation* ids) const {
    std::vector<double> want;
    for (int64_t id = 0; id < logits_.columns(); ++id) {
      if (logits[id] >= kLow && logits[id] < kHigh) want.push_back(static_cast<double>(id));
    }
    want.resize(static_cast<size_t>(logits_.columns()), -1.0);
    append(ids, want, 0);
  }

  double temperature_;
  Tensor logits_, maxima_, weights_, sums_, kept_sums_, ids_;
};

}  // namespace

std::vector<OpCases> sampling_cases() {
  return {{"sampling",
           [](CaseRandom& random) -> CasePtr {
             const int64_t rows = random.awkward_rows();
             const int64_t vocab = random.coin() ? random.awkward_size() : random.between(1, 3000);
             const double spread = random.coin() ? 1 : 20;
             return std::make_unique<SamplingCase>(rows, vocab, spread, random.coin() ? 1.0 : 0.3,
                                                   random);
           },
           {[](CaseRandom& random) -> CasePtr {
              return std::make_unique<SamplingCase>(1, 102400, 2, 1, random);
            },
            [](CaseRandom& random) -> CasePtr {
              return std::make_unique<SamplingCase>(32, 102400, 2, 1, random);
            }}}};
}

}  // namespace mole::kernels
