// One case object an operation drives its test, its benchmark and its sanitizer runs.
//
// To add an operation: write kernels/<op>/<op>_cases.cc with a class derived from KernelCase for
// each function of the op and one `OpCases <op>_cases()`; add target_sources(mole_kernel_cases
// PRIVATE <op>_cases.cc) to the op's CMakeLists.txt and one line to kernels/cases/all_cases.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/cases/tensor.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

/// What an output must hold: `want` and the allowed absolute difference, rows * columns values
/// each. Every tolerance comes from an error model named in docs/numerics.md
/// (kernels/cases/tolerance.h).
struct Expectation {
  const Tensor* output = nullptr;
  std::string name;
  std::vector<double> want, tolerance;
};

class KernelCase {
 public:
  KernelCase() = default;
  virtual ~KernelCase() = default;
  KernelCase(const KernelCase&) = delete;
  KernelCase& operator=(const KernelCase&) = delete;

  /// Shape and options, for messages and tables: "rows=33 n=17 k=65 bfloat16".
  virtual std::string name() const = 0;
  /// Work of one run, for the benchmark. Bytes: each input and output once.
  virtual double flops() const = 0;
  virtual double bytes() const = 0;
  virtual DType dtype() const = 0;

  /// Computes the outputs from the inputs. Called many times; what an operation adds to is put back
  /// by the caller between runs.
  virtual void run(ThreadTeam& team) = 0;
  /// Everything that run() may write.
  virtual std::vector<Tensor*> outputs() = 0;
  /// From the float64 reference, of the state before run().
  virtual std::vector<Expectation> expect() = 0;

  /// Rows (tokens, queries) whose results must not depend on one another; 0 if there are none.
  virtual int64_t independent_rows() const { return 0; }
  /// Computes row `row` alone, to its place in the outputs.
  virtual void run_row(int64_t /*row*/, ThreadTeam& /*team*/) {}
};

using CasePtr = std::unique_ptr<KernelCase>;

struct OpCases {
  std::string op;
  /// A small case of random, often awkward shape: no rows, single rows, sizes that are no multiple
  /// of anything, strides.
  std::function<CasePtr(CaseRandom&)> awkward;
  /// The sizes worth timing.
  std::vector<std::function<CasePtr(CaseRandom&)>> bench;
  /// Sizes whose every run takes other weights, from memory: timed in turn with the memory probe,
  /// never checked (the awkward cases hold the arithmetic).
  std::vector<std::function<CasePtr(CaseRandom&)>> memory = {};
};

/// Every operation's. An op may have several entries (forward and backward).
std::vector<OpCases> all_cases();

/// Runs the case on every instruction set that the machine has, with 1 to 4 threads and row by row;
/// returns the first fault in words, or "" : a difference from the reference beyond its tolerance,
/// bits that differ between two ways, a write outside of the outputs.
std::string check_case(KernelCase& kernel_case);

}  // namespace mole::kernels
