#include "model/workspace.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace mole::model {

namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kFloat = 4;
constexpr int64_t kTileRows = 16;  // rows that a matrix unit takes together

int64_t integer(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || !found->is_number_integer() ? 0 : found->get<int64_t>();
}

/// TensorPool with numbers in place of memory: the same blocks are made and used again. What counts
/// is how far each was ever used, as memory is there from its first use on.
class PoolReplay {
 public:
  explicit PoolReplay(int64_t max_rows) : max_rows_(max_rows) {}

  /// Returns the block's number.
  size_t take(int64_t rows, int64_t row_bytes) {
    const int64_t wanted = rows * row_bytes;
    const bool bounded = rows < max_rows_;
    Block* best = nullptr;
    Block* largest = nullptr;  // of the free ones that are too small
    for (Block& block : blocks_) {
      if (block.taken) continue;
      if (block.capacity < wanted) {
        if (largest == nullptr || block.capacity > largest->capacity) largest = &block;
      } else if (best == nullptr || block.capacity < best->capacity) {
        best = &block;
      }
    }
    if (best == nullptr) {
      int64_t capacity = bounded ? max_rows_ * row_bytes : wanted;
      if (!bounded && largest != nullptr) capacity = std::max(wanted, largest->capacity * 3 / 2);
      capacity = (capacity + kPage - 1) / kPage * kPage;
      if (bounded || largest == nullptr) largest = &blocks_.emplace_back();
      *largest = {capacity, 0, false};
      best = largest;
    }
    best->taken = true;
    best->used = std::max(best->used, wanted);
    return static_cast<size_t>(best - blocks_.data());
  }
  void drop(size_t block) { blocks_[block].taken = false; }
  int64_t used() const {
    int64_t sum = 0;
    for (const Block& block : blocks_) sum += (block.used + kPage - 1) / kPage * kPage;
    return sum;
  }

 private:
  struct Block {
    int64_t capacity = 0, used = 0;
    bool taken = false;
  };
  const int64_t max_rows_;
  std::vector<Block> blocks_;
};

/// A step's tensors, in the order in which decoder.cc, mla.cc and feed_forward.cc take and leave
/// them.
class StepReplay {
 public:
  StepReplay(const WorkspaceShape& shape, PoolReplay* pool) : shape_(shape), pool_(*pool) {}

  void run(int64_t tokens, int64_t expanded_rows, int64_t absorbed_rows, int64_t logit_rows) {
    tokens_ = tokens;
    const size_t x = take(tokens, shape_.hidden);
    Delta delta;
    // Twice each: what a kind of layer takes first, and what it takes while others' blocks lie
    // free.
    for (int round = 0; round < 2; ++round) {
      if (shape_.dense_width > 0) layer(&delta, false, expanded_rows, absorbed_rows);
      if (shape_.experts > 0) layer(&delta, true, expanded_rows, absorbed_rows);
    }
    leave(&delta);
    const size_t wanted = take(logit_rows, shape_.hidden);
    const size_t normed = take(logit_rows, shape_.hidden);
    const size_t logits = pool_.take(logit_rows, shape_.vocab * kFloat);
    for (const size_t block : {x, wanted, normed, logits}) pool_.drop(block);
  }

 private:
  using Delta = std::vector<size_t>;  // what the residual stream takes in: one or two blocks

  size_t take(int64_t rows, int64_t numbers) { return pool_.take(rows, numbers * shape_.element); }
  void leave(Delta* blocks) {
    for (const size_t block : *blocks) pool_.drop(block);
    blocks->clear();
  }

  void layer(Delta* delta, bool routed, int64_t expanded_rows, int64_t absorbed_rows) {
    const size_t normed = take(tokens_, shape_.hidden);
    const size_t attended = attention(expanded_rows, absorbed_rows);
    const size_t again = take(tokens_, shape_.hidden);
    Delta made = routed ? experts() : Delta{swiglu(shape_.dense_width)};
    for (const size_t block : {again, attended, normed}) pool_.drop(block);
    leave(delta);
    *delta = std::move(made);
  }

  size_t attention(int64_t expanded_rows, int64_t absorbed_rows) {
    size_t q = take(tokens_, shape_.query_rank > 0 ? shape_.query_rank : shape_.query);
    const size_t kv_a = take(tokens_, shape_.entry);
    if (shape_.query_rank > 0) {
      const size_t normed = take(tokens_, shape_.query_rank);
      const size_t wide = take(tokens_, shape_.query);
      pool_.drop(normed);
      pool_.drop(std::exchange(q, wide));
    }
    const size_t entries = shape_.latent > 0 ? take(tokens_, shape_.entry) : kv_a;
    const size_t out = take(tokens_, shape_.attended);
    if (absorbed_rows > 0 && shape_.absorbed_query > 0) {
      const size_t q_latent = take(absorbed_rows, shape_.absorbed_query);
      const size_t o_latent = take(absorbed_rows, shape_.absorbed_out);
      pool_.drop(q_latent);
      pool_.drop(o_latent);
    }
    if (expanded_rows > 0 && shape_.expanded > 0) {
      const size_t latents = take(expanded_rows, shape_.latent);
      const size_t kv = take(expanded_rows, shape_.expanded);
      pool_.drop(latents);
      pool_.drop(kv);
    }
    const size_t y = take(tokens_, shape_.hidden);
    for (const size_t block : {q, kv_a, out}) pool_.drop(block);
    if (entries != kv_a) pool_.drop(entries);
    return y;
  }

  size_t swiglu(int64_t width) {
    const size_t gate_up = pool_.take(tokens_, 2 * width * kFloat);
    const size_t middle = take(tokens_, width);
    const size_t y = take(tokens_, shape_.hidden);
    pool_.drop(gate_up);
    pool_.drop(middle);
    return y;
  }

  Delta experts() {
    const size_t logits = pool_.take(tokens_, shape_.experts * kFloat);
    const size_t ids = pool_.take(tokens_, shape_.top_k * kFloat);
    const size_t weights = pool_.take(tokens_, shape_.top_k * kFloat);
    Delta made{take(tokens_, shape_.hidden)};
    if (shape_.shared_width > 0) made.push_back(swiglu(shape_.shared_width));
    for (const size_t block : {logits, ids, weights}) pool_.drop(block);
    return made;
  }

  const WorkspaceShape& shape_;
  PoolReplay& pool_;
  int64_t tokens_ = 0;
};

}  // namespace

int64_t WorkspaceShape::bytes(const StepSize& step) const {
  PoolReplay pool(step.tokens);
  StepReplay replay(*this, &pool);
  const int64_t sequences = std::min(step.sequences, step.tokens);
  const int64_t rows = std::max(step.context, std::min(kExpandedRows, sequences * step.context));
  replay.run(step.tokens, rows, 0, sequences);
  replay.run(sequences, 0, sequences, sequences);
  int64_t sum = pool.used();
  // The experts' own (kernels/moe): each choice's output in float32, and its activation in tiles.
  if (experts > 0) {
    const int64_t choices = step.tokens * top_k;
    const int64_t tiled = choices + std::min(choices, experts) * (kTileRows - 1);
    sum += choices * hidden * kFloat + tiled * expert_width * element;
  }
  return sum;
}

WorkspaceShape workspace_of(const Json& config, const ModelInfo& info) {
  const int64_t heads = integer(config, "num_attention_heads");
  const int64_t nope = integer(config, "qk_nope_head_dim"),
                rope = integer(config, "qk_rope_head_dim");
  const int64_t value = integer(config, "v_head_dim");
  WorkspaceShape shape;
  shape.element = dtype_bytes(info.dtype);
  shape.hidden = integer(config, "hidden_size");
  shape.wave_bytes = shape.element * shape.hidden;
  shape.vocab = info.vocab_size;
  shape.entry = info.kv_entry_elements;
  shape.latent = integer(config, "kv_lora_rank");
  shape.experts = info.num_moe_layers > 0 ? info.num_experts : 0;
  shape.top_k = info.num_experts_per_token;
  shape.expert_width = integer(config, "moe_intermediate_size");
  shape.shared_width = integer(config, "n_shared_experts") * shape.expert_width;
  if (info.num_moe_layers < info.num_layers)
    shape.dense_width = integer(config, "intermediate_size");
  if (shape.latent > 0) {
    shape.query_rank = integer(config, "q_lora_rank");
    shape.query = heads * (nope + rope);
    shape.attended = heads * value;
    shape.expanded = heads * (nope + value);
    shape.absorbed_query = heads * (shape.latent + rope);
    shape.absorbed_out = heads * shape.latent;
    return shape;
  }
  if (shape.expert_width == 0) shape.expert_width = integer(config, "intermediate_size");
  int64_t head = integer(config, "head_dim");
  if (head == 0 && heads > 0) head = shape.hidden / heads;
  shape.query = shape.attended = heads * head;
  return shape;
}

}  // namespace mole::model
