// Files: bounded reads, read-only maps, and writes that are either whole or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace mole {

/// Reads a whole file of at most `bytes_max` bytes. Errors: kNotFound, kInvalidArgument (too
/// large).
StatusOr<std::string> read_file(const std::filesystem::path& path, size_t bytes_max);

/// A file mapped read-only; unmapped at destruction. Move-only.
class MappedFile {
 public:
  /// Errors: kNotFound, kInvalidArgument (not a regular file).
  static StatusOr<MappedFile> open(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Writes `contents` beside `path`, fsyncs, renames over it and fsyncs the folder: after a crash
/// the file is the old one or the new one. Errors: kInternal with errno's text.
Status write_file_atomic(const std::filesystem::path& path, std::string_view contents);

/// Flushes a folder's entries to disk. Errors: kInternal with errno's text.
Status sync_folder(const std::filesystem::path& folder);

/// SHA-256 of `bytes`, as 64 lower-case hex digits.
std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace mole
