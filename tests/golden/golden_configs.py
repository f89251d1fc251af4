"""The configurations of the goldens, in the keys of the published config.json files."""


def deepseek(model_type, **changes):
    """A published-style DeepSeek config of toy size; `changes` override, None included."""
    v3 = model_type == "deepseek_v3"
    config = {
        "architectures": ["DeepseekV3ForCausalLM" if v3 else "DeepseekV2ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "aux_loss_alpha": 0.001,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "ep_size": 1,
        "first_k_dense_replace": 1,
        "hidden_act": "silu",
        "hidden_size": 28,
        "initializer_range": 0.02,
        "intermediate_size": 24,
        "kv_lora_rank": 24,
        "max_position_embeddings": 640,
        "model_type": model_type,
        "moe_intermediate_size": 8,
        "moe_layer_freq": 1,
        "n_group": 1,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "norm_topk_prob": v3,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 10000,
        "routed_scaling_factor": 1.0,
        "scoring_func": "sigmoid" if v3 else "softmax",
        "seq_aux": True,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "topk_method": "noaux_tc" if v3 else "greedy",
        "torch_dtype": "float32",
        "transformers_version": "4.33.1",
        "use_cache": True,
        "v_head_dim": 12,
        "vocab_size": 79,
    }
    if v3:
        config["num_nextn_predict_layers"] = 0
    config.update(changes)
    config["num_key_value_heads"] = config["num_attention_heads"]
    return config


def mixtral(**changes):
    config = {
        "architectures": ["MixtralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 16,
        "max_position_embeddings": 512,
        "model_type": "mixtral",
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 6,
        "output_router_logits": False,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.36.0",
        "use_cache": True,
        "vocab_size": 83,
    }
    config.update(changes)
    return config


def yarn(factor, original, mscale=None, mscale_all_dim=None, beta_fast=32, beta_slow=1):
    scaling = {
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "factor": factor,
        "original_max_position_embeddings": original,
        "type": "yarn",
    }
    if mscale is not None:
        scaling["mscale"] = mscale
    if mscale_all_dim is not None:
        scaling["mscale_all_dim"] = mscale_all_dim
    return scaling


V2, V3 = "deepseek_v2", "deepseek_v3"

# Name of the folder -> config.json. What each is for stands in README.md.
CONFIGS = {
    "deepseek_v2_greedy": deepseek(V2, n_shared_experts=2, vocab_size=131),
    "deepseek_v2_group_yarn": deepseek(
        V2, q_lora_rank=20, topk_method="group_limited_greedy", n_group=4, topk_group=2,
        num_experts_per_tok=3, routed_scaling_factor=2.5, first_k_dense_replace=0,
        rope_scaling=yarn(40, 16, 0.707, 0.707)),
    "deepseek_v2_yarn_factor": deepseek(
        V2, num_hidden_layers=3, first_k_dense_replace=2, rope_theta=500000,
        tie_word_embeddings=True, qk_rope_head_dim=16, rope_scaling=yarn(4, 64, 1.0, 0.5, 8, 1)),
    "deepseek_v2_no_shared": deepseek(
        V2, n_shared_experts=0, num_attention_heads=3, hidden_size=36, rope_theta=1000,
        num_experts_per_tok=4, n_routed_experts=6, routed_scaling_factor=1.7, vocab_size=97),
    "deepseek_v3_group_yarn": deepseek(
        V3, q_lora_rank=24, n_group=4, topk_group=2, num_experts_per_tok=3,
        routed_scaling_factor=2.5, rope_scaling=yarn(40, 16, 1.0, 1.0)),
    "deepseek_v3_no_q_lora": deepseek(
        V3, hidden_size=42, num_attention_heads=5, n_shared_experts=2, norm_topk_prob=False,
        routed_scaling_factor=1.5, first_k_dense_replace=0, n_routed_experts=5, v_head_dim=10,
        qk_nope_head_dim=4, moe_intermediate_size=7, vocab_size=67, kv_lora_rank=17),
    "deepseek_v3_tied_top1": deepseek(
        V3, num_hidden_layers=3, first_k_dense_replace=2, tie_word_embeddings=True,
        num_experts_per_tok=1, rope_theta=50000, routed_scaling_factor=1.25, q_lora_rank=16),
    "deepseek_v3_yarn_factor": deepseek(
        V3, q_lora_rank=24, norm_topk_prob=False, rope_scaling=yarn(10, 32, 0.707, 1.0),
        qk_rope_head_dim=16, n_group=2, topk_group=2),
    "deepseek_v3_yarn_plain": deepseek(
        V3, first_k_dense_replace=0, rope_scaling=yarn(4, 32), qk_rope_head_dim=16),
    "deepseek_v3_no_shared": deepseek(
        V3, n_shared_experts=0, n_group=2, topk_group=1, routed_scaling_factor=2.0,
        qk_nope_head_dim=16, v_head_dim=8, rms_norm_eps=1e-5),
    "deepseek_v3_all_experts": deepseek(
        V3, n_routed_experts=4, num_experts_per_tok=4, n_group=2, topk_group=2, vocab_size=160,
        q_lora_rank=12, routed_scaling_factor=0.5),
    # config.json is written by transformers itself: rope_parameters, dtype, its own set of keys.
    "deepseek_v3_new_keys": deepseek(
        V3, q_lora_rank=16, routed_scaling_factor=2.5, rope_theta=30000,
        rope_scaling=yarn(8, 32, 1.0, 1.0)),
    # The file also holds a multi-token-prediction layer, which a plain decoder skips.
    "deepseek_v3_mtp": deepseek(V3, num_nextn_predict_layers=1, n_group=4, topk_group=3),
    "deepseek_v3_bf16": deepseek(
        V3, q_lora_rank=24, n_group=4, topk_group=2, routed_scaling_factor=2.5,
        torch_dtype="bfloat16", num_experts_per_tok=3),
    "deepseek_v3_fp8": deepseek(
        V3, hidden_size=136, intermediate_size=130, n_routed_experts=4, vocab_size=48,
        q_lora_rank=32, n_group=2, topk_group=1, torch_dtype="bfloat16",
        quantization_config={"activation_scheme": "dynamic", "fmt": "e4m3",
                             "quant_method": "fp8", "weight_block_size": [128, 128]}),
    "mixtral_gqa": mixtral(),
    "mixtral_mqa_head_dim": mixtral(
        num_key_value_heads=1, head_dim=20, rope_theta=10000.0, num_local_experts=4),
    "mixtral_mha_tied": mixtral(
        num_key_value_heads=4, tie_word_embeddings=True, num_experts_per_tok=3,
        num_local_experts=5, hidden_size=40, vocab_size=89, rms_norm_eps=1e-6),
    "mixtral_top1": mixtral(num_experts_per_tok=1, num_local_experts=3, num_attention_heads=6,
                            hidden_size=48, num_key_value_heads=2, vocab_size=67),
}

TRAIN_CONFIGS = {
    "train_deepseek_v3": deepseek(
        V3, hidden_size=24, intermediate_size=40, q_lora_rank=16, kv_lora_rank=20, n_group=2,
        topk_group=1, n_routed_experts=6, routed_scaling_factor=2.5, num_attention_heads=3,
        vocab_size=61, rope_scaling=yarn(40, 16, 1.0, 1.0)),
}

# Held against float64 (make_float64.py): several blocks of 128 each way, a layer behind a MoE layer.
FLOAT64_CONFIGS = {
    "float64_fp8": deepseek(
        V3, hidden_size=144, intermediate_size=136, n_routed_experts=6, vocab_size=48,
        q_lora_rank=40, kv_lora_rank=40, n_group=3, topk_group=2, num_experts_per_tok=3,
        num_hidden_layers=3, moe_intermediate_size=32, routed_scaling_factor=1.5,
        torch_dtype="bfloat16", quantization_config=CONFIGS["deepseek_v3_fp8"]["quantization_config"]),
    "float64_bf16": deepseek(
        V3, hidden_size=40, n_routed_experts=6, vocab_size=48, q_lora_rank=24, n_group=3,
        topk_group=2, num_experts_per_tok=3, num_hidden_layers=3, routed_scaling_factor=1.5,
        torch_dtype="bfloat16"),
}
