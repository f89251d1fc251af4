#include <algorithm>
#include <cmath>
#include <sstream>

#include "kernels/cases/case.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

using Bytes = std::vector<std::vector<std::byte>>;  // of every output

constexpr Isa kAll[] = {Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

/// Puts the machine's own instruction set back.
class KeepIsa {
 public:
  KeepIsa() : isa_(isa()) {}
  ~KeepIsa() { set_isa_for_test(isa_); }
  KeepIsa(const KeepIsa&) = delete;
  KeepIsa& operator=(const KeepIsa&) = delete;

 private:
  Isa isa_;
};

Bytes snapshot(KernelCase& kernel_case) {
  Bytes out;
  for (Tensor* output : kernel_case.outputs()) out.push_back(output->bytes());
  return out;
}

void restore(KernelCase& kernel_case, const Bytes& bytes) {
  std::size_t i = 0;
  for (Tensor* output : kernel_case.outputs()) output->restore(bytes[i++]);
}

/// The first element in which an output differs from `bytes`, or "".
std::string first_difference(KernelCase& kernel_case, const Bytes& bytes) {
  std::size_t i = 0;
  for (Tensor* output : kernel_case.outputs()) {
    const std::vector<std::byte>& want = bytes[i++];
    if (output->bytes() == want) continue;
    Tensor other = *output;
    other.restore(want);
    std::ostringstream out;
    out << "output " << i - 1;
    for (int64_t r = 0; r < output->rows(); ++r) {
      for (int64_t c = 0; c < output->columns(); ++c) {
        const double got = output->at(r, c), was = other.at(r, c);
        if (got == was || (std::isnan(got) && std::isnan(was))) continue;
        out << " at [" << r << ", " << c << "]: " << got << " vs " << was;
        return out.str();
      }
    }
    return out.str() + ": bits of zeros, NaNs or padding";
  }
  return "";
}

std::string compare(const Expectation& expectation) {
  const Tensor& output = *expectation.output;
  const auto columns = static_cast<std::size_t>(output.columns());
  for (std::size_t i = 0; i < expectation.want.size(); ++i) {
    const auto row = static_cast<int64_t>(i / columns), column = static_cast<int64_t>(i % columns);
    const double got = output.at(row, column), want = expectation.want[i];
    // Written so that a NaN fails.
    if (std::abs(got - want) <= expectation.tolerance[i] || got == want) continue;
    std::ostringstream out;
    out << expectation.name << "[" << row << ", " << column << "] = " << got << ", float64 says "
        << want << ", tolerance " << expectation.tolerance[i];
    return out.str();
  }
  return "";
}

std::string row_by_row(KernelCase& kernel_case, const Bytes& before, const Bytes& whole) {
  const int64_t rows = kernel_case.independent_rows();
  if (rows == 0) return "";
  ThreadTeam team(1);
  restore(kernel_case, before);
  for (int64_t row = 0; row < rows; ++row) kernel_case.run_row(row, team);
  const std::string difference = first_difference(kernel_case, whole);
  return difference.empty() ? "" : "rows alone differ from rows together: " + difference;
}

}  // namespace

std::string check_case(KernelCase& kernel_case) {
  const KeepIsa keep;
  const Bytes before = snapshot(kernel_case);
  const std::vector<Expectation> expectations = kernel_case.expect();
  Bytes first;
  for (const Isa set : kAll) {
    if (!isa_available(set)) continue;
    set_isa_for_test(set);
    for (int32_t threads = 1; threads <= 4; ++threads) {
      restore(kernel_case, before);
      ThreadTeam team(threads);
      kernel_case.run(team);
      const std::string way =
          std::string(isa_name(set)) + " with " + std::to_string(threads) + " threads: ";
      for (const Tensor* output : kernel_case.outputs()) {
        if (!output->intact()) return way + "wrote outside of an output";
      }
      if (first.empty()) first = snapshot(kernel_case);
      const std::string difference = first_difference(kernel_case, first);
      if (!difference.empty()) return way + "other bits than the first way: " + difference;
    }
    const std::string rows = row_by_row(kernel_case, before, first);
    if (!rows.empty()) return std::string(isa_name(set)) + ": " + rows;
  }
  restore(kernel_case, first);
  for (const Expectation& expectation : expectations) {
    const std::string fault = compare(expectation);
    if (!fault.empty()) return fault;
  }
  restore(kernel_case, before);
  return "";
}

}  // namespace mole::kernels
