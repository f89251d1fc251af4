#include "server/request_id.h"

#include <atomic>
#include <cstdint>
#include <random>

#include "base/philox.h"

namespace mole::server {

std::string new_request_id() {
  static const uint64_t key = [] {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
  }();
  static std::atomic<uint64_t> count{0};
  const auto words = philox4x32(key, count.fetch_add(1), 0);
  constexpr char kHex[] = "0123456789abcdef";
  std::string id = "req_";
  for (size_t w = 0; w < 3; ++w) {
    for (unsigned shift = 0; shift < 32; shift += 4) id += kHex[(words[w] >> shift) & 15u];
  }
  return id;
}

}  // namespace mole::server
