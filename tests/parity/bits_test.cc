// Promise 1 on a real model, whatever is combined: weights' and cache's formats, instruction sets,
// one to four threads, chunks, batches, drafts, pre-emption, pages from the prefix cache and from a
// swap file, engines that start again. Models, requests and ways are drawn; MOLE_SEED repeats a
// failure, MOLE_BITS_MODELS draws more models than a short run has (21 meet every pair of formats).
// And promise 2: the trainer's forward gives the bits that were served.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>

#include "kernels/torch/team.h"
#include "model/trainable.h"
#include "tests/model/tiny_models.h"
#include "tests/parity/bits_run.h"

namespace mole::model::testing {
namespace {

constexpr uint64_t kModels = 6;
constexpr int32_t kWays = 4;

uint64_t number_of(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// An empty folder, gone with the object.
class Scratch {
 public:
  Scratch() {
    std::string name = ::testing::TempDir() + "/bits_XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// Rows of the trainer's forward beside what was served of them.
struct Scored {
  std::vector<TokenId> ids;
  std::vector<int32_t> starts{0}, prompts;
  std::vector<const BitsSample*> served;  // of the token after each row; null = not known
};

Scored rows_of(const std::vector<runtime::GenerateRequest>& requests, const BitsAnswers& answers) {
  Scored rows;
  for (size_t r = 0; r < requests.size(); ++r) {
    for (const BitsAnswer& answer : answers[r]) {
      const auto& prompt = requests[r].prompt;
      rows.ids.insert(rows.ids.end(), prompt.begin(), prompt.end());
      for (size_t i = 1; i < prompt.size(); ++i) {
        rows.served.push_back(answer.prompt.empty() ? nullptr : &answer.prompt[i]);
      }
      for (const BitsSample& sample : answer.tokens) {
        rows.ids.push_back(sample.token);
        rows.served.push_back(&sample);
      }
      rows.served.push_back(nullptr);
      rows.starts.push_back(static_cast<int32_t>(rows.ids.size()));
      rows.prompts.push_back(static_cast<int32_t>(prompt.size()));
    }
  }
  return rows;
}

/// The token that was taken and the `rank` best ones of every row, one target a pass.
void expect_trainer_agrees(const BitsModel& drawn, const std::filesystem::path& folder,
                           const std::vector<runtime::GenerateRequest>& requests,
                           const BitsAnswers& answers, int32_t threads) {
  auto trainable = Trainable::load(folder, {.dtype = drawn.formats.dtype, .threads = threads});
  ASSERT_TRUE(trainable.ok()) << trainable.status();
  const Scored rows = rows_of(requests, answers);
  std::vector<float> scores(rows.ids.size());
  for (size_t rank = 0; rank <= 5; ++rank) {
    std::vector<TokenId> targets(rows.ids.size(), -1);
    std::vector<uint32_t> want(rows.ids.size());
    for (size_t t = 0; t < targets.size(); ++t) {
      const BitsSample* sample = rows.served[t];
      if (sample == nullptr) continue;
      const auto [token, bits] =
          rank == 0 ? std::pair(sample->token, sample->logprob) : sample->best[rank - 1];
      targets[t] = token;
      want[t] = bits;
    }
    const Status status =
        (*trainable)->score({rows.ids, rows.starts, targets}, rows.prompts, scores);
    ASSERT_TRUE(status.ok()) << status;
    for (size_t t = 0; t < targets.size(); ++t) {
      if (targets[t] < 0) continue;
      ASSERT_EQ(want[t], std::bit_cast<uint32_t>(scores[t]))
          << "row " << t << ", token " << targets[t] << ", choice " << rank;
    }
  }
}

/// Which answer differs first, and where.
std::string first_difference(const BitsAnswers& want, const BitsAnswers& got) {
  for (size_t r = 0; r < want.size(); ++r) {
    for (size_t s = 0; s < want[r].size(); ++s) {
      const BitsAnswer &a = want[r][s], &b = got[r][s];
      if (a == b) continue;
      const auto where = std::mismatch(a.tokens.begin(),
                                       a.tokens.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                              a.tokens.size(), b.tokens.size())),
                                       b.tokens.begin());
      return "request " + std::to_string(r) + ", sequence " + std::to_string(s) + ": " +
             std::to_string(a.tokens.size()) + " and " + std::to_string(b.tokens.size()) +
             " tokens, equal before " + std::to_string(where.first - a.tokens.begin()) +
             ", prompts' scores " + (a.prompt == b.prompt ? "equal" : "differ") + ", ends " +
             a.finish + " and " + b.finish;
    }
  }
  return "nothing";
}

/// One model by all its ways. False after a failure.
bool check_model(const BitsFormats& formats, uint64_t seed, BitsTally* tally) {
  Draw draw(seed);
  const BitsModel model = draw_model(formats, draw);
  SCOPED_TRACE(formats.describe() + ", " + model.config.dump());
  const TinyCheckpoint checkpoint(model.config, seed, model.stored);
  const auto requests = draw_requests(model, draw);
  BitsTally of_plain;
  const Scratch nothing;
  const auto plain = run_bits(model, plain_way(model), requests, checkpoint.folder(),
                              nothing.folder(), seed, &of_plain);
  if (plain.size() != 1) return false;
  for (int32_t index = 0; index < kWays; ++index) {
    const BitsWay way = draw_way(model, index + draw.below(12), draw);
    SCOPED_TRACE(way.describe());
    const Scratch scratch;
    for (const BitsAnswers& answers :
         run_bits(model, way, requests, checkpoint.folder(), scratch.folder(), seed + 1, tally)) {
      EXPECT_TRUE(answers == plain[0]) << first_difference(plain[0], answers);
    }
    if (::testing::Test::HasFailure()) return false;
  }
  if (formats.quantization == "none" && formats.cache == "auto") {
    expect_trainer_agrees(model, checkpoint.folder(), requests, plain[0], 1 + draw.below(4));
  }
  return !::testing::Test::HasFailure();
}

TEST(Bits, DependOnNoWayThatIsDrawn) {
  const uint64_t seed = number_of("MOLE_SEED", std::random_device{}());
  const uint64_t models = number_of("MOLE_BITS_MODELS", kModels);
  SCOPED_TRACE("MOLE_SEED=" + std::to_string(seed));
  std::vector<BitsFormats> formats = all_bits_formats();
  std::shuffle(formats.begin(), formats.end(), std::mt19937_64(seed));
  BitsTally tally;
  for (uint64_t i = 0; i < models; ++i) {
    ASSERT_TRUE(check_model(formats[i % formats.size()], seed + i, &tally)) << "model " << i;
  }
  std::printf(
      "MOLE_SEED=%llu: steps %lld, pre-empted %lld, cached tokens %lld, pages loaded %lld, "
      "drafts right: n-gram %lld, mtp %lld, wrong %lld\n",
      static_cast<unsigned long long>(seed), static_cast<long long>(tally.steps),
      static_cast<long long>(tally.preempted), static_cast<long long>(tally.cached_tokens),
      static_cast<long long>(tally.pages_loaded), static_cast<long long>(tally.ngram_accepted),
      static_cast<long long>(tally.mtp_accepted), static_cast<long long>(tally.drafts_refused));
  if (models < formats.size()) return;  // few ways may leave something out
  EXPECT_GT(tally.preempted, 0);
  EXPECT_GT(tally.cached_tokens, 0);
  EXPECT_GT(tally.pages_loaded, 0);
  EXPECT_GT(tally.ngram_accepted, 0);
  EXPECT_GT(tally.mtp_accepted, 0);
  EXPECT_GT(tally.drafts_refused, 0);
}

/// Float32 and bfloat16 in any run, however few models it draws.
TEST(Bits, OfTheTrainerAreThoseServed) {
  const uint64_t seed = number_of("MOLE_SEED", std::random_device{}());
  SCOPED_TRACE("MOLE_SEED=" + std::to_string(seed));
  BitsTally tally;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    ASSERT_TRUE(check_model({dtype, "none", "auto"}, seed, &tally));
  }
}

}  // namespace
}  // namespace mole::model::testing
