"""Makes the goldens of this folder with Hugging Face transformers.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r requirements.txt
    /tmp/golden/bin/python make_goldens.py [NAME …]

Each golden: config.json, model.safetensors, expected.json (README.md describes the fields). The
expected values come from a model that from_pretrained() loaded from the very files stored, so that
transformers' reading of config.json and of the tensors' names is part of the golden.
"""

import json
import pathlib
import sys
import tempfile

import safetensors.torch
import torch
import transformers

import golden_configs
import mtp_reference

FOLDER = pathlib.Path(__file__).parent
PROMPT_LENGTHS = (1, 7, 90)  # the last goes beyond one page of 64 tokens
GREEDY_TOKENS = 16
ROUTING_MARGIN_MIN = 2e-4  # float32 noise of a routing score is below 1e-6
GREEDY_MARGIN_MIN = 5e-3  # between the two best log-probabilities
FP8_MAX = 448.0  # largest finite E4M3FN


def randomise(model, generator):
    """Weights large enough that attention, routing and experts all move the output."""
    def normal(shape, std):
        return torch.randn(shape, generator=generator) * std

    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name in sorted(tensors):
            tensor = tensors[name]
            if name.endswith("e_score_correction_bias"):
                tensor.copy_(normal(tensor.shape, 0.25))
            elif "inv_freq" in name:
                continue
            elif tensor.dim() == 1:  # the norms
                tensor.copy_(1 + normal(tensor.shape, 0.2))
            elif "embed_tokens" in name:
                tied = model.config.tie_word_embeddings  # then it is the output matrix too
                tensor.copy_(normal(tensor.shape, 0.3 if tied else 1.0))
            elif name.endswith("gate.weight"):
                tensor.copy_(normal(tensor.shape, 2.0 / tensor.shape[-1] ** 0.5))
            else:
                tensor.copy_(normal(tensor.shape, 1.4 / max(1, tensor.shape[-1]) ** 0.5))


def published_tensors(model):
    """The state dict under the names of published checkpoints, by transformers' own conversion."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = safetensors.torch.load_file(f"{folder}/model.safetensors")
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    tensors = {name: t for name, t in tensors.items() if t.numel() > 0}  # n_shared_experts = 0
    fused = [name for name in tensors if "gate_up_proj" in name]
    assert not fused, f"transformers kept fused names: {fused}"
    return tensors, config


def to_fp8(tensors):
    """Linear weights as E4M3 with one float32 scale a 128x128 block, as DeepSeek publishes them."""
    stored = {}
    for name, tensor in tensors.items():
        linear = ".self_attn." in name or ".mlp." in name
        kept = "norm" in name or ".gate." in name or tensor.dim() != 2
        if not linear or kept:
            keep32 = name.endswith("e_score_correction_bias")
            stored[name] = tensor.float() if keep32 else tensor.to(torch.bfloat16)
            continue
        rows, columns = tensor.shape
        scales = torch.zeros((rows + 127) // 128, (columns + 127) // 128)
        values = torch.empty_like(tensor, dtype=torch.float8_e4m3fn)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                block = slice(i * 128, i * 128 + 128), slice(j * 128, j * 128 + 128)
                scales[i, j] = tensor[block].abs().max() / FP8_MAX
                values[block] = (tensor[block] / scales[i, j]).to(torch.float8_e4m3fn)
        stored[name] = values
        stored[name + "_scale_inv"] = scales
    return stored


def from_fp8(stored):
    tensors = {}
    for name, tensor in stored.items():
        if name.endswith("_scale_inv"):
            continue
        if tensor.dtype == torch.float8_e4m3fn:
            scales = stored[name + "_scale_inv"]
            wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
            tensor = tensor.float() * wide[: tensor.shape[0], : tensor.shape[1]]
        tensors[name] = tensor.float().contiguous()
    return tensors


def normal_like(name, shape, generator):
    """A tensor for the name, distributed as randomise() does it."""
    values = torch.randn(shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        return values * 0.25
    if len(shape) == 1:
        return 1 + values * 0.2
    return values * (2.0 if name.endswith("gate.weight") else 1.4) / shape[-1] ** 0.5


class RoutingMargins:
    """Smallest gap between a chosen and a rejected expert or group, over every token that ran."""

    def __init__(self, model, config):
        self.config, self.smallest = config, float("inf")
        for name, module in model.named_modules():
            if name.endswith("mlp.gate"):
                module.register_forward_hook(self.observe)

    def note_gap(self, scores, chosen):
        if chosen < scores.shape[-1]:
            best = scores.sort(dim=-1, descending=True).values
            gap = (best[..., chosen - 1] - best[..., chosen]).min()
            self.smallest = min(self.smallest, float(gap.detach()))

    def observe(self, module, _, output):
        logits = output[0].float()
        config = self.config
        method = config.get("topk_method", "greedy")
        scores = logits.softmax(-1)
        if method == "noaux_tc":
            scores = logits.sigmoid() + module.e_score_correction_bias
        if method != "greedy":
            groups = scores.view(scores.shape[0], config["n_group"], -1)
            best = groups.topk(2, -1).values.sum(-1) if method == "noaux_tc" else groups.amax(-1)
            self.note_gap(best, config["topk_group"])
            kept = torch.zeros_like(best).scatter(1, best.topk(config["topk_group"]).indices, 1)
            scores = groups.masked_fill(kept.unsqueeze(-1) == 0, -9.0).flatten(1)
        self.note_gap(scores, config["num_experts_per_tok"])


def load(folder, dtype=torch.float32):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager")
    return model.eval()


def log_probs(model, tokens):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits.float().log_softmax(-1)


def numbers(tensor):
    """Nine significant digits carry a float32 exactly."""
    return [float(f"{value:.9g}") for value in tensor.tolist()]


def run_prompt(model, tokens):
    """The fields of one prompt, and the smallest gap between best and second on the greedy way."""
    rows = log_probs(model, tokens)
    inner = [rows[i, token] for i, token in enumerate(tokens[1:])]
    result = {
        "token_ids": tokens,
        "logprobs": [None] + (numbers(torch.stack(inner)) if inner else []),
        "last_logprobs": numbers(rows[-1]),
        "greedy": [],
    }
    margin = float("inf")
    for _ in range(GREEDY_TOKENS):
        last = log_probs(model, tokens + result["greedy"])[-1]
        best = last.topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        result["greedy"].append(int(best.indices[0]))
    return result, margin


def largest_difference(a, b):
    """Over log-probabilities of prompt tokens and of the last position."""
    worst = 0.0
    for left, right in zip(a, b):
        for key in ("logprobs", "last_logprobs"):
            pairs = [(x, y) for x, y in zip(left[key], right[key]) if x is not None]
            worst = max([worst] + [abs(x - y) for x, y in pairs])
    return worst


def write_json(path, value):
    """Indented, but lists of numbers in one line each."""
    text = json.dumps(value, indent=1, sort_keys=True)
    lines, inside = [], False
    for line in text.split("\n"):
        bare = line.strip()
        if inside:
            lines[-1] += bare if bare.startswith("]") else bare + " " * bare.endswith(",")
            inside = not bare.startswith("]")
        else:
            lines.append(line)
            inside = bare.endswith("[") and '"' in bare and not bare.startswith('"prompts"')
    path.write_text("\n".join(lines) + "\n")


def store(folder, config, seed):
    """Writes config.json and model.safetensors; returns the generator for what follows."""
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    with tempfile.TemporaryDirectory() as temporary:
        (pathlib.Path(temporary) / "config.json").write_text(json.dumps(plain))
        parsed = transformers.AutoConfig.from_pretrained(temporary)
    parsed.dtype = torch.float32
    model = transformers.AutoModelForCausalLM.from_config(parsed).float()
    randomise(model, generator)
    tensors, saved_config = published_tensors(model)
    if config.get("quantization_config"):
        tensors = to_fp8(tensors)
    elif config["torch_dtype"] == "bfloat16":
        tensors = {name: t if name.endswith("correction_bias") else t.to(torch.bfloat16)
                   for name, t in tensors.items()}
    if config.get("num_nextn_predict_layers"):
        tensors |= mtp_reference.tensors(tensors, config, generator, normal_like)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json",
               saved_config if folder.name.endswith("new_keys") else config)
    return generator


def load_stored(folder, config, dtype=torch.float32):
    if not config.get("quantization_config"):
        return load(folder, dtype)
    with tempfile.TemporaryDirectory() as temporary:  # transformers runs FP8 on GPUs only
        plain = {key: value for key, value in config.items() if key != "quantization_config"}
        (pathlib.Path(temporary) / "config.json").write_text(json.dumps(plain))
        stored = safetensors.torch.load_file(folder / "model.safetensors")
        safetensors.torch.save_file(from_fp8(stored), f"{temporary}/model.safetensors",
                                    metadata={"format": "pt"})
        return load(temporary, dtype)


def make(name, config, seed):
    """Returns expected.json's contents, or None when a choice is too close to a tie."""
    folder = FOLDER / name
    generator = store(folder, config, seed)
    model = load_stored(folder, config)
    margins = RoutingMargins(model, config)
    prompts, greedy_margin = [], float("inf")
    for length in PROMPT_LENGTHS:
        tokens = torch.randint(config["vocab_size"], (length,), generator=generator).tolist()
        prompt, margin = run_prompt(model, tokens)
        prompts.append(prompt)
        greedy_margin = min(greedy_margin, margin)
        if margins.smallest < ROUTING_MARGIN_MIN or greedy_margin < GREEDY_MARGIN_MIN:
            return None
    if config.get("num_nextn_predict_layers"):
        reference = mtp_reference.Reference(folder, config)
        module_margins = RoutingMargins(reference.model, config)
        for prompt in prompts:
            if len(prompt["token_ids"]) > 2:
                prompt["mtp"] = reference.drafts(prompt["token_ids"], numbers)
        if module_margins.smallest < ROUTING_MARGIN_MIN:
            return None
    again = [run_prompt(model.double(), prompt["token_ids"])[0] for prompt in prompts]
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__,
                      "seed": seed},
        "greedy_margin": greedy_margin,
        "routing_margin": margins.smallest if margins.smallest < 1e9 else None,
        "float32_noise": largest_difference(prompts, again),
        "prompts": prompts,
    }
    if config["torch_dtype"] == "bfloat16" and not config.get("quantization_config"):
        bf16 = load(folder, torch.bfloat16)
        rounded = [run_prompt(bf16, prompt["token_ids"])[0] for prompt in prompts]
        expected["bfloat16_noise"] = largest_difference(prompts, rounded)
    write_json(folder / "expected.json", expected)
    return expected


def split_experts(name, gradient):
    """Gradients of transformers' fused expert tensors under the published names."""
    prefix, leaf = name.rsplit(".", 1)
    for index, part in enumerate(gradient):
        if leaf == "gate_up_proj":
            gate, up = part.chunk(2)
            yield f"{prefix}.{index}.gate_proj.weight", gate.contiguous()
            yield f"{prefix}.{index}.up_proj.weight", up.contiguous()
        else:
            yield f"{prefix}.{index}.down_proj.weight", part.contiguous()


def make_training(name, config, seed):
    """Loss and gradients of one batch, by autograd; None when a routing choice is near a tie."""
    folder = FOLDER / name
    generator = store(folder, config, seed)
    model = load(folder).train()
    margins = RoutingMargins(model, config)
    batch = torch.randint(config["vocab_size"], (2, 20), generator=generator)
    logits = model(input_ids=batch, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, config["vocab_size"]), batch[:, 1:].reshape(-1))
    loss.backward()
    if margins.smallest < ROUTING_MARGIN_MIN:
        return None
    gradients = {}
    for key, parameter in model.named_parameters():
        if key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            gradients.update(split_experts(key, parameter.grad))
        else:
            gradients[key] = parameter.grad.contiguous()
    stored = set(safetensors.torch.load_file(folder / "model.safetensors"))
    untrained = {key for key in stored if key.endswith("e_score_correction_bias")}
    assert set(gradients) == stored - untrained, set(gradients) ^ stored
    safetensors.torch.save_file(gradients, folder / "gradients.safetensors",
                                metadata={"format": "pt"})
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__,
                      "seed": seed},
        "routing_margin": margins.smallest,
        "loss": float(f"{float(loss.detach()):.9g}"),
        "token_ids": batch.tolist(),
    }
    write_json(folder / "expected.json", expected)
    return expected


def main(names):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kinds = [(golden_configs.CONFIGS, make), (golden_configs.TRAIN_CONFIGS, make_training)]
    for configs, maker in kinds:
        for name, config in configs.items():
            if names and name not in names:
                continue
            for seed in range(200):
                expected = maker(name, config, seed)
                if expected is not None:
                    break
            else:
                sys.exit(f"{name}: no seed keeps away from ties")
            size = sum(path.stat().st_size for path in (FOLDER / name).iterdir())
            notes = {key: f"{value:.2g}" for key, value in expected.items()
                     if isinstance(value, float)}
            print(name, f"seed={seed} bytes={size}", notes, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
