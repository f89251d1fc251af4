// Known bugs that a test build can switch on, to show that the simulation finds them. In every
// other build `injected(…)` is the constant false and the compiler removes the branch.
#pragma once

namespace mole::runtime {

enum class InjectedBug {
  kNone,
  kForgottenRefcount,       // a block found in the prefix cache is used without counting the use
  kBlockBoundary,           // a sequence that just filled a block gets no new one
  kWrongFormHash,           // the prefix cache forgets which arithmetic made a token's entry
  kLostFinish,              // a sequence ends without its kFinished event
  kStarvation,              // a pre-empted sequence loses its place in the queue
  kPageReusedWhileWritten,  // a block whose page is on its way to the swap file is taken
  kPageNotVerified,         // a page from the swap file is taken without looking at its checksum
  kPageOfAnother,           // … without looking at whose it is
  kAcceptsWrongDraft,       // one draft too many counts as accepted: the first that was wrong
  kIndexesRejectedDraft,    // the prefix cache gets a block whose last slot holds a rejected draft
  kWaveEndsEarly,           // a wave's tokens count as computed one layer too soon
};

#ifdef MOLE_INJECT_BUGS
extern InjectedBug injected_bug;  // set by the test
inline bool injected(InjectedBug bug) { return injected_bug == bug; }
#else
constexpr bool injected(InjectedBug) { return false; }
#endif

}  // namespace mole::runtime
