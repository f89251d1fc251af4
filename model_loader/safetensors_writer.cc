#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "base/json.h"
#include "model_loader/safetensors.h"
#include "model_loader/safetensors_format.h"

namespace mole::loader {
namespace {

// Bytes that `view` must hold, or an error.
StatusOr<int64_t> bytes_of(const std::string& name, const TensorView& view) {
  int64_t bytes = dtype_bytes(view.dtype);
  bool bad = view.shape.size() > kDimensionsMax;
  for (const int64_t extent : view.shape) {
    bad = bad || extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes);
  }
  if (bad || static_cast<uint64_t>(bytes) != view.bytes.size()) {
    return absl::InvalidArgumentError("tensor " + quoted_name(name) + ": " + describe(view) +
                                      " does not take the " + std::to_string(view.bytes.size()) +
                                      " bytes given");
  }
  return bytes;
}

// Length, header and padding: all that stands before the data.
StatusOr<std::string> file_head(const std::map<std::string, TensorView>& tensors,
                                const std::map<std::string, std::string>& metadata) {
  if (tensors.size() > kTensorsMax) {
    return absl::InvalidArgumentError(std::to_string(tensors.size()) + " tensors; at most " +
                                      std::to_string(kTensorsMax) + " fit a file");
  }
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  int64_t offset = 0;
  for (const auto& [name, view] : tensors) {
    if (name == kMetadataKey) {
      return absl::InvalidArgumentError("a tensor can't be called __metadata__");
    }
    MOLE_ASSIGN_OR_RETURN(const int64_t bytes, bytes_of(name, view));
    header[name] = {{"dtype", format_name(view.dtype)},
                    {"shape", view.shape},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    return absl::InvalidArgumentError("a tensor's name or metadata is not valid UTF-8");
  }
  while ((text.size() + kLengthBytes) % kDataAlignment != 0) text += ' ';
  if (text.size() > kHeaderBytesMax) {
    return absl::InvalidArgumentError("the header would take " + std::to_string(text.size()) +
                                      " bytes; the format allows " +
                                      std::to_string(kHeaderBytesMax));
  }
  const uint64_t length = text.size();
  std::string head(kLengthBytes, '\0');
  std::memcpy(head.data(), &length, kLengthBytes);
  return head + text;
}

Status errno_error(const char* what, const std::filesystem::path& path) {
  return absl::InternalError(std::string("cannot ") + what + " " + path.string() + ": " +
                             std::strerror(errno));
}

Status write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error("write", path);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

Status write_and_sync(int fd, const std::string& head,
                      const std::map<std::string, TensorView>& tensors,
                      const std::filesystem::path& path) {
  MOLE_RETURN_IF_ERROR(write_all(fd, std::as_bytes(std::span(head)), path));
  for (const auto& [name, view] : tensors) {
    MOLE_RETURN_IF_ERROR(write_all(fd, view.bytes, path));
  }
  if (::fsync(fd) != 0) return errno_error("sync", path);
  return absl::OkStatus();
}

}  // namespace

// Not write_file_atomic(): the tensors of a large checkpoint are not copied into one string.
Status write_safetensors(const std::filesystem::path& path,
                         const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata) {
  MOLE_ASSIGN_OR_RETURN(const std::string head, file_head(tensors, metadata));
  std::filesystem::path temporary = path;
  temporary += ".tmp-" + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno_error("create", temporary);
  Status status = write_and_sync(fd, head, tensors, temporary);
  if (::close(fd) != 0 && status.ok()) status = errno_error("close", temporary);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = errno_error("rename onto", path);
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_folder(path.has_parent_path() ? path.parent_path() : ".");
}

}  // namespace mole::loader
