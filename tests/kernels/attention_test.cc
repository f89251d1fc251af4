#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include "tests/kernels/attention_case.h"

namespace mole::kernels::testing {
namespace {

template <typename T>
void check_against_reference(AttentionCase<T>& c) {
  const PlainAttention p = c.plain();
  const int64_t rows = c.shape.queries * c.shape.heads, value = c.shape.value;
  std::vector<double> out(static_cast<size_t>(rows * value)), logsumexp(static_cast<size_t>(rows));
  attention_ref(p.shape, p.q.data(), p.k.data(), p.k_shared.data(), p.v.data(), out.data(),
                logsumexp.data());
  const AttentionBounds bounds = attention_bounds(p, roundoff_of<T>());
  expect_within(c.out.plain(), out, bounds.out, "out");
  expect_within(c.logsumexp.doubles(), logsumexp, bounds.logsumexp, "logsumexp");
  EXPECT_TRUE(c.out.data.guards_intact() && c.logsumexp.guards_intact());
  int64_t written = 0;
  for (double x : c.out.data.doubles()) written += std::isnan(x) ? 0 : 1;
  EXPECT_EQ(written, rows * value) << "wrote into a gap";
}

template <typename T>
void run_one(AttentionCase<T>& c, ThreadTeam& team) {
  const AttentionArgs args = c.args();
  attention(&args, 1, team);
}

template <typename T>
void check_shape(const AttentionShape& shape) {
  SCOPED_TRACE(shape_text(shape) + " bytes " + std::to_string(sizeof(T)));
  AttentionCase<T> first(shape);
  ThreadTeam one(1);
  run_one(first, one);
  check_against_reference(first);
  for_each_isa_and_team([&](ThreadTeam& team) {
    AttentionCase<T> again(shape);
    run_one(again, team);
    EXPECT_TRUE(first.same_bits(again));
  });
}

void check_both(const AttentionShape& shape) {
  check_shape<float>(shape);
  check_shape<BFloat16>(shape);
}

TEST(Attention, ContextsAroundBlockBorders) {
  for (int64_t context : {1, 2, 63, 64, 65, 127, 128, 129}) {
    check_both({context, 0, 2, 2, 16, 0, 16});      // all rows of a prompt
    check_both({1, context - 1, 4, 2, 24, 8, 20});  // one row after a context
    check_both({std::min<int64_t>(context, 7), context - std::min<int64_t>(context, 7), 3, 1, 9, 3,
                5, false, 3});
  }
}

TEST(Attention, ContextsAroundSpanBorders) {
  // Decode of long contexts, which threads share, and rows whose spans differ.
  for (int64_t context : {255, 256, 257, 511, 513, 1300}) {
    check_both({1, context - 1, 4, 2, 24, 8, 20});
    check_both({1, context - 1, 5, 1, 64, 0, 32, true});
    check_both({3, context - 3, 20, 1, 40, 0, 32, true});
  }
  check_shape<BFloat16>({40, 500, 2, 2, 32, 16, 32});
  check_shape<BFloat16>({270, 255, 1, 1, 32, 0, 33, false, 1});
}

TEST(Attention, NoRowsAtAll) {
  check_both({0, 0, 2, 1, 16, 0, 16});
  check_both({0, 70, 2, 1, 16, 4, 16});
  ThreadTeam team(2);
  attention(nullptr, 0, team);
}

TEST(Attention, HeadLayouts) {
  check_both({70, 3, 8, 2, 16, 0, 16, false, 5});    // GQA
  check_both({33, 40, 7, 1, 40, 0, 33, false, 1});   // MQA, odd dimensions
  check_both({66, 0, 4, 4, 32, 16, 32});             // MLA expanded, shared rotary part
  check_both({9, 120, 3, 3, 31, 17, 18, false, 2});  // the same, odd dimensions
  check_both({3, 127, 16, 1, 576, 0, 512, true});    // MLA absorbed
  check_both({2, 64, 5, 1, 100, 28, 77, true, 3});   // latent keys with a shared part
}

TEST(Attention, AnyChunkingGivesTheSameBits) {
  const AttentionShape shape{150, 30, 4, 2, 32, 16, 32, false, 3};
  AttentionCase<BFloat16> whole(shape), chunked(shape);
  ThreadTeam team(2);
  run_one(whole, team);
  Random random(110);
  for (int64_t begin = 0; begin < shape.queries;) {
    const int64_t end = std::min(shape.queries, begin + random.integer(1, 40));
    const AttentionArgs args = chunked.args(begin, end);
    attention(&args, 1, team);
    begin = end;
  }
  EXPECT_TRUE(whole.same_bits(chunked)) << seed_text();
}

TEST(Attention, ASequenceInABatchIsTheSameAsAlone) {
  const AttentionShape shapes[] = {{1, 200, 4, 2, 32, 16, 32},
                                   {90, 0, 4, 2, 32, 16, 32},
                                   {5, 60, 4, 2, 32, 16, 32},
                                   {0, 9, 4, 2, 32, 16, 32},
                                   {1, 0, 4, 2, 32, 16, 32}};
  for (int32_t threads : {1, 2, 3, 4}) {
    ThreadTeam team(threads);
    std::vector<AttentionCase<BFloat16>> alone, batched;
    std::vector<AttentionArgs> args;
    uint64_t stream = 120;
    for (const AttentionShape& shape : shapes) {
      alone.emplace_back(shape, stream);
      run_one(alone.back(), team);
      batched.emplace_back(shape, stream);
      stream += 10;
    }
    for (auto& c : batched) args.push_back(c.args());
    attention(args.data(), static_cast<int64_t>(args.size()), team);
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(alone[i].same_bits(batched[i])) << i << " " << seed_text();
    }
  }
}

/// A NaN or infinity in one key or value of the first head spoils the rows that see it and leaves
/// every bit of the others.
template <typename T>
void check_broken_number(const AttentionShape& shape, int64_t at, bool in_key, double number) {
  SCOPED_TRACE(shape_text(shape) + " at " + std::to_string(at) + (in_key ? " key" : " value"));
  AttentionCase<T> clean(shape), broken(shape);
  ThreadTeam team(2);
  run_one(clean, team);
  assign((in_key || shape.latent ? broken.k : broken.v).at(at, 0, 3), number);
  run_one(broken, team);
  for (int64_t t = 0; t < shape.queries; ++t) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t d = 0; d < shape.value; ++d) {
        T &was = clean.out.at(t, h, d), &is = broken.out.at(t, h, d);
        if (shape.first + t < at || h >= shape.heads / shape.kv_heads) {
          ASSERT_EQ(std::memcmp(&was, &is, sizeof(T)), 0) << t << " " << d << " " << seed_text();
        } else if (in_key || shape.latent || d == 3) {
          ASSERT_FALSE(std::isfinite(to_double(is))) << t << " " << d;
        }
      }
    }
  }
}

TEST(Attention, NanReachesExactlyTheRowsThatSeeIt) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (bool in_key : {true, false}) {
    check_broken_number<float>({80, 0, 2, 1, 16, 0, 16}, 41, in_key, nan);
    check_broken_number<BFloat16>({80, 0, 2, 1, 16, 0, 16}, 41, in_key, nan);
    check_broken_number<BFloat16>({30, 250, 3, 3, 16, 8, 40}, 262, in_key, nan);
  }
  check_broken_number<BFloat16>({40, 300, 5, 1, 64, 0, 32, true}, 320, true, nan);
  check_broken_number<BFloat16>({80, 0, 2, 1, 16, 0, 16}, 79, false, inf);
  check_broken_number<BFloat16>({80, 0, 2, 1, 16, 0, 16}, 0, false, -inf);
}

TEST(Attention, ScoresOfMinusInfinityCountNothing) {
  // A whole first block and half of the second overflow to -infinity; the rest decides.
  const AttentionShape shape{1, 127, 1, 1, 16, 0, 16};
  AttentionCase<float> c(shape), rest({1, 31, 1, 1, 16, 0, 16});
  for (int32_t d = 0; d < 16; ++d) {
    c.q.at(0, 0, d) = rest.q.at(0, 0, d) = 1.0f;
    for (int64_t j = 0; j < 96; ++j) c.k.at(j, 0, d) = -3e38f;
    for (int64_t j = 96; j < 128; ++j) {
      c.k.at(j, 0, d) = rest.k.at(j - 96, 0, d);
      c.v.at(j, 0, d) = rest.v.at(j - 96, 0, d);
    }
  }
  ThreadTeam team(1);
  run_one(c, team);
  run_one(rest, team);
  // Not the same bits: the keys lie in other chains of the sum.
  const double bound = 16 * kRoundoff;
  for (int32_t d = 0; d < 16; ++d) {
    EXPECT_NEAR(c.out.at(0, 0, d), rest.out.at(0, 0, d), bound * 4);
  }
  EXPECT_NEAR(c.logsumexp[0], rest.logsumexp[0], bound * std::abs(rest.logsumexp[0]));
}

TEST(Attention, LongRowsAndManyRowsInSeveralPasses) {
  // 1030 rows of 576 + 512 dimensions don't fit one pass; the reference sees only the last queries.
  const AttentionShape shape{206, 0, 5, 1, 576, 0, 512, true};
  AttentionCase<BFloat16> whole(shape), last(shape);
  ThreadTeam team(2);
  run_one(whole, team);
  const AttentionArgs args = last.args(203, 206);
  attention(&args, 1, team);
  for (int64_t t = 203; t < 206; ++t) {
    EXPECT_EQ(0, std::memcmp(&whole.out.at(t, 0, 0), &last.out.at(t, 0, 0), 5 * 512 * 2));
  }
}

}  // namespace
}  // namespace mole::kernels::testing
