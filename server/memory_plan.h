// What a server with these settings will take of memory, added up before anything is loaded.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/registry.h"
#include "runtime/engine.h"
#include "server/settings.h"

namespace mole::server {

/// Bytes. What is counted is memory that belongs to the process alone (RssAnon of
/// /proc/self/status): pages of mapped files, the weights' while they are read among them, are the
/// system's to take back.
struct MemoryPlan {
  model::LoadPlan load;
  runtime::EngineOptions engine;  // with every 0 filled in
  int64_t cache_blocks = 0;
  int64_t cache_bytes = 0;      // taken block by block as sequences need them
  int64_t workspace_bytes = 0;  // of a step of max_num_batched_tokens
  int64_t program_bytes = 0;    // this process now: libraries' data, tokenizer, threads

  int64_t weights() const { return load.info.weight_bytes + load.table_bytes; }
  int64_t total() const { return weights() + cache_bytes + workspace_bytes + program_bytes; }
  /// While loading neither cache nor workspace is touched.
  int64_t peak() const;
};

/// Reads config.json, the headers of the weights and the tokenizer. Errors: as model::plan_load and
/// serve_model.
StatusOr<MemoryPlan> plan_memory(const Settings& settings);

/// As YAML, one value a line with what it is.
std::string to_yaml(const MemoryPlan& plan);

/// RssAnon of this process, in bytes; 0 where /proc does not say.
int64_t anonymous_bytes();

}  // namespace mole::server
