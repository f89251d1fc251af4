#include <iostream>

#include "base/json.h"
#include "base/options.h"
#include "model/quantize_checkpoint.h"
#include "trainer/commands.h"

namespace mole::trainer {

int run_quantize(int argc, const char* const* argv) {
  std::string in, out;
  model::QuantizeOptions quantize{.format = "int8"};
  int64_t threads = 0;
  Options options("trainer quantize",
                  "Stores a model directory with quantised weights, in the layout of "
                  "docs/quantization.md. mole-server --quantization does the same while it loads.");
  options.add_positional("in", &in, "model directory");
  options.add_positional("out", &out, "new model directory");
  options.add_choice("format", &quantize.format, {"int8", "int8-g128", "int8-a16", "int4", "fp8"},
                     "of the weights");
  options.add("shard-bytes", &quantize.shard_bytes, 1, INT64_MAX, "BYTES", "largest file");
  options.add("threads", &threads, 0, 1024, "threads", "0 = all cores");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (in.empty() || out.empty()) {
    return report("quantize", absl::InvalidArgumentError("accepted: IN and OUT, two folders"));
  }
  quantize.threads = static_cast<int32_t>(threads);
  const auto done = model::quantize_checkpoint(in, out, quantize);
  if (!done.ok()) return report("quantize", done.status());
  const Json line = {{"format", quantize.format},
                     {"tensors", done->tensors},
                     {"quantized", done->quantized},
                     {"bytes_before", done->bytes_before},
                     {"bytes_after", done->bytes_after}};
  std::cout << line.dump(2) << "\n";
  return kExitOk;
}

}  // namespace mole::trainer
