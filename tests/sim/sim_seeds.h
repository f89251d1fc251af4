// Which histories to simulate: MOLE_SIM_FIRST_SEED and MOLE_SIM_SEEDS, so that a failing seed can
// be run alone and a long hunt needs no new build.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace mole::sim {

inline uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::strtoull(text, nullptr, 10) : otherwise;
}

inline constexpr uint64_t kSeedsDefault = 2000;
inline uint64_t first_seed() { return number_from_environment("MOLE_SIM_FIRST_SEED", 1); }
inline uint64_t num_seeds() { return number_from_environment("MOLE_SIM_SEEDS", kSeedsDefault); }

}  // namespace mole::sim
