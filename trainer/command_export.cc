#include <iostream>

#include "base/options.h"
#include "trainer/checkpoint_store.h"
#include "trainer/commands.h"
#include "trainer/export_model.h"

namespace mole::trainer {
namespace {

StatusOr<LoadedCheckpoint> open_checkpoint(const std::string& run, const std::string& checkpoint) {
  if (!checkpoint.empty()) return CheckpointStore::load(checkpoint);
  return CheckpointStore::newest_in(std::filesystem::path(run) / "checkpoints");
}

}  // namespace

int run_export(int argc, const char* const* argv) {
  std::string run, checkpoint, output, tokenizer, chat_template;
  ExportOptions exported;
  Options options("trainer export", "Turns a checkpoint of a run into a model directory.");
  options.add("run", &run, "folder of the run: its newest whole checkpoint is taken");
  options.add("checkpoint", &checkpoint, "folder of one checkpoint, instead of --run");
  options.add("output", &output, "model directory to write");
  options.add("tokenizer", &tokenizer, "folder with tokenizer.json; default: the run's");
  options.add("chat-template", &chat_template,
              "Jinja file; default: the messages' contents as paragraphs");
  options.add_choice("dtype", &exported.dtype, {"float32", "bfloat16"}, "of the weights");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (output.empty() || run.empty() == checkpoint.empty()) {
    return report("export", absl::InvalidArgumentError(
                                "accepted: --output, and either --run or --checkpoint"));
  }
  exported.output = output;
  exported.tokenizer = tokenizer;
  exported.chat_template = chat_template;
  const StatusOr<LoadedCheckpoint> loaded = open_checkpoint(run, checkpoint);
  if (!loaded.ok()) return report("export", loaded.status());
  const Status status = export_model(*loaded, exported);
  if (!status.ok()) return report("export", status);
  std::cout << "step " << loaded->step << " -> " << output << "\n";
  return kExitOk;
}

}  // namespace mole::trainer
