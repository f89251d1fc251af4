#include <gtest/gtest.h>

#include <cstring>

#include "tests/trainer/test_folder.h"
#include "trainer/tracking/crc32c.h"
#include "trainer/tracking/jsonl_log.h"
#include "trainer/tracking/tensorboard.h"

namespace mole::trainer {
namespace {

TEST(Crc32c, GivesTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending(32, '\0');
  for (size_t i = 0; i < 32; ++i) ascending[i] = static_cast<char>(i);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

uint64_t take_varint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes->front());
    bytes->remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

template <typename Value>
Value take_raw(std::string_view* bytes) {
  Value value;
  std::memcpy(&value, bytes->data(), sizeof(value));
  bytes->remove_prefix(sizeof(value));
  return value;
}

struct DecodedEvent {
  int64_t step = 0;
  std::string file_version;
  std::vector<std::pair<std::string, float>> scalars;
};

std::pair<std::string, float> decode_value(std::string_view bytes) {
  std::pair<std::string, float> out;
  while (!bytes.empty()) {
    const uint64_t tag = take_varint(&bytes);
    if (tag == (1 << 3 | 2)) {
      const uint64_t size = take_varint(&bytes);
      out.first = std::string(bytes.substr(0, size));
      bytes.remove_prefix(size);
    } else {
      EXPECT_EQ(tag, uint64_t{2 << 3 | 5});
      out.second = take_raw<float>(&bytes);
    }
  }
  return out;
}

DecodedEvent decode_event(std::string_view bytes) {
  DecodedEvent event;
  while (!bytes.empty()) {
    const uint64_t tag = take_varint(&bytes);
    if (tag == (1 << 3 | 1)) {
      EXPECT_GT(take_raw<double>(&bytes), 1.7e9);  // seconds since 1970
    } else if (tag == (2 << 3 | 0)) {
      event.step = static_cast<int64_t>(take_varint(&bytes));
    } else {
      std::string_view body = bytes.substr(0);
      const uint64_t size = take_varint(&body);
      bytes = body.substr(size);
      body = body.substr(0, size);
      if (tag == (3 << 3 | 2)) event.file_version = std::string(body);
      while (tag == (5 << 3 | 2) && !body.empty()) {
        EXPECT_EQ(take_varint(&body), uint64_t{1 << 3 | 2});
        const uint64_t value_size = take_varint(&body);
        event.scalars.push_back(decode_value(body.substr(0, value_size)));
        body.remove_prefix(value_size);
      }
    }
  }
  return event;
}

/// Reads records back as TensorBoard does, checking both checksums of each.
std::vector<DecodedEvent> decode_file(std::string_view bytes) {
  std::vector<DecodedEvent> events;
  while (!bytes.empty()) {
    const std::string_view length_bytes = bytes.substr(0, 8);
    const auto length = take_raw<uint64_t>(&bytes);
    EXPECT_EQ(take_raw<uint32_t>(&bytes), masked_crc32c(length_bytes));
    const std::string_view event = bytes.substr(0, length);
    bytes.remove_prefix(length);
    EXPECT_EQ(take_raw<uint32_t>(&bytes), masked_crc32c(event));
    events.push_back(decode_event(event));
  }
  return events;
}

TEST(TensorBoard, RecordsReadBackAsWritten) {
  TestFolder folder("tensorboard");
  auto writer = TensorBoardWriter::create(folder.path() / "events");
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->add(300, {{"loss", 2.5}, {"expert_load/layer_1/expert_3", 0.0625}}).ok());
  ASSERT_TRUE(writer->add(301, {{"loss", 2.25}}).ok());
  const std::string bytes = read_all(writer->path());
  const auto events = decode_file(bytes);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[1].step, 300);
  ASSERT_EQ(events[1].scalars.size(), 2u);
  EXPECT_EQ(events[1].scalars[0], (std::pair<std::string, float>("loss", 2.5f)));
  EXPECT_EQ(events[1].scalars[1],
            (std::pair<std::string, float>("expert_load/layer_1/expert_3", 0.0625f)));
  EXPECT_EQ(events[2].step, 301);
}

TEST(JsonlLog, ResumingCutsAwayWhatCameAfterTheCheckpoint) {
  TestFolder folder("jsonl");
  const auto path = folder.path() / "log.jsonl";
  {
    auto log = JsonlLog::open(path, 0);
    ASSERT_TRUE(log.ok()) << log.status();
    for (int step = 1; step <= 4; ++step) ASSERT_TRUE(log->write({{"step", step}}).ok());
  }
  std::ofstream(path, std::ios::app) << "{\"step\": 5, \"lo";  // torn by a kill
  {
    auto log = JsonlLog::open(path, 3);
    ASSERT_TRUE(log.ok()) << log.status();
    ASSERT_TRUE(log->write({{"step", 4}, {"again", true}}).ok());
  }
  EXPECT_EQ(read_all(path),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"again\":true,\"step\":4}\n");
}

}  // namespace
}  // namespace mole::trainer
