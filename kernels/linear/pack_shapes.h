// Packing without a weight: what a model will take can be added up before any of it is read.
#pragma once

namespace mole::kernels {

/// While one lives, packing on its thread gives packed weights their shape and (untouched) memory
/// and reads nothing: sources may be null. Such weights must not be multiplied with.
class PackShapesOnly {
 public:
  PackShapesOnly() { active_ = true; }
  ~PackShapesOnly() { active_ = false; }
  PackShapesOnly(const PackShapesOnly&) = delete;
  PackShapesOnly& operator=(const PackShapesOnly&) = delete;
  static bool active() { return active_; }

 private:
  static inline thread_local bool active_ = false;
};

}  // namespace mole::kernels
