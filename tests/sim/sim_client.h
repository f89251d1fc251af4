// One client of the simulation: its request, how it reads, and the check of everything it receives
// against the solo run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "runtime/output_stream.h"
#include "tests/sim/sim_config.h"
#include "tests/sim/solo_run.h"

namespace mole::sim {

class SimClient {
 public:
  SimClient(runtime::GenerateRequest request, const SimConfig* config, TimeUs submitted_us);

  const runtime::GenerateRequest& request() const { return request_; }
  void attach(std::shared_ptr<runtime::OutputStream> stream) { stream_ = std::move(stream); }

  /// Reads what is there, unless the client is slow. Returns what is wrong, or "".
  std::string read(TimeUs now_us);

  // What the client does; set by the simulation.
  bool never_reads = false;
  int32_t disconnect_at_step = -1;  // cancels the request
  int32_t cancel_at_step = -1;      // cancels sequence `cancel_index`
  int32_t cancel_index = 0;
  bool disconnected = false;  // the cancel was sent
  bool cancelled_one = false;

  /// Drafts that were right, of all sequences that ended.
  int64_t accepted_tokens() const { return accepted_tokens_; }
  bool ended() const { return failed_ || open_ == 0; }
  /// Reads even if slow: for the end of the simulation.
  std::string read_all(TimeUs now_us);
  /// The tokens of sequence 0 so far, for the next turn of a conversation.
  const std::vector<TokenId>& conversation() const { return runs_.front().tokens(); }

 private:
  std::string check(const runtime::StreamEvent& event, TimeUs now_us);
  std::string check_prompt_token(const runtime::StreamEvent& event);
  std::string check_token(const runtime::StreamEvent& event);
  std::string check_finished(const runtime::StreamEvent& event, TimeUs now_us);
  std::string check_error(const runtime::StreamEvent& event, TimeUs now_us);

  const runtime::GenerateRequest request_;
  const SimConfig* config_;
  const TimeUs submitted_us_;
  std::shared_ptr<runtime::OutputStream> stream_;
  std::vector<SoloRun> runs_;                       // of each sequence
  std::vector<runtime::FinishReason> last_reason_;  // that the solo run gave with the last token
  std::vector<bool> finished_;
  std::vector<runtime::TokenLogprobs> prompt_scores_;
  size_t num_prompt_tokens_ = 0;  // kPromptToken events
  int64_t accepted_tokens_ = 0;
  int32_t open_ = 0;
  bool failed_ = false;
};

}  // namespace mole::sim
