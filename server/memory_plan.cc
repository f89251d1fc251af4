#include "server/memory_plan.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "runtime/cache_shape.h"
#include "runtime/validate.h"
#include "text/tokenizer.h"

namespace mole::server {

namespace {

void line(std::ostringstream& out, const char* key, int64_t bytes, const std::string& comment) {
  out << key << ": " << bytes << "  # " << comment << "\n";
}

}  // namespace

int64_t MemoryPlan::peak() const {
  return std::max(total(), weights() + load.transient_bytes + program_bytes);
}

int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib << 10;
  }
  return 0;
}

StatusOr<MemoryPlan> plan_memory(const Settings& settings) {
  MemoryPlan plan;
  MOLE_ASSIGN_OR_RETURN(plan.load, model::plan_load(settings.model_path(), load_options(settings)));
  const model::ModelInfo& info = plan.load.info;
  MOLE_ASSIGN_OR_RETURN(plan.engine, runtime::resolve_options(engine_options(settings), info));
  plan.cache_blocks = runtime::num_cache_blocks(plan.engine, info);
  plan.cache_bytes = runtime::cache_shape(plan.engine, info, plan.cache_blocks).total_bytes();
  plan.workspace_bytes = plan.load.workspace.bytes({.tokens = plan.engine.max_num_batched_tokens,
                                                    .context = plan.engine.max_model_len,
                                                    .sequences = plan.engine.max_num_seqs});
  if (plan.engine.target_itl_us > 0) {
    plan.workspace_bytes += plan.engine.prefill_wave_tokens * plan.load.workspace.wave_bytes;
  }
  MOLE_ASSIGN_OR_RETURN(const auto tokenizer, text::Tokenizer::load(settings.model_path()));
  malloc_trim(0);  // what planning took and left is not the program's
  plan.program_bytes = anonymous_bytes();
  return plan;
}

std::string to_yaml(const MemoryPlan& plan) {
  const model::ModelInfo& info = plan.load.info;
  std::ostringstream out;
  out << "# bytes of memory of the process's own; mapped files' pages are not among them\n";
  line(out, "weights", info.weight_bytes,
       std::string(dtype_name(info.dtype)) + ", quantization " + info.quantization + ", packed");
  line(out, "tables", plan.load.table_bytes, "of rotary positions");
  line(out, "kv-cache", plan.cache_bytes,
       std::to_string(plan.cache_blocks) + " blocks of " + std::to_string(model::kBlockTokens) +
           " tokens, kv-cache-dtype " + plan.engine.kv_cache_dtype + "; taken as it is used");
  line(out, "workspace", plan.workspace_bytes,
       "of a step of " + std::to_string(plan.engine.max_num_batched_tokens) +
           " tokens after max-model-len");
  line(out, "program", plan.program_bytes, "tokenizer, libraries' data");
  line(out, "total", plan.total(), "of all above");
  line(out, "peak", plan.peak(), "the larger of total and of what loading takes");
  line(out, "files", plan.load.checkpoint_bytes,
       "read while loading; their pages are the system's");
  return out.str();
}

}  // namespace mole::server
