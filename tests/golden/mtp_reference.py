"""DeepSeek-V3's multi-token-prediction module in PyTorch (arXiv 2412.19437, section 2.2).

transformers leaves the module out. Its layer is an ordinary one, so transformers can run it as one
more layer of the model; what stands around it is written here from the paper's formulas:

    state'[i] = norm(layer(eh_proj [enorm(embedding(t[i+1])) | hnorm(state[i])]))

with the model's own embedding and head. state[i] is the main model's after its final norm, or
state' itself when the module goes on from its own draft (what vLLM and SGLang feed it).
"""

import json
import pathlib
import tempfile

import safetensors.torch
import torch
import transformers

KEPT = ("enorm", "hnorm", "eh_proj", "shared_head.norm")


def tensors(stored, config, generator, normal_like):
    """The module's tensors under the names of published checkpoints; `stored` holds the model's."""
    last, prefix = (f"model.layers.{config['num_hidden_layers'] - i}." for i in (1, 0))
    hidden = config["hidden_size"]
    made = {prefix + name[len(last):]: normal_like(name, tensor.shape, generator)
            for name, tensor in sorted(stored.items()) if name.startswith(last)}
    for name in ("enorm", "hnorm", "shared_head.norm"):
        made[f"{prefix}{name}.weight"] = 1 + 0.2 * torch.randn(hidden, generator=generator)
    made[prefix + "eh_proj.weight"] = torch.randn(
        hidden, 2 * hidden, generator=generator) / hidden ** 0.5
    # As published: copies of the shared matrices, which nobody needs to read.
    made[prefix + "embed_tokens.weight"] = stored["model.embed_tokens.weight"].clone()
    made[prefix + "shared_head.head.weight"] = stored["lm_head.weight"].clone()
    return made


class Reference:
    """The model with the module's layer as its last, loaded from the golden's own files."""

    def __init__(self, folder, config, dtype=torch.float32):
        self.index = config["num_hidden_layers"]
        prefix = f"model.layers.{self.index}."
        stored = safetensors.torch.load_file(folder / "model.safetensors")
        self.own = {}
        for name in KEPT:
            self.own[name] = stored.pop(f"{prefix}{name}.weight").to(dtype)
        stored = {name: t for name, t in stored.items()
                  if not name.startswith((prefix + "embed_tokens", prefix + "shared_head"))}
        longer = config | {"num_hidden_layers": self.index + 1}
        with tempfile.TemporaryDirectory() as temporary:
            (pathlib.Path(temporary) / "config.json").write_text(json.dumps(longer))
            safetensors.torch.save_file(stored, f"{temporary}/model.safetensors",
                                        metadata={"format": "pt"})
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                temporary, dtype=dtype, attn_implementation="eager",
                experts_implementation="eager").eval()
        self.eps = config["rms_norm_eps"]

    def norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * weight

    def project(self, states, tokens):
        embedded = self.norm(self.model.model.embed_tokens(torch.tensor(tokens)), self.own["enorm"])
        joined = torch.cat([embedded, self.norm(states, self.own["hnorm"])], -1)
        return joined @ self.own["eh_proj"].T

    def run_layer(self, rows):
        """rows [T, D] at positions 0 … T-1 -> state' [T, D]."""
        x, count = rows.unsqueeze(0), rows.shape[0]
        mask = torch.full((count, count), float("-inf"), dtype=rows.dtype).triu(1)[None, None]
        positions = torch.arange(count).unsqueeze(0)
        out = self.model.model.layers[self.index](
            x, attention_mask=mask, position_ids=positions,
            position_embeddings=self.model.model.rotary_emb(x, positions))
        out = out[0] if isinstance(out, tuple) else out
        return self.norm(out[0], self.own["shared_head.norm"])

    def log_probs(self, states):
        return self.model.lm_head(states).float().log_softmax(-1)

    @torch.no_grad()
    def drafts(self, tokens, numbers):
        """The fields of one prompt of at least three tokens."""
        raw = self.model(input_ids=torch.tensor([tokens]), use_cache=False,
                         output_hidden_states=True).hidden_states[self.index][0]
        rows = self.project(self.model.model.norm(raw[:-1]), tokens[1:])
        states = self.run_layer(rows)
        first = self.log_probs(states)
        draft = int(first[-1].argmax())
        again = torch.cat([rows, self.project(states[-1:], [draft])])
        return {
            "logprobs": numbers(torch.stack([first[i, t] for i, t in enumerate(tokens[2:])])),
            "last_logprobs": numbers(first[-1]),
            "draft": draft,
            "second_logprobs": numbers(self.log_probs(self.run_layer(again))[-1]),
        }
