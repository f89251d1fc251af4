#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "base/json.h"
#include "model_loader/safetensors.h"
#include "model_loader/safetensors_format.h"

namespace mole::loader {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

// One value for each key and number of every tensor, and a little for the metadata.
constexpr JsonLimits kHeaderLimits = {
    .depth_max = 8,
    .nodes_max = kTensorsMax * (8 + kDimensionsMax),
    .object_keys_max = kTensorsMax,
};

Status broken(const std::string& rule) { return absl::DataLossError(rule); }

Status broken_tensor(const std::string& name, const std::string& rule) {
  return absl::DataLossError("tensor " + quoted_name(name) + ": " + rule);
}

// The JSON header's text. Errors: kDataLoss with the broken rule.
StatusOr<std::string_view> header_text(std::span<const std::byte> bytes) {
  const std::string size_text = std::to_string(bytes.size());
  if (bytes.size() < kLengthBytes) {
    return broken("the file has " + size_text + " bytes; the header's length alone takes 8");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kHeaderBytesMax) {
    return broken("the header claims " + std::to_string(length) + " bytes; at most " +
                  std::to_string(kHeaderBytesMax) + " are accepted");
  }
  if (length > bytes.size() - kLengthBytes) {
    return broken("the header claims " + std::to_string(length) + " bytes, but the file has only " +
                  size_text + " in all: it is truncated");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') return broken("the header does not start with '{'");
  return text;
}

struct Entry {
  std::string name;
  TensorView view;  // bytes still empty
  uint64_t begin = 0;
  uint64_t end = 0;
};

StatusOr<uint64_t> unsigned_value(const Json& value, const std::string& what) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  return broken(what + " is " + quoted_name(value.dump()) +
                "; an integer from 0 to 2^64 - 1 is accepted");
}

// The shape, with product(shape) * element size free of overflow.
Status read_shape(const Json& value, TensorView* view, int64_t* bytes) {
  if (!value.is_array()) return broken("shape is not an array");
  if (value.size() > kDimensionsMax) {
    return broken("shape has " + std::to_string(value.size()) + " dimensions; at most " +
                  std::to_string(kDimensionsMax) + " are accepted");
  }
  *bytes = dtype_bytes(view->dtype);
  for (const Json& item : value) {
    MOLE_ASSIGN_OR_RETURN(const uint64_t extent, unsigned_value(item, "an extent of shape"));
    if (extent > static_cast<uint64_t>(INT64_MAX)) return broken("shape overflows 64 bits");
    view->shape.push_back(static_cast<int64_t>(extent));
  }
  // Any order of factors must be safe, also where a later extent is 0.
  for (const int64_t extent : view->shape) {
    if (__builtin_mul_overflow(*bytes, std::max<int64_t>(extent, 1), bytes)) {
      return broken("shape " + describe_shape(view->shape) + " overflows 64 bits");
    }
  }
  for (const int64_t extent : view->shape) {
    if (extent == 0) *bytes = 0;
  }
  return absl::OkStatus();
}

Status read_entry(const Json& fields, Entry* entry) {
  if (!fields.is_object() || fields.size() != 3 || !fields.contains("dtype") ||
      !fields.contains("shape") || !fields.contains("data_offsets")) {
    return broken("its entry must hold exactly dtype, shape and data_offsets");
  }
  const Json& dtype = fields["dtype"];
  const std::optional<DType> known =
      dtype.is_string() ? dtype_of(dtype.get_ref<const std::string&>()) : std::nullopt;
  if (!known) {
    return broken("dtype is " + quoted_name(dtype.dump()) +
                  "; F32, BF16, F16, F8_E4M3, I64, I32 and U8 are accepted");
  }
  entry->view.dtype = *known;
  int64_t bytes = 0;
  MOLE_RETURN_IF_ERROR(read_shape(fields["shape"], &entry->view, &bytes));
  const Json& offsets = fields["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) return broken("data_offsets is not a pair");
  MOLE_ASSIGN_OR_RETURN(entry->begin, unsigned_value(offsets[0], "data_offsets[0]"));
  MOLE_ASSIGN_OR_RETURN(entry->end, unsigned_value(offsets[1], "data_offsets[1]"));
  if (entry->end < entry->begin) return broken("data_offsets end before they begin");
  if (entry->end - entry->begin != static_cast<uint64_t>(bytes)) {
    return broken("data_offsets span " + std::to_string(entry->end - entry->begin) +
                  " bytes, but " + describe(entry->view) + " takes " + std::to_string(bytes));
  }
  return absl::OkStatus();
}

Status read_metadata(const Json& value, std::map<std::string, std::string>* metadata) {
  if (!value.is_object()) return broken("__metadata__ is not an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return broken("__metadata__ key " + quoted_name(key) + " is no string");
    metadata->emplace(key, text.get<std::string>());
  }
  return absl::OkStatus();
}

// Checks that the entries tile [0, data_bytes) without hole or overlap.
Status check_tiling(std::vector<Entry>* entries, uint64_t data_bytes) {
  std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const Entry& entry : *entries) {
    if (entry.begin != expected) {
      return broken_tensor(entry.name, "its data begins at " + std::to_string(entry.begin) +
                                           ", the data before it ends at " +
                                           std::to_string(expected) +
                                           (entry.begin < expected ? ": overlap" : ": hole"));
    }
    if (entry.end > data_bytes) {
      return broken_tensor(entry.name, "its data ends at " + std::to_string(entry.end) +
                                           ", but the file has only " + std::to_string(data_bytes) +
                                           " data bytes: it is truncated");
    }
    expected = entry.end;
  }
  if (expected != data_bytes) {
    return broken("the last tensor's data ends at " + std::to_string(expected) +
                  ", but the file has " + std::to_string(data_bytes) + " data bytes");
  }
  return absl::OkStatus();
}

StatusOr<std::vector<Entry>> read_entries(const Json& header,
                                          std::map<std::string, std::string>* metadata) {
  std::vector<Entry> entries;
  for (const auto& [name, fields] : header.items()) {
    if (name == kMetadataKey) {
      MOLE_RETURN_IF_ERROR(read_metadata(fields, metadata));
      continue;
    }
    Entry entry;
    entry.name = name;
    const Status status = read_entry(fields, &entry);
    if (!status.ok()) return broken_tensor(name, std::string(status.message()));
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

StatusOr<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  StatusOr<MappedFile> mapped = MappedFile::open(path);
  if (!mapped.ok()) {
    if (absl::IsInvalidArgument(mapped.status())) {  // a folder, a pipe: as unusable as bad bytes
      return absl::DataLossError(mapped.status().message());
    }
    return mapped.status();
  }
  file.file_ = std::move(mapped).value();
  const Status status = file.parse();
  if (!status.ok()) return annotate(status, path.string());
  return file;
}

Status SafetensorsFile::parse() {
  const std::span<const std::byte> bytes = file_.bytes();
  MOLE_ASSIGN_OR_RETURN(const std::string_view text, header_text(bytes));
  StatusOr<Json> header = parse_json(text, kHeaderLimits);
  if (!header.ok()) return broken("header: " + std::string(header.status().message()));
  MOLE_ASSIGN_OR_RETURN(std::vector<Entry> entries, read_entries(*header, &metadata_));
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + text.size());
  MOLE_RETURN_IF_ERROR(check_tiling(&entries, data.size()));
  for (Entry& entry : entries) {
    entry.view.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    tensors_.emplace(std::move(entry.name), std::move(entry.view));
  }
  return absl::OkStatus();
}

}  // namespace mole::loader
