#include "runtime/step_plan.h"

#include <sstream>

namespace mole::runtime {

void StepPlan::clear() {
  chunks.clear();
  expired.clear();
  num_tokens = num_logit_rows = num_preempted = num_drafts = num_decodes = 0;
  work = {};
  wave.num_chunks = wave.begin_layer = wave.end_layer = 0;
  wave.places.clear();
}

SequenceName name_of(const PlannedChunk& chunk) {
  return {chunk.sequence->request->request.id, chunk.sequence->index};
}

std::string StepPlan::to_json() const {
  std::vector<SequenceName> names;
  for (const PlannedChunk& chunk : chunks) names.push_back(name_of(chunk));
  return to_json(names);
}

std::string StepPlan::to_json(std::span<const SequenceName> names) const {
  std::ostringstream out;
  out << R"({"tokens":)" << num_tokens << R"(,"logit_rows":)" << num_logit_rows
      << R"(,"preempted":)" << num_preempted << R"(,"expired":)" << expired.size();
  if (wave.num_chunks > 0) {
    out << R"(,"wave":{"chunks":)" << wave.num_chunks << R"(,"layers":[)" << wave.begin_layer << ","
        << wave.end_layer << "]}";
  }
  out << R"(,"chunks":[)";
  const char* separator = "";
  for (size_t i = 0; i < chunks.size(); ++i) {
    const PlannedChunk& chunk = chunks[i];
    const bool expanded = chunk.form == model::AttentionForm::kExpanded;
    out << separator << R"({"request":)" << names[i].request << R"(,"index":)" << names[i].index
        << R"(,"first":)" << chunk.first << R"(,"count":)" << chunk.count << R"(,"form":")"
        << (expanded ? "expanded" : "absorbed") << R"(","logits":)" << chunk.num_logits
        << R"(,"drafts":)" << chunk.num_drafts << R"(,"samples":)"
        << (chunk.samples ? "true" : "false") << "}";
    separator = ",";
  }
  out << "]}";
  return out.str();
}

}  // namespace mole::runtime
