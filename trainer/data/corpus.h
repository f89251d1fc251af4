// Where text comes from: files of plain text (each one document) and JSON-lines files (each line an
// object whose "text" is one document). Folders are walked in name order, so the order of documents
// is a property of the names and never of the file system.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"

namespace mole::trainer {

inline constexpr size_t kTextFileBytesMax = size_t{1} << 30;

/// Files under `inputs` (files, or folders searched for *.txt and *.jsonl), folders in name order.
/// Errors: kNotFound (an input), kInvalidArgument (nothing found; an ending that isn't known).
StatusOr<std::vector<std::filesystem::path>> list_text_files(
    const std::vector<std::string>& inputs);

/// Calls `use(document)` for each document of `file`; stops at its first error.
/// Errors: kNotFound, kInvalidArgument naming file and line.
Status for_each_document(const std::filesystem::path& file,
                         const std::function<Status(const std::string& document)>& use);

}  // namespace mole::trainer
