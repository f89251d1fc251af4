#include "trainer/tracking/tensorboard.h"

#include <unistd.h>

#include <chrono>
#include <cstring>

#include "trainer/tracking/crc32c.h"

namespace mole::trainer {
namespace {

// Protobuf's wire types.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

void put_varint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void put_tag(uint32_t field, WireType type, std::string* out) {
  put_varint(field << 3 | type, out);
}

template <typename Value>
void put_raw(Value value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put_bytes(uint32_t field, const std::string& bytes, std::string* out) {
  put_tag(field, kLength, out);
  put_varint(bytes.size(), out);
  out->append(bytes);
}

/// TensorBoard shows real time on its axis; nothing else of a run depends on it.
double wall_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string event_with_time() {
  std::string event;
  put_tag(1, kFixed64, &event);
  put_raw(wall_seconds(), &event);
  return event;
}

std::string encode_scalar(const std::string& tag, double value) {
  std::string out;
  put_bytes(1, tag, &out);
  put_tag(2, kFixed32, &out);
  put_raw(static_cast<float>(value), &out);
  return out;
}

}  // namespace

StatusOr<TensorBoardWriter> TensorBoardWriter::create(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::InternalError(folder.string() + ": " + error.message());
  TensorBoardWriter writer;
  writer.path_ =
      folder / ("events.out.tfevents." + std::to_string(static_cast<int64_t>(wall_seconds())) +
                "." + std::to_string(::getpid()));
  writer.file_.open(writer.path_, std::ios::binary | std::ios::app);
  std::string event = event_with_time();
  put_bytes(3, "brain.Event:2", &event);
  MOLE_RETURN_IF_ERROR(writer.write_record(event));
  return writer;
}

Status TensorBoardWriter::add(int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) put_bytes(1, encode_scalar(tag, value), &summary);
  std::string event = event_with_time();
  put_tag(2, kVarint, &event);
  put_varint(static_cast<uint64_t>(step), &event);
  put_bytes(5, summary, &event);
  return write_record(event);
}

Status TensorBoardWriter::write_record(const std::string& event) {
  std::string record;
  put_raw(static_cast<uint64_t>(event.size()), &record);
  put_raw(masked_crc32c(record), &record);
  record += event;
  put_raw(masked_crc32c(event), &record);
  file_.write(record.data(), static_cast<std::streamsize>(record.size()));
  file_.flush();
  if (!file_) return absl::InternalError(path_.string() + ": cannot write");
  return absl::OkStatus();
}

}  // namespace mole::trainer
