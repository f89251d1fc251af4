// A good file cut at every byte and with every bit of its header flipped: an error, or a file whose
// every view is sound. Never a crash, never a view outside the map.
#include <gtest/gtest.h>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

using test::TemporaryFolder;

constexpr const char* kHeader =
    R"({"__metadata__":{"format":"pt"},"w.bias":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},)"
    R"("w.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[6,30]},)"
    R"("w.fp8":{"dtype":"F8_E4M3","shape":[5],"data_offsets":[30,35]}})";

std::string good_file() { return test::file_bytes(kHeader, std::string(35, 'd')); }

// Opens `bytes` as a file. If it opens, checks what callers rely on and touches every byte.
bool opens_soundly(const TemporaryFolder& folder, const std::string& bytes) {
  const auto file = SafetensorsFile::open(folder.write("damaged", bytes));
  if (!file.ok()) {
    EXPECT_TRUE(absl::IsDataLoss(file.status())) << file.status();
    return false;
  }
  size_t total = 0;
  unsigned sum = 0;
  for (const auto& [name, view] : file->tensors()) {
    EXPECT_EQ(static_cast<size_t>(view.num_elements() * dtype_bytes(view.dtype)),
              view.bytes.size());
    for (const std::byte byte : view.bytes) sum += std::to_integer<unsigned>(byte);
    total += view.bytes.size();
  }
  EXPECT_LE(total, bytes.size());
  EXPECT_LE(sum, 255u * total);
  return true;
}

TEST(SafetensorsDamage, TheFileItselfIsGood) {
  const TemporaryFolder folder;
  EXPECT_TRUE(opens_soundly(folder, good_file()));
}

TEST(SafetensorsDamage, EveryTruncationIsAnError) {
  const TemporaryFolder folder;
  const std::string whole = good_file();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(opens_soundly(folder, whole.substr(0, size))) << "cut to " << size << " bytes";
  }
  EXPECT_FALSE(opens_soundly(folder, whole + '\0')) << "one byte too many";
}

TEST(SafetensorsDamage, EveryBitFlipOfTheHeaderIsAnErrorOrSound) {
  const TemporaryFolder folder;
  const std::string whole = good_file();
  const size_t header_end = whole.size() - 35;
  int opened = 0;
  for (size_t i = 0; i < header_end; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE("byte " + std::to_string(i) + ", bit " + std::to_string(bit));
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      const bool ok = opens_soundly(folder, flipped);
      EXPECT_FALSE(ok && i < 8) << "a wrong header length must not pass";
      opened += ok;
    }
  }
  // Flips inside names and metadata can't be seen without a digest; flips of the structure must be.
  EXPECT_LT(opened, static_cast<int>(header_end) * 8 / 4);
}

TEST(SafetensorsDamage, EveryByteOfTheHeaderDeletedOrDoubledIsAnErrorOrSound) {
  const TemporaryFolder folder;
  const std::string whole = good_file();
  for (size_t i = 0; i + 35 < whole.size(); ++i) {
    SCOPED_TRACE("byte " + std::to_string(i));
    EXPECT_FALSE(opens_soundly(folder, std::string(whole).erase(i, 1)));
    EXPECT_FALSE(opens_soundly(folder, std::string(whole).insert(i, 1, whole[i])));
  }
}

TEST(SafetensorsDamage, RandomBytesNeverCrash) {
  const TemporaryFolder folder;
  std::mt19937_64 random(test::test_seed());
  SCOPED_TRACE("MOLE_TEST_SEED=" + std::to_string(test::test_seed()));
  const std::string whole = good_file();
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    for (uint64_t i = 1 + random() % 6; i > 0; --i) {
      bytes[8 + random() % (bytes.size() - 8)] = static_cast<char>(random());
    }
    if (round % 2 == 0) bytes.resize(random() % bytes.size());
    opens_soundly(folder, bytes);
  }
}

}  // namespace
}  // namespace mole::loader
