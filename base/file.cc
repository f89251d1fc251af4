#include "base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace mole {
namespace {

Status errno_status(const std::string& what, const std::filesystem::path& path) {
  const int code = errno;
  const std::string message = what + " " + path.string() + ": " + std::strerror(code);
  return code == ENOENT ? absl::NotFoundError(message) : absl::InternalError(message);
}

// Closes on scope exit; close_now() reports what close() says, once.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int close_now() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

StatusOr<size_t> regular_file_size(const Fd& fd, const std::filesystem::path& path) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_status("cannot stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(path.string() + " is not a regular file");
  }
  return static_cast<size_t>(info.st_size);
}

Status write_all(const Fd& fd, std::string_view contents, const std::filesystem::path& path) {
  while (!contents.empty()) {
    const ssize_t written = ::write(fd.get(), contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_status("cannot write", path);
    contents.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

Status write_and_sync(const std::filesystem::path& path, std::string_view contents) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) return errno_status("cannot create", path);
  MOLE_RETURN_IF_ERROR(write_all(fd, contents, path));
  if (::fsync(fd.get()) != 0) return errno_status("cannot sync", path);
  if (fd.close_now() != 0) return errno_status("cannot close", path);
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> read_file(const std::filesystem::path& path, size_t bytes_max) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return errno_status("cannot open", path);
  MOLE_ASSIGN_OR_RETURN(const size_t size, regular_file_size(fd, path));
  if (size > bytes_max) {
    return absl::InvalidArgumentError(path.string() + " has " + std::to_string(size) +
                                      " bytes; at most " + std::to_string(bytes_max) +
                                      " are accepted");
  }
  std::string contents(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(fd.get(), contents.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status("cannot read", path);
    if (got == 0) return absl::DataLossError(path.string() + " shrank while it was read");
    done += static_cast<size_t>(got);
  }
  return contents;
}

StatusOr<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return errno_status("cannot open", path);
  MOLE_ASSIGN_OR_RETURN(const size_t size, regular_file_size(fd, path));
  MappedFile file;
  if (size == 0) return file;  // mmap refuses empty maps; an empty span says the same
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return errno_status("cannot map", path);
  file.data_ = static_cast<const std::byte*>(data);
  file.size_ = size;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view contents) {
  std::filesystem::path temporary = path;
  temporary += ".tmp-" + std::to_string(::getpid());
  Status status = write_and_sync(temporary, contents);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = errno_status("cannot rename onto", path);
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_folder(path.has_parent_path() ? path.parent_path() : ".");
}

Status sync_folder(const std::filesystem::path& folder) {
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return errno_status("cannot open folder", folder);
  if (::fsync(fd.get()) != 0) return errno_status("cannot sync folder", folder);
  return absl::OkStatus();
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  const int ok =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr);
  MOLE_CHECK(ok == 1);
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += kHex[digest[i] >> 4];
    text += kHex[digest[i] & 15];
  }
  return text;
}

}  // namespace mole
