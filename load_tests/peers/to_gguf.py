#!/usr/bin/env python3
"""A bench checkpoint (DeepSeek-V2 or V3 names, bfloat16 safetensors) as a GGUF file for llama.cpp.

Needs the packages gguf and numpy. Values are copied bit for bit: bfloat16 stays bfloat16, norms become
float32. Only what llama.cpp's "deepseek2" graph needs; the vocabulary is made of the ids themselves, because
measurements send token ids.
"""

import argparse
import functools
import json
import pathlib
import re
import struct
from collections.abc import Callable

import gguf
import numpy as np

BF16 = gguf.GGMLQuantizationType.BF16
LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


class Shards:
    """Tensors of all safetensors files of a folder, mapped."""

    def __init__(self, folder: pathlib.Path):
        self.views = {}
        for path in sorted(folder.glob("*.safetensors")):
            data = np.memmap(path, dtype=np.uint8, mode="r")
            (length,) = struct.unpack("<Q", bytes(data[:8]))
            header = json.loads(bytes(data[8 : 8 + length]))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                kind = {"BF16": np.uint16, "F32": np.float32}[entry["dtype"]]
                self.views[name] = data[begin:end].view(kind).reshape(entry["shape"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.views[name]

    def names(self) -> list[str]:
        return list(self.views)


def to_float32(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float32:
        return np.array(array)
    return (array.astype(np.uint32) << 16).view(np.float32)


class Tensors:
    """What the file will hold: announced first, then read and written one by one, so that little lies in memory."""

    def __init__(self, writer: gguf.GGUFWriter):
        self.writer = writer
        self.makers = []

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype, make: Callable[[], np.ndarray]) -> None:
        """Vectors and what the router reads as float32, matrices as they are."""
        elements = int(np.prod(shape))
        if len(shape) == 1 or dtype == np.float32 or name.endswith("ffn_gate_inp.weight"):
            self.writer.add_tensor_info(name, shape, np.dtype(np.float32), elements * 4)
            self.makers.append(lambda: to_float32(make()))
        else:
            # Of raw types the last dimension is counted in bytes.
            in_bytes = (*shape[:-1], shape[-1] * 2)
            self.writer.add_tensor_info(name, in_bytes, np.dtype(np.uint8), elements * 2, raw_dtype=BF16)
            self.makers.append(lambda: np.ascontiguousarray(make()).view(np.uint8))

    def add_array(self, name: str, array: np.ndarray) -> None:
        self.add(name, array.shape, array.dtype, lambda: array)

    def write(self) -> None:
        for make in self.makers:
            self.writer.write_tensor_data(make())


def add_layer(tensors: Tensors, shards: Shards, config: dict, layer: int) -> None:
    prefix, out = f"model.layers.{layer}.", f"blk.{layer}."
    for ours, theirs in LAYER_NAMES.items():
        if prefix + ours in shards.views:
            tensors.add_array(out + theirs, shards[prefix + ours])
    heads, nope, value = (config[key] for key in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim"))
    kv_b = shards[prefix + "self_attn.kv_b_proj.weight"].reshape(heads, nope + value, -1)
    tensors.add_array(out + "attn_k_b.weight", kv_b[:, :nope].transpose(0, 2, 1))
    tensors.add_array(out + "attn_v_b.weight", kv_b[:, nope:])
    if prefix + "mlp.gate.weight" not in shards.views:
        return
    for kind in ("gate", "up", "down"):
        experts = [shards[f"{prefix}mlp.experts.{e}.{kind}_proj.weight"] for e in range(config["n_routed_experts"])]
        shape = (len(experts), *experts[0].shape)
        tensors.add(f"{out}ffn_{kind}_exps.weight", shape, experts[0].dtype, functools.partial(np.stack, experts))


def add_parameters(writer: gguf.GGUFWriter, config: dict) -> None:
    latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_rope_dimension_count(rope)
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_weights_scale(float(config["routed_scaling_factor"]))
    writer.add_expert_weights_norm(bool(config["norm_topk_prob"]))
    sigmoid = config["scoring_func"] == "sigmoid"
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if sigmoid else gguf.ExpertGatingFuncType.SOFTMAX)
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_vocab_size(config["vocab_size"])
    if config.get("q_lora_rank"):
        writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_kv_lora_rank(latent)
    writer.add_key_length(latent + rope)
    writer.add_value_length(latent)
    writer.add_key_length_mla(config["qk_nope_head_dim"] + rope)
    writer.add_value_length_mla(config["v_head_dim"])
    if config.get("rope_scaling"):
        scaling = config["rope_scaling"]
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(scaling["factor"]))
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])


def add_vocabulary(writer: gguf.GGUFWriter, config: dict) -> None:
    size = config["vocab_size"]
    tokens = [f"<{i}>" for i in range(size)]
    tokens[:256] = [f"<0x{i:02X}>" for i in range(256)]
    kinds = [gguf.TokenType.NORMAL] * size
    kinds[:256] = [gguf.TokenType.BYTE] * 256
    for key in ("bos_token_id", "eos_token_id"):
        tokens[config[key]], kinds[config[key]] = f"<|{key}|>", gguf.TokenType.CONTROL
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    config = json.loads((arguments.checkpoint / "config.json").read_text())
    shards = Shards(arguments.checkpoint)
    writer = gguf.GGUFWriter(arguments.output, "deepseek2")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    add_parameters(writer, config)
    add_vocabulary(writer, config)
    tensors = Tensors(writer)
    for ours, theirs in TOP_NAMES.items():
        tensors.add_array(theirs, shards[ours])
    for layer in range(config["num_hidden_layers"]):
        add_layer(tensors, shards, config, layer)
    known = re.compile(r"model\.layers\.\d+\.(mlp\.experts\.|self_attn\.kv_b_proj\.)|^(%s)$" % "|".join(
        map(re.escape, TOP_NAMES)))
    left = [name for name in shards.names() if not known.search(name)
            and name.split(".", 3)[-1] not in LAYER_NAMES]
    if left:
        raise SystemExit(f"{arguments.checkpoint}: no place for {', '.join(left[:10])}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    tensors.write()
    writer.close()


if __name__ == "__main__":
    main()
