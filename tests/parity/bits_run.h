// Requests through the engine's core with a real model, by a way of bits_case.h. Torch-free.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/parity/bits_case.h"

namespace mole::model::testing {

struct BitsSample {
  TokenId token = 0;
  uint32_t logprob = 0;                            // its bits
  std::vector<std::pair<TokenId, uint32_t>> best;  // the largest of the row
  bool operator==(const BitsSample&) const = default;
};

/// What one sequence of a request gave.
struct BitsAnswer {
  std::vector<BitsSample> prompt;  // if asked for; the first token has no log-probability
  std::vector<BitsSample> tokens;
  TokenId stop_token = -1;
  std::string finish;  // the reason, or the error
  bool operator==(const BitsAnswer&) const = default;
};

using BitsAnswers = std::vector<std::vector<BitsAnswer>>;  // by request and sequence

/// What happened on the way, so that a test can say that it showed something.
struct BitsTally {
  int64_t steps = 0, preempted = 0, cached_tokens = 0, pages_loaded = 0;
  int64_t ngram_accepted = 0, mtp_accepted = 0, drafts_refused = 0;
};

/// All answers, as often as the way asks the requests. `folder` holds the model's checkpoint;
/// `scratch` is an empty folder for what the way writes. Failures are reported to the running test.
/// `seed` draws when requests come and how long steps seem to take.
std::vector<BitsAnswers> run_bits(const BitsModel& model, const BitsWay& way,
                                  const std::vector<runtime::GenerateRequest>& requests,
                                  const std::filesystem::path& folder,
                                  const std::filesystem::path& scratch, uint64_t seed,
                                  BitsTally* tally);

}  // namespace mole::model::testing
