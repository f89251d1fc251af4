// The swap file's format, the file itself, and its index: what is written comes back, and nothing
// else is ever believed.
#include "runtime/swap_file.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/swap_device.h"
#include "runtime/swap_index.h"

namespace mole::runtime {
namespace {

using ::testing::HasSubstr;

constexpr SwapGeometry kGeometry{.page_bytes = 1000, .num_slots = 5};
constexpr Sha256Digest kFingerprint{{7, 7, 7, 7}};

BlockKey key_of(uint64_t number) { return {{number, 1, 2, 3}}; }

// A page in two pieces, filled from a number.
struct Page {
  explicit Page(uint64_t number) : bytes(kGeometry.page_bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>((number * 131 + i * 7) >> 2);
    }
    const std::span<std::byte> all(bytes);
    pieces = {all.first(300), all.subspan(300)};
  }
  std::vector<std::byte> bytes;
  std::vector<std::span<std::byte>> pieces;
};

class SwapFileTest : public ::testing::Test {
 protected:
  SwapFileTest() {
    char name[] = "/tmp/mole_swap_XXXXXX";
    folder_ = mkdtemp(name);
    path_ = folder_ / "pages";
  }
  ~SwapFileTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<SwapFile> open(const SwapGeometry& geometry = kGeometry) {
    auto file = SwapFile::open(path_, geometry);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *std::move(file) : nullptr;
  }
  static Status write(SwapFile& file, uint64_t slot, uint64_t number) {
    Page page(number);
    const auto header = seal_page(slot, number, key_of(number), kFingerprint, page.pieces);
    return file.write_page(slot, header, page.pieces);
  }
  // What asking for page `number` in `slot` gives; the contents are checked if they are believed.
  static SwapOutcome read(SwapFile& file, uint64_t slot, uint64_t number) {
    Page page(0);
    SwapPageHeader header;
    if (!file.read_page(slot, &header, page.pieces).ok()) return SwapOutcome::kIoError;
    const auto outcome = check_page(header, slot, key_of(number), kFingerprint, page.pieces);
    if (outcome == SwapOutcome::kOk) {
      EXPECT_EQ(page.bytes, Page(number).bytes);
    }
    return outcome;
  }
  std::vector<RecoveredPage> recover(SwapFile& file) {
    std::fill(refused_.begin(), refused_.end(), 0);
    return recover_pages(file, kGeometry.page_bytes, kFingerprint, refused_);
  }
  void overwrite(int64_t offset, const std::string& bytes) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offset);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  std::filesystem::path folder_, path_;
  std::array<int64_t, kSwapOutcomes> refused_{};
};

TEST_F(SwapFileTest, GeometryFitsWhatItSays) {
  for (const uint64_t page_bytes : {1u, 4096u, 4097u, 1u << 20}) {
    for (const uint64_t bytes : {0u, 8191u, 8192u, 12288u, 1u << 20, 123'456'789u}) {
      const uint64_t slots = SwapGeometry::slots_in(bytes, page_bytes);
      const SwapGeometry fits{page_bytes, slots}, more{page_bytes, slots + 1};
      if (slots > 0) {
        EXPECT_LE(fits.file_bytes(), bytes);
      }
      EXPECT_GT(more.file_bytes(), bytes);
      EXPECT_EQ(fits.page_offset(1) % kSwapAlignment, 0u);
      EXPECT_GE(fits.first_page(), fits.header_offset(slots));
    }
  }
}

TEST_F(SwapFileTest, KeepsPagesAcrossARestart) {
  auto file = open();
  ASSERT_TRUE(write(*file, 0, 10).ok());
  ASSERT_TRUE(write(*file, 4, 14).ok());
  ASSERT_TRUE(write(*file, 2, 12).ok());
  file.reset();
  file = open();
  const auto pages = recover(*file);
  ASSERT_EQ(pages.size(), 3u);
  EXPECT_EQ(pages[0].slot, 0);  // oldest first
  EXPECT_EQ(pages[1].slot, 2);
  EXPECT_EQ(pages[2].slot, 4);
  for (const RecoveredPage& page : pages) {
    EXPECT_EQ(read(*file, static_cast<uint64_t>(page.slot), page.written), SwapOutcome::kOk);
  }
  EXPECT_EQ(read(*file, 1, 11), SwapOutcome::kChecksum);  // empty
}

TEST_F(SwapFileTest, TheNewestOfTwoPagesOfAKeyCounts) {
  auto file = open();
  Page page(1);
  for (const uint64_t slot : {3u, 1u}) {
    const auto header = seal_page(slot, 9 - slot, key_of(1), kFingerprint, page.pieces);
    ASSERT_TRUE(file->write_page(slot, header, page.pieces).ok());
  }
  const auto pages = recover(*file);
  ASSERT_EQ(pages.size(), 1u);
  EXPECT_EQ(pages[0].slot, 1);
}

TEST_F(SwapFileTest, AnotherKeySlotOrOriginIsRefused) {
  auto file = open();
  ASSERT_TRUE(write(*file, 0, 10).ok());
  EXPECT_EQ(read(*file, 0, 11), SwapOutcome::kOtherKey);
  Page page(5);
  // Meant for slot 2, found in slot 1.
  auto header = seal_page(2, 5, key_of(5), kFingerprint, page.pieces);
  ASSERT_TRUE(file->write_page(1, header, page.pieces).ok());
  EXPECT_EQ(read(*file, 1, 5), SwapOutcome::kOtherKey);
  header = seal_page(3, 5, key_of(5), {{8, 8, 8, 8}}, page.pieces);
  ASSERT_TRUE(file->write_page(3, header, page.pieces).ok());
  EXPECT_EQ(read(*file, 3, 5), SwapOutcome::kOtherOrigin);
  EXPECT_EQ(recover(*file).size(), 1u);
  EXPECT_EQ(refused_[static_cast<size_t>(SwapOutcome::kOtherKey)], 1);
  EXPECT_EQ(refused_[static_cast<size_t>(SwapOutcome::kOtherOrigin)], 1);
}

// A crash between any two writes, in any order in which they may reach the disk: the payload's
// first `cut` bytes are new, the header is the old one, the new one or empty.
TEST_F(SwapFileTest, ATornPageIsAMissAndNeverWrongBits) {
  for (const size_t cut : {0u, 1u, 299u, 300u, 500u, 999u}) {
    for (const int which : {0, 1, 2}) {
      auto file = open();
      ASSERT_TRUE(write(*file, 0, 10).ok());
      Page old_page(10), new_page(11);
      std::copy_n(new_page.bytes.begin(), cut, old_page.bytes.begin());
      Page whole(which == 1 ? 11 : 10);
      SwapPageHeader header =
          seal_page(0, 1, key_of(which == 1 ? 11 : 10), kFingerprint, whole.pieces);
      if (which == 2) header = {};
      ASSERT_TRUE(file->write_page(0, header, old_page.pieces).ok());
      const bool nothing_happened = which == 0 && cut == 0;
      EXPECT_EQ(read(*file, 0, 10) == SwapOutcome::kOk, nothing_happened) << cut << " " << which;
      EXPECT_NE(read(*file, 0, 11), SwapOutcome::kOk) << cut << " " << which;
    }
  }
}

TEST_F(SwapFileTest, AFlippedBitAnywhereIsNeverBelieved) {
  const auto seed = std::random_device{}();
  std::mt19937_64 random(seed);
  open().reset();
  for (int round = 0; round < 300; ++round) {
    {
      auto file = SwapFile::open(path_, kGeometry);
      if (!file.ok()) {  // the flip before hit the magic number: it is no file of ours any more
        std::filesystem::remove(path_);
        file = SwapFile::open(path_, kGeometry);
      }
      ASSERT_TRUE(file.ok()) << file.status();
      for (uint64_t slot = 0; slot < 5; ++slot) ASSERT_TRUE(write(**file, slot, slot + 1).ok());
    }
    // Half of the flips hit the head and the table.
    const uint64_t end = round % 2 == 0 ? kGeometry.first_page() : kGeometry.file_bytes();
    const auto offset = static_cast<int64_t>(random() % end);
    std::fstream raw(path_, std::ios::in | std::ios::out | std::ios::binary);
    raw.seekg(offset);
    const int byte = raw.get() ^ (1 << (random() % 8));
    raw.seekp(offset);
    raw.put(static_cast<char>(byte));
    raw.close();
    auto file = SwapFile::open(path_, kGeometry);
    if (!file.ok()) {
      EXPECT_LT(offset, 8) << "seed " << seed;
      continue;
    }
    for (const RecoveredPage& page : recover(**file)) {
      read(**file, static_cast<uint64_t>(page.slot), page.written);  // checks what is believed
    }
  }
}

TEST_F(SwapFileTest, AFileThatIsCutShortWhileOpenGivesErrors) {
  auto file = open();
  ASSERT_TRUE(write(*file, 4, 14).ok());
  for (uint64_t size = kGeometry.file_bytes(); size > 100; size /= 2) {
    ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(size)), 0);
    for (uint64_t slot = 0; slot < 5; ++slot) {
      if (size < kGeometry.page_offset(4)) {
        EXPECT_NE(read(*file, slot, slot + 10), SwapOutcome::kOk);
      }
    }
  }
  recover(*file);
  file.reset();
  EXPECT_TRUE(recover(*open()).empty());  // another size: begins anew
}

TEST_F(SwapFileTest, BeginsAnewWithAnotherLayout) {
  auto file = open();
  ASSERT_TRUE(write(*file, 0, 10).ok());
  file.reset();
  file = open({.page_bytes = 2000, .num_slots = 5});
  file.reset();
  file = open();
  EXPECT_TRUE(recover(*file).empty());
}

TEST_F(SwapFileTest, RefusesWhatIsNotItsOwn) {
  const auto why = [&](const SwapGeometry& geometry = kGeometry) {
    return std::string(SwapFile::open(path_, geometry).status().message());
  };
  const std::string precious = "not a swap file, and nobody's to overwrite";
  std::ofstream(path_) << precious;
  EXPECT_THAT(why(), HasSubstr("no swap file"));
  std::ifstream file(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), precious);
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_THAT(why(), HasSubstr("kv-swap-file is " + path_.string()));
  std::filesystem::remove(path_);
  std::filesystem::create_symlink("/dev/null", path_);
  EXPECT_THAT(why(), HasSubstr("can't be opened"));
  std::filesystem::remove(path_);
  EXPECT_THAT(why({.page_bytes = uint64_t{1} << 40, .num_slots = 1 << 20}),
              HasSubstr("kv-swap-bytes"));
  std::filesystem::remove(path_);
  const auto mine = open();
  EXPECT_THAT(why(), HasSubstr("another process uses it"));
}

TEST(SwapIndexTest, GivesUpTheLeastRecentlyUsedThatNobodyReads) {
  SwapIndex index(3);
  for (uint64_t i = 0; i < 3; ++i) index.finish(index.claim(key_of(i)));
  index.touch(index.find(key_of(0)));
  index.pin(index.find(key_of(1)));
  const int32_t slot = index.claim(key_of(9));
  EXPECT_LT(index.find(key_of(2)), 0);
  EXPECT_EQ(index.find(key_of(9)), slot);
  EXPECT_FALSE(index.ready(slot));
  index.finish(slot);
  index.claim(key_of(10));
  EXPECT_LT(index.find(key_of(0)), 0);
  EXPECT_GE(index.claim(key_of(11)), 0);  // 9's
  EXPECT_LT(index.claim(key_of(12)), 0);  // two are being written, one is read
  index.unpin(index.find(key_of(1)));
  EXPECT_GE(index.claim(key_of(12)), 0);
  EXPECT_EQ(index.num_ready(), 0);
}

TEST(SwapIndexTest, BehavesLikeAMap) {
  const auto seed = std::random_device{}();
  std::mt19937_64 random(seed);
  SwapIndex index(7);
  std::map<uint64_t, bool> ready;  // what should be there: key, and whether it is ready
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t number = random() % 20;
    const int32_t slot = index.find(key_of(number));
    ASSERT_EQ(slot >= 0, ready.contains(number)) << "seed " << seed;
    if (slot < 0) {
      if (index.claim(key_of(number)) >= 0) ready[number] = false;
      for (auto at = ready.begin(); at != ready.end();) {  // one may have been given up
        at = index.find(key_of(at->first)) < 0 ? ready.erase(at) : std::next(at);
      }
    } else if (!ready[number]) {
      random() % 2 ? index.finish(slot) : index.drop(slot);
      if (index.find(key_of(number)) < 0)
        ready.erase(number);
      else
        ready[number] = true;
    } else if (random() % 3 == 0) {
      index.drop(slot);
      ready.erase(number);
    } else {
      index.touch(slot);
    }
    ASSERT_LE(ready.size(), 7u) << "seed " << seed;
    const auto count =
        std::count_if(ready.begin(), ready.end(), [](auto& one) { return one.second; });
    ASSERT_EQ(index.num_ready(), count) << "seed " << seed;
  }
}

}  // namespace
}  // namespace mole::runtime
