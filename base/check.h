// Assertions that stay on in production: a broken invariant is our bug, and stops the process with
// both values. MOLE_DCHECK is for the inside of per-token loops and vanishes with NDEBUG.
#pragma once

#include <sstream>
#include <string>

namespace mole::internal {

[[noreturn]] void check_failed(const char* file, int line, const char* what,
                               const std::string& values);

template <typename A, typename B>
std::string both_values(const A& a, const B& b) {
  std::ostringstream out;
  out << " (" << a << " vs " << b << ")";
  return out.str();
}

}  // namespace mole::internal

#define MOLE_CHECK(cond) \
  ((cond) ? (void)0 : ::mole::internal::check_failed(__FILE__, __LINE__, #cond, ""))

#define MOLE_CHECK_OP(op, a, b)                                                        \
  do {                                                                                 \
    const auto& mole_a_ = (a);                                                         \
    const auto& mole_b_ = (b);                                                         \
    if (!(mole_a_ op mole_b_))                                                         \
      ::mole::internal::check_failed(__FILE__, __LINE__, #a " " #op " " #b,            \
                                     ::mole::internal::both_values(mole_a_, mole_b_)); \
  } while (false)
#define MOLE_CHECK_EQ(a, b) MOLE_CHECK_OP(==, a, b)
#define MOLE_CHECK_NE(a, b) MOLE_CHECK_OP(!=, a, b)
#define MOLE_CHECK_LT(a, b) MOLE_CHECK_OP(<, a, b)
#define MOLE_CHECK_LE(a, b) MOLE_CHECK_OP(<=, a, b)
#define MOLE_CHECK_GT(a, b) MOLE_CHECK_OP(>, a, b)
#define MOLE_CHECK_GE(a, b) MOLE_CHECK_OP(>=, a, b)

#ifdef NDEBUG
#define MOLE_DCHECK(cond) ((void)0)
#else
#define MOLE_DCHECK(cond) MOLE_CHECK(cond)
#endif
