#include "model_loader/read_ahead.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <utility>

namespace mole::loader {

namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

/// The run of digits at `at`, without leading zeros; moves `at` past it.
std::string_view take_number(std::string_view text, size_t* at) {
  while (*at < text.size() && text[*at] == '0') ++*at;
  const size_t first = *at;
  while (*at < text.size() && is_digit(text[*at])) ++*at;
  return text.substr(first, *at - first);
}

// Of one call: so long the end of a load may wait for the disk.
constexpr size_t kPiece = size_t{4} << 20;

/// Advice on the whole pages of [bytes): those inside it, or those that it touches. False if the
/// system does not know this advice.
bool advise(std::span<const std::byte> bytes, bool inside, int advice) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  uintptr_t begin = reinterpret_cast<uintptr_t>(bytes.data()), end = begin + bytes.size();
  begin = inside ? (begin + page - 1) / page * page : begin / page * page;
  if (inside) end = end / page * page;
  // Only advice: without it the same bytes are read, later or for longer.
  if (begin >= end) return true;
  return ::madvise(reinterpret_cast<void*>(begin), end - begin, advice) == 0 || errno != EINVAL;
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const std::string_view x = take_number(a, &i), y = take_number(b, &j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i;
      ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

ReadAhead::ReadAhead(std::shared_ptr<const Checkpoint> checkpoint, int64_t window_bytes)
    : checkpoint_(std::move(checkpoint)), window_bytes_(window_bytes) {
  std::vector<std::pair<std::string_view, std::span<const std::byte>>> named;
  for (const auto& [name, view] : checkpoint_->tensors()) named.emplace_back(name, view.bytes);
  std::sort(named.begin(), named.end(),
            [](const auto& a, const auto& b) { return natural_less(a.first, b.first); });
  for (const auto& [name, bytes] : named) {
    order_.push_back(bytes);
    (void)advise(bytes, false, MADV_SEQUENTIAL);  // the system then reads far ahead of each fault
  }
  thread_ = std::thread([this] { run(); });
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  moved_.notify_all();
  thread_.join();
}

void ReadAhead::let_go(std::span<const std::byte> bytes) {
  {
    const std::lock_guard lock(mutex_);
    done_bytes_ += static_cast<int64_t>(bytes.size());
    done_.insert(bytes.data());
  }
  (void)advise(bytes, true, MADV_DONTNEED);
  moved_.notify_all();
}

bool ReadAhead::wanted(const std::byte* tensor, int64_t asked) {
  std::unique_lock lock(mutex_);
  moved_.wait(lock, [&] { return stop_ || asked - done_bytes_ < window_bytes_; });
  return !stop_ && !done_.contains(tensor);
}

void ReadAhead::run() {
  // Reading by faults in the order of the file keeps a disk as busy as plain reads do, in large
  // pages of the file cache, and leaves the pages mapped. MADV_WILLNEED, which older systems get,
  // fills the cache with small ones, at two thirds of the speed.
  bool populates = true;
  int64_t asked = 0;
  for (const std::span<const std::byte> bytes : order_) {
    for (size_t at = 0; at < bytes.size() && wanted(bytes.data(), asked); at += kPiece) {
      const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
      populates = populates && advise(piece, false, MADV_POPULATE_READ);
      if (!populates) (void)advise(piece, false, MADV_WILLNEED);
    }
    asked += static_cast<int64_t>(bytes.size());
  }
}

}  // namespace mole::loader
