#include "kernels/cases/case.h"

namespace mole::kernels {

// One line an operation, here and in all_cases().
std::vector<OpCases> adamw_cases();
std::vector<OpCases> add_rms_norm_cases();
std::vector<OpCases> attention_cases();
std::vector<OpCases> cross_entropy_cases();
std::vector<OpCases> embedding_cases();
std::vector<OpCases> kv_entry_cases();
std::vector<OpCases> linear_cases();
std::vector<OpCases> linear_quantized_cases();
std::vector<OpCases> moe_cases();
std::vector<OpCases> rms_norm_cases();
std::vector<OpCases> rope_cases();
std::vector<OpCases> router_cases();
std::vector<OpCases> sampling_cases();
std::vector<OpCases> silu_mul_cases();

std::vector<OpCases> all_cases() {
  std::vector<OpCases> out;
  for (const auto cases : {
           adamw_cases,
           add_rms_norm_cases,
           attention_cases,
           cross_entropy_cases,
           embedding_cases,
           kv_entry_cases,
           linear_cases,
           linear_quantized_cases,
           moe_cases,
           rms_norm_cases,
           rope_cases,
           router_cases,
           sampling_cases,
           silu_mul_cases,
       }) {
    for (OpCases& entry : cases()) out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace mole::kernels
