#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace mole {

struct Sha256::Context {
  Context() : evp(EVP_MD_CTX_new()) {
    MOLE_CHECK(evp != nullptr);
    MOLE_CHECK(EVP_DigestInit_ex(evp, EVP_sha256(), nullptr) == 1);
  }
  ~Context() { EVP_MD_CTX_free(evp); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  EVP_MD_CTX* evp;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::update(std::span<const std::byte> bytes) {
  MOLE_CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
  return *this;
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest;
  unsigned int length = 0;
  auto* out = reinterpret_cast<unsigned char*>(digest.words.data());
  MOLE_CHECK(EVP_DigestFinal_ex(context_->evp, out, &length) == 1);
  MOLE_CHECK_EQ(length, sizeof(digest));
  // No type: the context keeps its algorithm and its memory.
  MOLE_CHECK(EVP_DigestInit_ex(context_->evp, nullptr, nullptr) == 1);
  return digest;
}

}  // namespace mole
