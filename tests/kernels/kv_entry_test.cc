#include "kernels/kv_entry/kv_entry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {
namespace {

constexpr KvFormat kFormats[] = {KvFormat::kModel, KvFormat::kInt8, KvFormat::kFp8};

template <typename T>
struct Written {
  std::vector<std::byte> pages;
  std::vector<T> decoded;
};

/// Rows to slots 0, 1, … and back.
template <typename T>
Written<T> write_and_read(const KvEntryShape& entry, const std::vector<T>& rows, ThreadTeam& team) {
  const int64_t width = entry.latent + entry.rope;
  const int64_t count = static_cast<int64_t>(rows.size()) / width;
  const int64_t pages = (count + kKvPageTokens - 1) / kKvPageTokens;
  Written<T> out;
  out.pages.assign(static_cast<size_t>(pages * kKvPageTokens * entry.bytes()), std::byte{0x5a});
  out.decoded.resize(rows.size());
  std::vector<int64_t> slots;
  std::vector<const void*> blocks;
  for (int64_t r = 0; r < count; ++r) slots.push_back(r);
  for (int64_t p = 0; p < pages; ++p) {
    blocks.push_back(out.pages.data() + p * kKvPageTokens * entry.bytes());
  }
  kv_write({entry, rows.data(), count, width, slots.data(), out.pages.data()}, team);
  const KvReadArgs read{entry, blocks.data(), 0, count, width, out.decoded.data(), width};
  kv_read(&read, 1, team);
  return out;
}

template <typename T>
void expect_reference_bits(const KvEntryShape& entry, const std::vector<T>& rows) {
  SCOPED_TRACE(std::string(kv_format_name(entry.format)) + " " + std::to_string(entry.latent) +
               "+" + std::to_string(entry.rope) + " " + seed_text());
  const auto width = static_cast<size_t>(entry.latent + entry.rope);
  const auto bytes = static_cast<size_t>(entry.bytes()), count = rows.size() / width;
  std::vector<std::byte> want(count * bytes);
  std::vector<float> row(rows.size()), decoded(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) row[i] = static_cast<float>(to_double(rows[i]));
  for (size_t r = 0; r < count; ++r) {
    kv_encode_ref(entry, &row[r * width], &want[r * bytes]);
    kv_decode_ref(entry, &want[r * bytes], &decoded[r * width]);
  }
  for_each_isa_and_team([&](ThreadTeam& team) {
    const Written<T> got = write_and_read(entry, rows, team);
    ASSERT_EQ(std::memcmp(got.pages.data(), want.data(), want.size()), 0);
    for (size_t i = 0; i < rows.size(); ++i) {
      const double x = to_double(got.decoded[i]), expected = decoded[i];
      ASSERT_TRUE(x == expected || (std::isnan(x) && std::isnan(expected)))
          << "row " << i / width << " number " << i % width << ": " << x << " vs " << expected;
    }
  });
}

template <typename T>
void check_random(int64_t latent, int64_t rope) {
  for (const KvFormat format : kFormats) {
    Random random(300 + static_cast<uint64_t>(latent));
    std::vector<T> rows(static_cast<size_t>(70 * (latent + rope)));
    double spread = 0x1p-60;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i % static_cast<size_t>(latent + rope) == 0) spread *= 4;
      assign(rows[i], random.normal() * spread * std::exp2(-random.uniform() * 12));
    }
    expect_reference_bits<T>({format, dtype_of<T>(), latent, rope}, rows);
  }
}

TEST(KvEntry, EqualsTheReferenceToTheBit) {
  check_random<BFloat16>(512, 64);
  check_random<float>(512, 64);
  check_random<BFloat16>(7, 3);
  check_random<float>(129, 0);
  check_random<BFloat16>(300, 10);
}

TEST(KvEntry, EveryCodeOfE4m3AndEveryTie) {
  // A group that holds 448 has scale 1, so its numbers are rounded as they stand: all codes, the
  // midpoints between them, and what lies a float32 step beside a midpoint.
  std::vector<float> values;
  for (int code = 0; code < 126; ++code) {
    float low = 0, high = 0;
    std::vector<std::byte> entry(8);
    const KvEntryShape one{KvFormat::kFp8, DType::kFloat32, 1, 0};
    const float unit = 1;
    std::memcpy(entry.data() + 4, &unit, 4);
    entry[0] = static_cast<std::byte>(code);
    kv_decode_ref(one, entry.data(), &low);
    entry[0] = static_cast<std::byte>(code + 1);
    kv_decode_ref(one, entry.data(), &high);
    const float middle = (low + high) / 2;
    for (float x : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      values.insert(values.end(), {x, -x});
    }
  }
  while (values.size() % 127 != 0) values.push_back(0);
  std::vector<float> rows;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % 127 == 0) rows.push_back(448.0f);
    rows.push_back(values[i]);
  }
  expect_reference_bits<float>({KvFormat::kFp8, DType::kFloat32, 128, 0}, rows);
}

TEST(KvEntry, ZerosTinyAndBrokenGroups) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const float odd : {0.0f, -0.0f, 0x1p-101f, 0x1p-100f, 0x1p-126f, nan, inf, -inf}) {
    for (const KvFormat format : {KvFormat::kInt8, KvFormat::kFp8}) {
      std::vector<float> rows(130, odd == odd && std::abs(odd) < 1 ? odd : 1.0f);
      rows[129] = odd;  // of the second group in fp8
      expect_reference_bits<float>({format, DType::kFloat32, 130, 0}, rows);
    }
  }
}

TEST(KvEntry, OtherSlotsStayAsTheyAre) {
  const KvEntryShape entry{KvFormat::kInt8, DType::kBFloat16, 32, 8};
  std::vector<std::byte> pages(static_cast<size_t>(2 * kKvPageTokens * entry.bytes()),
                               std::byte{0x77});
  const std::vector<BFloat16> rows(3 * 40, to_bfloat16(1.5f));
  const int64_t slots[] = {100, -1, 5};
  ThreadTeam team(2);
  kv_write({entry, rows.data(), 3, 40, slots, pages.data()}, team);
  for (int64_t slot = 0; slot < 2 * kKvPageTokens; ++slot) {
    const bool written = slot == 100 || slot == 5;
    const std::byte* at = pages.data() + slot * entry.bytes();
    EXPECT_EQ(at[0] == std::byte{127}, written) << slot;
    EXPECT_EQ(at[entry.bytes() - 1] == std::byte{0x77}, !written) << slot;
  }
}

TEST(KvEntry, ReadsStridedEntriesOfManySequences) {
  // Entries of the model's own form, as rows of a wider matrix, and only their first columns.
  const KvEntryShape entry{KvFormat::kModel, DType::kFloat32, 5, 3};
  std::vector<float> matrix(200 * 11), first(130 * 5), second(70 * 5);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>(i);
  const void* blocks[] = {matrix.data(), matrix.data() + 64 * 11, matrix.data() + 128 * 11};
  const KvReadArgs reads[] = {{entry, blocks, 44, 130, 5, first.data(), 5},
                              {entry, blocks, 44, 0, 5, nullptr, 5},
                              {entry, blocks + 1, 44, 70, 5, second.data(), 5}};
  ThreadTeam team(3);
  kv_read(reads, 3, team);
  for (size_t r = 0; r < 130; ++r) {
    for (size_t c = 0; c < 5; ++c) {
      EXPECT_EQ(first[r * 5 + c], matrix[r * 11 + c]);
      if (r >= 70) continue;
      EXPECT_EQ(second[r * 5 + c], matrix[(64 + r) * 11 + c]);
    }
  }
}

}  // namespace
}  // namespace mole::kernels::testing
