// The kernels' own workers: a fixed team that splits a range statically. No result may depend on
// the number of threads: every output element is computed whole, by one thread, in one order.
#pragma once

#include <cstdint>
#include <memory>

namespace mole::kernels {

/// A reference to a callable, valid during the call; never allocates.
class RangeFn {
 public:
  template <typename Fn>
  RangeFn(Fn& fn)  // NOLINT(google-explicit-constructor): a lambda turns into it at the call
      : object_(&fn), call_([](void* object, int64_t begin, int64_t end) {
          (*static_cast<Fn*>(object))(begin, end);
        }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int64_t);
};

class ThreadTeam {
 public:
  /// `threads` workers, the calling thread being one of them; 0 = one per core that the
  /// process may use.
  explicit ThreadTeam(int32_t threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int32_t num_threads() const;

  /// Calls `fn(begin, end)` on contiguous parts that cover [0, count), a few a thread, each
  /// beginning at a multiple of `grain`; returns when all are done. `fn` runs with denormals
  /// flushed (FTZ and DAZ), as in the matrix units. Thread: one caller at a time; not from inside
  /// `fn`. `fn` must not throw.
  void parallel_for(int64_t count, int64_t grain, RangeFn fn);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::kernels
