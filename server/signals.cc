#include "server/signals.h"

#include <csignal>
#include <ctime>

namespace mole::server {
namespace {

sigset_t our_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR1);
  return set;
}

}  // namespace

void block_signals() {
  const sigset_t set = our_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool wait_for_termination(std::chrono::milliseconds timeout,
                          const std::function<void()>& on_report) {
  const sigset_t set = our_signals();
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(timeout).count();
  const timespec limit{static_cast<time_t>(nanoseconds / 1'000'000'000),
                       static_cast<long>(nanoseconds % 1'000'000'000)};
  const int signal = sigtimedwait(&set, nullptr, &limit);
  if (signal == SIGUSR1) on_report();
  return signal == SIGTERM || signal == SIGINT;
}

}  // namespace mole::server
