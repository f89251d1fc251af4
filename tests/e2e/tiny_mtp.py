"""A DeepSeek-V3 checkpoint of toy size with a multi-token-prediction module whose drafts are often right: layers add
little to the embedding, so that the next token follows from the last one, in the model as in its module."""

import array
import json
import os
import random
import shutil
import struct

HIDDEN, LAYERS, HEADS, NOPE, ROPE, VALUE, LATENT = 64, 2, 4, 16, 8, 16, 32
WIDTH, EXPERT_WIDTH, EXPERTS = 96, 32, 4
LITTLE = 0.02  # of what a layer adds, beside an embedding's 1


def config(vocab: int) -> dict:
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
        "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_nextn_predict_layers": 1,
        "intermediate_size": WIDTH, "moe_intermediate_size": EXPERT_WIDTH, "n_routed_experts": EXPERTS,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 1.0, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "q_lora_rank": None,
        "kv_lora_rank": LATENT, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None, "tie_word_embeddings": False,
        "hidden_act": "silu", "attention_bias": False, "max_position_embeddings": 1024, "bos_token_id": 0,
        "eos_token_id": 1,
    }


def bfloat16(values: list[float]) -> bytes:
    """Cut off, not rounded: any number will do."""
    return array.array("H", (bits >> 16 for bits in array.array("I", struct.pack(f"<{len(values)}f", *values)))).tobytes()


class Writer:
    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.header: dict[str, dict] = {}
        self.data = bytearray()

    def add(self, name: str, dtype: str, shape: list[int], data: bytes) -> None:
        begin = len(self.data)
        self.data += data
        self.header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(self.data)]}

    def normal(self, name: str, rows: int, columns: int, deviation: float) -> None:
        values = [self.draw.gauss(0, deviation) for _ in range(rows * columns)]
        self.add(name, "BF16", [rows, columns], bfloat16(values))

    def ones(self, name: str, count: int) -> None:
        self.add(name, "BF16", [count], bfloat16([1.0] * count))

    def feed_forward(self, prefix: str, width: int) -> None:
        self.normal(prefix + "gate_proj.weight", width, HIDDEN, HIDDEN ** -0.5)
        self.normal(prefix + "up_proj.weight", width, HIDDEN, HIDDEN ** -0.5)
        self.normal(prefix + "down_proj.weight", HIDDEN, width, LITTLE)

    def layer(self, index: int) -> None:
        prefix = f"model.layers.{index}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            self.ones(f"{prefix}{name}.weight", HIDDEN)
        attention = prefix + "self_attn."
        self.normal(attention + "q_proj.weight", HEADS * (NOPE + ROPE), HIDDEN, HIDDEN ** -0.5)
        self.normal(attention + "kv_a_proj_with_mqa.weight", LATENT + ROPE, HIDDEN, HIDDEN ** -0.5)
        self.ones(attention + "kv_a_layernorm.weight", LATENT)
        self.normal(attention + "kv_b_proj.weight", HEADS * (NOPE + VALUE), LATENT, LATENT ** -0.5)
        self.normal(attention + "o_proj.weight", HIDDEN, HEADS * VALUE, LITTLE)
        if index == 0:
            self.feed_forward(prefix + "mlp.", WIDTH)
            return
        self.normal(prefix + "mlp.gate.weight", EXPERTS, HIDDEN, HIDDEN ** -0.5)
        self.add(prefix + "mlp.gate.e_score_correction_bias", "F32", [EXPERTS], struct.pack(f"<{EXPERTS}f", *[0.0] * EXPERTS))
        for expert in range(EXPERTS):
            self.feed_forward(f"{prefix}mlp.experts.{expert}.", EXPERT_WIDTH)
        self.feed_forward(prefix + "mlp.shared_experts.", EXPERT_WIDTH)

    def module(self) -> None:
        self.layer(LAYERS)
        prefix = f"model.layers.{LAYERS}."
        for name in ("enorm", "hnorm", "shared_head.norm"):
            self.ones(f"{prefix}{name}.weight", HIDDEN)
        # Takes the token after the state's, and nearly nothing of the state.
        values = [float(column == row) + (self.draw.gauss(0, LITTLE) if column >= HIDDEN else 0.0)
                  for row in range(HIDDEN) for column in range(2 * HIDDEN)]
        self.add(prefix + "eh_proj.weight", "BF16", [HIDDEN, 2 * HIDDEN], bfloat16(values))

    def write(self, path: str) -> None:
        header = json.dumps(self.header).encode()
        header += b" " * (-len(header) % 8)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header + self.data)


def write(folder: str, tokenizer_from: str, seed: int) -> None:
    """Into `folder`, which is empty; the tokenizer's files are copied from the model directory `tokenizer_from`."""
    with open(os.path.join(tokenizer_from, "config.json"), encoding="utf-8") as file:
        vocab = json.load(file)["vocab_size"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(tokenizer_from, name), folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config(vocab), file)
    writer = Writer(seed)
    writer.normal("model.embed_tokens.weight", vocab, HIDDEN, 1.0)
    writer.normal("lm_head.weight", vocab, HIDDEN, 0.5)
    writer.ones("model.norm.weight", HIDDEN)
    for index in range(LAYERS):
        writer.layer(index)
    writer.module()
    writer.write(os.path.join(folder, "model.safetensors"))
