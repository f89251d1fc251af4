#include <iostream>

#include "base/options.h"
#include "model/registry.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "trainer/commands.h"
#include "trainer/generate.h"

namespace mole::trainer {
namespace {

Status generate_text(const std::string& folder, const std::string& prompt,
                     const model::LoadOptions& load, const SamplingOptions& sampling) {
  MOLE_ASSIGN_OR_RETURN(auto model, model::load_model(folder, load));
  MOLE_ASSIGN_OR_RETURN(auto tokenizer, text::Tokenizer::load(folder));
  MOLE_ASSIGN_OR_RETURN(std::vector<TokenId> ids, tokenizer->encode(prompt, {}));
  text::Detokenizer detokenizer(tokenizer, /*skip_special_tokens=*/true);
  std::cout << prompt;
  MOLE_RETURN_IF_ERROR(generate(*model, std::move(ids), sampling, [&](TokenId id) {
    std::cout << detokenizer.push(id) << std::flush;
  }));
  std::cout << detokenizer.finish() << "\n";
  return absl::OkStatus();
}

}  // namespace

int run_generate(int argc, const char* const* argv) {
  std::string folder, prompt;
  model::LoadOptions load;
  SamplingOptions sampling;
  int64_t seed = 0, threads = 0;
  Options options("trainer generate", "Continues a prompt and prints prompt and continuation.");
  options.add("model", &folder, "model directory");
  options.add("prompt", &prompt, "text to continue");
  options.add("max-tokens", &sampling.max_tokens, 1, 1 << 20, "tokens", "new tokens");
  options.add("temperature", &sampling.temperature, 0.0, 100.0, "",
              "0 = always the likeliest token");
  options.add("top-p", &sampling.top_p, 0.0, 1.0, "", "nucleus");
  options.add("top-k", &sampling.top_k, 0, 1 << 20, "tokens", "0 = all");
  options.add("seed", &seed, 0, INT64_MAX, "", "the same seed gives the same text");
  options.add_choice("dtype", &load.dtype, {"auto", "float32", "bfloat16"}, "to compute in");
  options.add("threads", &threads, 0, 1024, "threads", "0 = all cores");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (folder.empty()) {
    return report("generate", absl::InvalidArgumentError("--model: must be given"));
  }
  sampling.seed = static_cast<uint64_t>(seed);
  load.threads = static_cast<int32_t>(threads);
  const Status status = generate_text(folder, prompt, load, sampling);
  return status.ok() ? kExitOk : report("generate", status);
}

}  // namespace mole::trainer
