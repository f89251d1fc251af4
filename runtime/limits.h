// Every bound of the runtime that is not an option of the engine (engine.h has those), with its
// reason. Bounds on what a user may ask are checked by validate.h.
#pragma once

#include <cstdint>

namespace mole::runtime {

// What a request may ask for.
inline constexpr int32_t kSequencesPerRequestMax = 128;  // n; OpenAI's own bound
inline constexpr int32_t kTopLogprobsMax = 20;           // OpenAI's bound
inline constexpr int32_t kLogitBiasEntriesMax = 1024;
inline constexpr int32_t kStopTokenIdsMax = 128;
inline constexpr int32_t kCacheSaltBytesMax = 1024;
inline constexpr double kLogitBiasMax = 100.0;
inline constexpr double kTemperatureMax = 2.0;
inline constexpr double kPenaltyMax = 2.0;  // presence and frequency, either sign
inline constexpr double kRepetitionPenaltyMax = 10.0;

// The engine's options.
inline constexpr int32_t kNumSeqsMax = 4096;
inline constexpr int32_t kNumBatchedTokensMax = 1 << 20;
inline constexpr int32_t kQueuedRequestsMax = 1 << 20;
inline constexpr int32_t kStreamEventsMax = 1 << 20;
inline constexpr int64_t kDefaultKvCacheBytesMax = int64_t{1} << 30;  // when the user names no size
inline constexpr int64_t kQueuedTokensPerCacheToken = 4;  // default of max_queued_tokens

// The scheduler.
/// The oldest prompt gets at least one in so many of the prompt tokens that a step can take,
/// however many shorter ones there are.
inline constexpr int32_t kOldestPrefillShare = 4;
/// A step that no sequence waits in for its next token may take so many times the target: small
/// chunks waste work, but a request that arrives meanwhile must wait for the step's end.
inline constexpr double kTargetsPerIdleStep = 4;
/// A wave has no more tokens than that so many of its layers fit the time that its first step has
/// for it: a step ends with a whole layer, and loses up to one.
inline constexpr double kWaveLayersPerStep = 4;
/// Prompt tokens of a step beside decodes, and without any, while a target is set and nothing is
/// known yet about what steps cost.
inline constexpr int32_t kUnknownCostTokens = 64;
inline constexpr int32_t kUnknownCostTokensIdle = 256;
inline constexpr int32_t kPrefillChunkMinMax = 1 << 16;  // bound of the option
inline constexpr int64_t kTargetItlUsMax = 60'000'000;   // bound of the option
/// So many sequences may start before one that waits for memory; then the door stays closed behind
/// it.
inline constexpr int32_t kPassOversMax = 16;
/// Waiting sequences looked at in one step: bounds the cost of a step when nothing fits.
inline constexpr int32_t kAdmissionScanMax = 32;
/// Memory for the logits of scored prompt tokens in one step, and again for those of drafts; at
/// least one row is always allowed.
inline constexpr int64_t kScoredLogitsBytesMax = int64_t{64} << 20;

// Speculation.
inline constexpr int32_t kSpeculativeTokensMax = 16;  // bounds of the options
inline constexpr int32_t kPromptLookupMax = 16;
/// Earlier places of the last few tokens that one draft compares.
inline constexpr int32_t kNgramPlacesMax = 16;
/// The module drafts no further once a draft would be right less often, while it is not known what
/// its passes cost; and the least chance that is worth a pass, whatever it costs.
inline constexpr double kDraftChanceMin = 0.2;
inline constexpr double kDraftChanceLeast = 0.05;
/// A sequence whose drafts don't pay now and then tries so many again.
inline constexpr int32_t kProbeDrafts = 1;

// The engine's thread.
inline constexpr int32_t kStepHistoryMax = 4096;
/// A sequence that lost its blocks may have an expanded and an absorbed chunk in one step.
inline constexpr int32_t kChunksPerSequenceMax = 2;
/// An idle engine looks around this often, so that its heartbeat stays fresh.
inline constexpr int64_t kIdleWaitUs = 100'000;
/// Expert loads are read from the model once in so many steps: reading allocates.
inline constexpr int64_t kExpertLoadSteps = 64;
inline constexpr int64_t kRetryAfterMsMin = 100;
inline constexpr int64_t kRetryAfterMsMax = 120'000;  // OpenAI's clients don't retry beyond that

}  // namespace mole::runtime
