// A checkpoint directory in Hugging Face's layout: config.json, model.safetensors or shards with
// model.safetensors.index.json, and what else stands beside them. Knows no model.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/status.h"
#include "model_loader/quantized.h"
#include "model_loader/safetensors.h"

namespace mole::loader {

class ReadAhead;

class Checkpoint {
 public:
  /// Maps every shard and checks it against the index before anything is used.
  /// Errors (all problems in one message): kNotFound, kInvalidArgument (config.json), kDataLoss.
  static StatusOr<std::shared_ptr<const Checkpoint>> open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const Json& config() const { return config_; }  // config.json, at most 1 MiB
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  int64_t weight_bytes() const { return weight_bytes_; }
  /// Of the matrices that are quantised; others lie beside them as they are.
  StoredFormat stored_format() const { return stored_format_; }

 private:
  Status add_weights();
  Status add_shards();
  // Maps one file and takes its tensors; what is wrong with it goes to `problems`.
  void add_file(const std::string& name, std::vector<std::string>* problems);

  std::filesystem::path folder_;
  Json config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorView> tensors_;
  int64_t weight_bytes_ = 0;
  StoredFormat stored_format_ = StoredFormat::kNone;
};

/// Which tensors a model asked for and what became of them: the loader's report. Any missing,
/// unused or misshapen tensor is an error; the message lists all of them (the first 20 of each
/// kind).
struct LoadReport {
  std::vector<std::string> missing;    // asked for, not in the files
  std::vector<std::string> unused;     // in the files, never asked for
  std::vector<std::string> misshapen;  // "name: expected [..], found [..]"
  int64_t tensors_read = 0;
  int64_t bytes_read = 0;
  Status status() const;
};

/// Hands tensors to a model by name, converts to the wanted type (quantised ones are expanded, or
/// handed out as they are), checks shapes, remembers for the report, shows progress.
/// Thread: one.
class TensorSource {
 public:
  /// Called at most once a second of a long load: bytes of the files done, and in all.
  using Progress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

  /// Progress goes to the log.
  explicit TensorSource(std::shared_ptr<const Checkpoint> checkpoint);
  TensorSource(std::shared_ptr<const Checkpoint> checkpoint, Progress progress,
               std::shared_ptr<const Clock> clock);

  bool has(const std::string& name) const;
  /// Copies tensor `name` as float32 or bfloat16 into `out` (product(shape) elements). Wrong or
  /// missing tensors are noted in the report and leave `out` zeroed.
  void read(const std::string& name, const std::vector<int64_t>& shape, DType dtype, void* out);
  /// The codes and scales of a quantised matrix [shape[0], shape[1]], or nothing if the tensor is
  /// missing or not quantised (then `read` it). Wrong ones are noted in the report and give
  /// nothing.
  std::optional<QuantizedTensor> quantized(const std::string& name,
                                           const std::vector<int64_t>& shape);
  /// Where tensor `name` lies in its mapped file, if that is in `dtype` already, of this shape and
  /// aligned to its elements; else null (then `read` it). Counts as read.
  const void* mapped(const std::string& name, const std::vector<int64_t>& shape, DType dtype);
  /// What `mapped` and `quantized` gave out since the last call won't be looked at again.
  void release_mapped();
  /// Tells `read_ahead`, which must outlive the last read, what was read.
  void set_read_ahead(ReadAhead* read_ahead) { read_ahead_ = read_ahead; }
  /// Declares a tensor unused on purpose (for example MTP layers); it won't be reported.
  void ignore_prefix(const std::string& prefix);
  /// Call once after the last read.
  LoadReport finish();

 private:
  // False, with the reason noted, if `out` was not filled.
  bool convert_into(const std::string& name, const std::vector<int64_t>& shape, DType dtype,
                    void* out);
  // The format in which `tensor` is quantised, kNone if it is not.
  StoredFormat format_of(const TensorView& tensor, const std::vector<int64_t>& shape) const;
  std::optional<QuantizedTensor> find_quantized(const std::string& name, const TensorView& tensor,
                                                const std::vector<int64_t>& shape);
  void note_read(int64_t bytes);
  void let_go(std::span<const std::byte> bytes);

  std::shared_ptr<const Checkpoint> checkpoint_;
  Progress progress_;
  std::shared_ptr<const Clock> clock_;
  ReadAhead* read_ahead_ = nullptr;
  std::vector<std::span<const std::byte>> mapped_;  // given out and not yet let go
  TimeUs progress_at_;                              // the next call of progress_ is due
  std::set<std::string> read_;
  std::vector<std::string> ignored_prefixes_;
  LoadReport report_;
};

}  // namespace mole::loader
