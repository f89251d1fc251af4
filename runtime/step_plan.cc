#include "runtime/step_plan.h"

#include <sstream>

namespace mole::runtime {

void StepPlan::clear() {
  chunks.clear();
  expired.clear();
  num_tokens = num_logit_rows = num_preempted = num_drafts = num_decodes = 0;
  work = {};
}

std::string StepPlan::to_json() const {
  std::ostringstream out;
  out << R"({"tokens":)" << num_tokens << R"(,"logit_rows":)" << num_logit_rows
      << R"(,"preempted":)" << num_preempted << R"(,"expired":)" << expired.size()
      << R"(,"chunks":[)";
  const char* separator = "";
  for (const PlannedChunk& chunk : chunks) {
    const bool expanded = chunk.form == model::AttentionForm::kExpanded;
    out << separator << R"({"request":)" << chunk.sequence->request->request.id << R"(,"index":)"
        << chunk.sequence->index << R"(,"first":)" << chunk.first << R"(,"count":)" << chunk.count
        << R"(,"form":")" << (expanded ? "expanded" : "absorbed") << R"(","logits":)"
        << chunk.num_logits << R"(,"drafts":)" << chunk.num_drafts << R"(,"samples":)"
        << (chunk.samples ? "true" : "false") << "}";
    separator = ",";
  }
  out << "]}";
  return out.str();
}

}  // namespace mole::runtime
