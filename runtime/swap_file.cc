#include "runtime/swap_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"

namespace mole::runtime {
namespace {

Status errno_status(const std::string& what, const std::filesystem::path& path) {
  const int code = errno;
  return absl::InternalError(what + " " + path.string() + ": " + std::strerror(code));
}

Status refuse(const std::filesystem::path& path, const std::string& why) {
  return absl::InvalidArgumentError("kv-swap-file is " + path.string() + "; " + why);
}

SwapFileHeader header_of(const SwapGeometry& geometry) {
  SwapFileHeader header;
  header.page_header_bytes = sizeof(SwapPageHeader);
  header.page_bytes = geometry.page_bytes;
  header.num_slots = geometry.num_slots;
  header.first_page = geometry.first_page();
  header.checksum = checksum64(
      std::as_bytes(std::span(&header, 1)).first(sizeof(header) - sizeof(header.checksum)));
  return header;
}

template <typename T>
std::span<std::byte> bytes_of(T* value) {
  return std::as_writable_bytes(std::span(value, 1));
}

}  // namespace

SwapFile::SwapFile(int fd, std::filesystem::path path, const SwapGeometry& geometry)
    : fd_(fd), path_(std::move(path)), geometry_(geometry) {}

SwapFile::~SwapFile() {
  (void)::fdatasync(fd_);  // not needed for safety: it only saves pages from a crash of the machine
  (void)::close(fd_);
}

StatusOr<std::unique_ptr<SwapFile>> SwapFile::open(const std::filesystem::path& path,
                                                   const SwapGeometry& geometry) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return refuse(path, std::string("it can't be opened: ") + std::strerror(errno));
  std::unique_ptr<SwapFile> file(new SwapFile(fd, path, geometry));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return refuse(path, "another process uses it; accepted: a file of its own for each server");
  }
  MOLE_RETURN_IF_ERROR(file->prepare());
  return file;
}

Status SwapFile::prepare() {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return errno_status("cannot stat", path_);
  if (!S_ISREG(info.st_mode)) return refuse(path_, "accepted: a regular file or a new name");
  const auto size = static_cast<uint64_t>(info.st_size);
  SwapFileHeader found;
  if (size > 0) {
    const bool ours =
        size >= sizeof(found) && read_at(0, bytes_of(&found)).ok() && found.magic == kSwapFileMagic;
    if (!ours) return refuse(path_, "it is no swap file; accepted: one of ours or a new name");
    const SwapFileHeader wanted = header_of(geometry_);
    const bool same = std::memcmp(&found, &wanted, sizeof(found)) == 0;
    if (same && size == geometry_.file_bytes()) return absl::OkStatus();
    log::warn("the KV cache's swap file has another layout and begins anew",
              {{"file", path_.string()},
               {"pages", static_cast<int64_t>(found.num_slots)},
               {"page_bytes", static_cast<int64_t>(found.page_bytes)}});
  }
  return begin_anew();
}

// The file system's room is taken page by page as they are written: a full disk is an error of that
// write, and the page is not swapped.
Status SwapFile::begin_anew() {
  if (::ftruncate(fd_, 0) != 0) return errno_status("cannot empty", path_);
  struct statvfs room {};
  if (::fstatvfs(fd_, &room) != 0) return errno_status("cannot stat", path_);
  const uint64_t free_bytes = uint64_t{room.f_bavail} * room.f_frsize;
  if (free_bytes < geometry_.file_bytes()) {
    return absl::InvalidArgumentError("kv-swap-bytes needs a file of " +
                                      std::to_string(geometry_.file_bytes()) +
                                      " bytes; accepted: what " + path_.string() +
                                      "'s file system has free, " + std::to_string(free_bytes));
  }
  if (::ftruncate(fd_, static_cast<off_t>(geometry_.file_bytes())) != 0) {
    return refuse(path_, "it can't have " + std::to_string(geometry_.file_bytes()) +
                             " bytes: " + std::strerror(errno));
  }
  const SwapFileHeader header = header_of(geometry_);
  return write_at(0, std::as_bytes(std::span(&header, 1)));
}

Status SwapFile::read_at(uint64_t offset, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status("cannot read", path_);
    if (got == 0) return absl::InternalError(path_.string() + " was cut short");
    bytes = bytes.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

Status SwapFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_status("cannot write", path_);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return absl::OkStatus();
}

Status SwapFile::read_headers(uint64_t first, std::span<SwapPageHeader> headers) {
  return read_at(geometry_.header_offset(first), std::as_writable_bytes(headers));
}

Status SwapFile::write_page(uint64_t slot, const SwapPageHeader& header, PagePieces pieces) {
  const SwapPageHeader empty;
  const uint64_t at = geometry_.header_offset(slot);
  MOLE_RETURN_IF_ERROR(write_at(at, std::as_bytes(std::span(&empty, 1))));
  uint64_t offset = geometry_.page_offset(slot);
  for (const auto& piece : pieces) {
    MOLE_RETURN_IF_ERROR(write_at(offset, piece));
    offset += piece.size();
  }
  return write_at(at, std::as_bytes(std::span(&header, 1)));
}

Status SwapFile::read_page(uint64_t slot, SwapPageHeader* header, PagePieces pieces) {
  MOLE_RETURN_IF_ERROR(read_headers(slot, std::span(header, 1)));
  uint64_t offset = geometry_.page_offset(slot);
  for (const auto& piece : pieces) {
    MOLE_RETURN_IF_ERROR(read_at(offset, piece));
    offset += piece.size();
  }
  return absl::OkStatus();
}

}  // namespace mole::runtime
