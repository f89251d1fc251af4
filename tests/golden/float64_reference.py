"""DeepSeek-V3 in float64, with a mark wherever Mole rounds to bfloat16.

Each mark adds a zero that autograd may differentiate by, and remembers the spacing of bfloat16
numbers at the value. To first order the rounded model's output differs from the exact one's by
sum_i (d output / d mark_i) error_i, with errors spread evenly over +- half a spacing and independent
of each other: a standard deviation of sqrt(sum_i (d output / d mark_i)^2 spacing_i^2 / 12).
"""

import torch

FP8_BLOCK = 128
INNER_EPS = 1e-6  # of q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps is


def exact_weights(stored):
    """float64 values of the tensors of a checkpoint; FP8 codes times the scale of their block."""
    weights = {}
    for name, tensor in stored.items():
        if name.endswith("_scale_inv"):
            continue
        values = tensor.double()
        if tensor.dtype == torch.float8_e4m3fn:
            scales = stored[name + "_scale_inv"].double()
            wide = scales.repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)
            values = values * wide[: tensor.shape[0], : tensor.shape[1]]
        weights[name] = values
    return weights


class Reference:
    """One sequence at a time; tokens from `prompt` on in absorbed form."""

    def __init__(self, weights, config):
        assert config["rope_scaling"] is None and config["norm_topk_prob"]
        self.weights, self.config = weights, config
        self.marks = []  # (zero that was added, spacing)
        self.gaps = []  # of each routing decision, [rows]: the chosen ones' least lead

    def mark(self, x):
        _, exponent = torch.frexp(x.detach())  # |x| in [2^(exponent - 1), 2^exponent)
        spacing = torch.where(x == 0, 0.0, torch.exp2((exponent - 8).double()))
        zero = torch.zeros_like(x, requires_grad=True)
        self.marks.append((zero, spacing))
        return x + zero

    def norm(self, x, name, eps=None):
        eps = self.config["rms_norm_eps"] if eps is None else eps
        scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        return self.mark(scaled * self.weights[name + ".weight"])

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T

    def turn(self, x):
        """Rotates pairs (2i, 2i + 1) of the last dimension; rows are positions 0, 1, …"""
        size = x.shape[-1]
        powers = torch.arange(0, size, 2, dtype=torch.float64) / size
        angles = torch.outer(torch.arange(x.shape[0], dtype=torch.float64),
                             float(self.config["rope_theta"]) ** -powers)
        while angles.dim() < x.dim():
            angles = angles.unsqueeze(1)
        even, odd = x[..., ::2], x[..., 1::2]
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    def weigh(self, scores, values, formula):
        """softmax(scores [H, T, S]) times values; probabilities are rounded before the sum."""
        count = scores.shape[-1]
        future = torch.ones(count, count, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
        parts = self.mark((scores - scores.amax(-1, keepdim=True).detach()).exp())
        return self.mark(torch.einsum(formula, parts / parts.sum(-1, keepdim=True), values))

    def attention(self, x, prefix, prompt):
        config = self.config
        heads, nope = config["num_attention_heads"], config["qk_nope_head_dim"]
        rope, value = config["qk_rope_head_dim"], config["v_head_dim"]
        latent = config["kv_lora_rank"]
        low = self.norm(self.mark(self.linear(x, prefix + "q_a_proj")),
                        prefix + "q_a_layernorm", INNER_EPS)
        q = self.mark(self.linear(low, prefix + "q_b_proj")).view(-1, heads, nope + rope)
        q_plain, q_turned = q[..., :nope], self.mark(self.turn(q[..., nope:]))
        entry = self.mark(self.linear(x, prefix + "kv_a_proj_with_mqa"))
        latents = self.norm(entry[:, :latent], prefix + "kv_a_layernorm", INNER_EPS)
        k_turned = self.mark(self.turn(entry[:, latent:]))
        # Expanded to bfloat16 also where the file holds codes: both forms use the same numbers.
        up = self.mark(self.weights[prefix + "kv_b_proj.weight"]).view(heads, nope + value, latent)
        scale = (nope + rope) ** -0.5
        shared = torch.einsum("thr,sr->hts", q_turned, k_turned)
        kv = self.mark(torch.einsum("sc,hdc->shd", latents, up))
        expanded = self.weigh(
            scale * (torch.einsum("thn,shn->hts", q_plain, kv[..., :nope]) + shared),
            kv[..., nope:], "hts,shv->thv")
        q_latent = self.mark(torch.einsum("thn,hnc->thc", q_plain, up[:, :nope]))
        o_latent = self.weigh(scale * (torch.einsum("thc,sc->hts", q_latent, latents) + shared),
                              latents, "hts,sc->thc")
        absorbed = self.mark(torch.einsum("thc,hvc->thv", o_latent, up[:, nope:]))
        in_prompt = (torch.arange(x.shape[0]) < prompt)[:, None, None]
        out = torch.where(in_prompt, expanded, absorbed).flatten(1)
        return self.mark(self.linear(out, prefix + "o_proj"))

    def activation(self, x, prefix):
        gate = self.linear(x, prefix + "gate_proj")
        return self.mark(torch.nn.functional.silu(gate) * self.linear(x, prefix + "up_proj"))

    def note_gap(self, scores, chosen):
        best = scores.sort(dim=-1, descending=True).values
        self.gaps.append(best[:, chosen - 1] - best[:, chosen])

    def route(self, x, prefix):
        """Weights [T, E] of the experts, zero where not chosen (README.md, number 3)."""
        config = self.config
        scores = self.linear(x, prefix + "gate").sigmoid()
        choice = scores + self.weights[prefix + "gate.e_score_correction_bias"]
        groups = choice.view(choice.shape[0], config["n_group"], -1)
        best = groups.topk(2, -1).values.sum(-1)
        self.note_gap(best, config["topk_group"])
        kept = torch.zeros_like(best).scatter(1, best.topk(config["topk_group"]).indices, 1)
        choice = groups.masked_fill(kept.unsqueeze(-1) == 0, float("-inf")).flatten(1)
        self.note_gap(choice, config["num_experts_per_tok"])
        ids = choice.topk(config["num_experts_per_tok"]).indices
        weights = torch.zeros_like(scores).scatter(1, ids, scores.gather(1, ids))
        return weights / (weights.sum(-1, keepdim=True) + 1e-20) * config["routed_scaling_factor"]

    def feed_forward(self, x, prefix, layer):
        if layer < self.config["first_k_dense_replace"]:
            return self.mark(self.linear(self.activation(x, prefix), prefix + "down_proj"))
        weights, routed = self.route(x, prefix), 0
        for expert in range(self.config["n_routed_experts"]):
            name = f"{prefix}experts.{expert}."
            down = self.linear(self.activation(x, name), name + "down_proj")
            routed = routed + weights[:, expert:expert + 1] * down
        name = prefix + "shared_experts."
        shared = self.mark(self.linear(self.activation(x, name), name + "down_proj"))
        return self.mark(self.mark(routed) + shared)

    def log_probs(self, tokens, prompt):
        """[T, vocab]; marks and gaps are those of this call."""
        self.marks, self.gaps = [], []
        x = self.weights["model.embed_tokens.weight"][torch.tensor(tokens)]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = self.mark(x + self.attention(self.norm(x, prefix + "input_layernorm"),
                                             prefix + "self_attn.", prompt))
            x = self.mark(x + self.feed_forward(self.norm(x, prefix + "post_attention_layernorm"),
                                                prefix + "mlp.", layer))
        return self.linear(self.norm(x, "model.norm"), "lm_head").log_softmax(-1)

    def deviation(self, outputs):
        """Standard deviation of each of `outputs` [N] under the roundings of the marks."""
        zeros = [zero for zero, _ in self.marks]
        deviations = []
        for output in outputs:
            slopes = torch.autograd.grad(output, zeros, retain_graph=True, allow_unused=True)
            variance = sum(float((slope * spacing).square().sum()) / 12
                           for slope, (_, spacing) in zip(slopes, self.marks) if slope is not None)
            deviations.append(variance ** 0.5)
        return deviations
