#include <gtest/gtest.h>

#include "kernels/attention/attention.h"
#include "tests/kernels/attention_case.h"

namespace mole::kernels::testing {
namespace {

template <typename T>
struct BackwardCase {
  explicit BackwardCase(const AttentionShape& s, uint64_t stream = 200)
      : c(s, stream),
        dq(s.queries * s.heads * s.key),
        dq_shared(s.queries * s.heads * s.shared),
        dk(s.queries * s.kv_heads * s.key),
        dk_shared(s.queries * s.shared),
        dv(s.queries * s.kv_heads * s.value) {}
  AttentionBackwardArgs args() {
    return {c.args(),  c.dout.data.data(), dq.data(), dq_shared.data(),
            dk.data(), dk_shared.data(),   dv.data()};
  }
  void run(ThreadTeam& team) {
    const AttentionBackwardArgs a = args();
    attention(&a.forward, 1, team);
    attention_backward(&a, 1, team);
  }
  bool same_bits(const BackwardCase& o) const {
    return dq.same_bits(o.dq) && dq_shared.same_bits(o.dq_shared) && dk.same_bits(o.dk) &&
           dk_shared.same_bits(o.dk_shared) && dv.same_bits(o.dv);
  }
  bool guards_intact() const {
    return dq.guards_intact() && dq_shared.guards_intact() && dk.guards_intact() &&
           dk_shared.guards_intact() && dv.guards_intact();
  }
  /// [T, H, key + shared]
  std::vector<double> plain_dq() const {
    std::vector<double> out;
    const int64_t key = c.shape.key, shared = c.shape.shared;
    for (int64_t row = 0; row < c.shape.queries * c.shape.heads; ++row) {
      for (int64_t d = 0; d < key; ++d) out.push_back(dq.data()[row * key + d]);
      for (int64_t d = 0; d < shared; ++d) out.push_back(dq_shared.data()[row * shared + d]);
    }
    return out;
  }
  AttentionCase<T> c;
  Guarded<float> dq, dq_shared, dk, dk_shared, dv;
};

using Values = std::vector<double>;
template <typename T>
void check_against_reference(BackwardCase<T>& b) {
  const PlainAttention p = b.c.plain();
  const Values dout = b.c.dout.plain();
  Values out(dout.size()), logsumexp(static_cast<size_t>(b.c.logsumexp.size()));
  Values dq(p.q.size()), dk(p.k.size()), dk_shared(p.k_shared.size()), dv(p.v.size());
  attention_ref(p.shape, p.q.data(), p.k.data(), p.k_shared.data(), p.v.data(), out.data(),
                logsumexp.data());
  attention_backward_ref(p.shape, p.q.data(), p.k.data(), p.k_shared.data(), p.v.data(),
                         dout.data(), dq.data(), dk.data(), dk_shared.data(), dv.data());
  const AttentionGradientBounds bounds =
      attention_gradient_bounds(p, dout, out, logsumexp, roundoff_of<T>());
  expect_within(b.plain_dq(), dq, bounds.dq, "dq");
  expect_within(b.dk.doubles(), dk, bounds.dk, "dk");
  expect_within(b.dk_shared.doubles(), dk_shared, bounds.dk_shared, "dk_shared");
  expect_within(b.dv.doubles(), dv, bounds.dv, "dv");
  EXPECT_TRUE(b.guards_intact());
}

template <typename T>
void check_shape(const AttentionShape& shape) {
  SCOPED_TRACE(shape_text(shape) + " bytes " + std::to_string(sizeof(T)));
  BackwardCase<T> first(shape);
  ThreadTeam one(1);
  first.run(one);
  check_against_reference(first);
  for_each_isa_and_team([&](ThreadTeam& team) {
    BackwardCase<T> again(shape);
    again.run(team);
    EXPECT_TRUE(first.same_bits(again));
  });
}

TEST(AttentionBackward, MatchesReferenceWithEqualBitsEverywhere) {
  const AttentionShape kShapes[] = {
      {0, 0, 2, 1, 16, 4, 16},           {1, 0, 1, 1, 8, 0, 8},
      {5, 0, 4, 2, 16, 0, 16, false, 3},  // GQA with gaps
      {63, 0, 2, 2, 16, 8, 16},          {64, 0, 3, 1, 20, 0, 12},
      {65, 0, 4, 4, 32, 16, 32},  // MLA expanded
      {128, 0, 2, 1, 9, 5, 7, false, 1}, {129, 0, 6, 3, 17, 3, 18},
  };
  for (const AttentionShape& shape : kShapes) {
    check_shape<float>(shape);
    check_shape<BFloat16>(shape);
  }
}

TEST(AttentionBackward, ASequenceInABatchIsTheSameAsAlone) {
  const AttentionShape shapes[] = {{40, 0, 4, 4, 32, 16, 32},
                                   {0, 0, 4, 4, 32, 16, 32},
                                   {130, 0, 4, 4, 32, 16, 32},
                                   {1, 0, 4, 4, 32, 16, 32}};
  for (int32_t threads : {1, 2, 3}) {
    ThreadTeam team(threads);
    std::vector<BackwardCase<BFloat16>> alone, batched;
    std::vector<AttentionBackwardArgs> args;
    uint64_t stream = 220;
    for (const AttentionShape& shape : shapes) {
      alone.emplace_back(shape, stream);
      alone.back().run(team);
      batched.emplace_back(shape, stream);
      stream += 10;
    }
    for (auto& b : batched) {
      args.push_back(b.args());
      attention(&args.back().forward, 1, team);
    }
    attention_backward(args.data(), static_cast<int64_t>(args.size()), team);
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(alone[i].same_bits(batched[i])) << i << " " << seed_text();
    }
  }
}

TEST(AttentionBackward, ReferenceGradientMatchesDifferences) {
  AttentionArgs s;
  s.num_queries = 6;
  s.num_heads = 4;
  s.num_kv_heads = 2;
  s.key_dim = 5;
  s.shared_dim = 3;
  s.value_dim = 4;
  s.scale = 0.4f;
  Values q = random_doubles(6 * 4 * 8, 241), k = random_doubles(6 * 2 * 5, 242);
  Values k_shared = random_doubles(6 * 3, 243), v = random_doubles(6 * 2 * 4, 244);
  const Values dout = random_doubles(6 * 4 * 4, 245);
  Values out(dout.size()), logsumexp(24);
  Values dq(q.size()), dk(k.size()), dk_shared(k_shared.size()), dv(v.size());
  attention_backward_ref(s, q.data(), k.data(), k_shared.data(), v.data(), dout.data(), dq.data(),
                         dk.data(), dk_shared.data(), dv.data());
  auto loss = [&] {
    attention_ref(s, q.data(), k.data(), k_shared.data(), v.data(), out.data(), logsumexp.data());
    return dot(out, dout);
  };
  expect_gradient(q, dq, loss, 60, "dq");
  expect_gradient(k, dk, loss, 60, "dk");
  expect_gradient(k_shared, dk_shared, loss, 18, "dk_shared");
  expect_gradient(v, dv, loss, 48, "dv");
}

}  // namespace
}  // namespace mole::kernels::testing
