"""Holds a model directory of ours against Hugging Face transformers.

    python tools/check_hf.py MODEL_DIR --trainer build/bin/trainer [--text FILE] [--tokens 2000]

Loads the directory in transformers unchanged (AutoModelForCausalLM, AutoTokenizer, float32) and
compares: token ids of the text, log-probabilities of each token in windows that begin with BOS
(`trainer eval --dtype float32`), the rendered chat template's type. Needs the packages of
tests/golden/requirements.txt. Exit code 0 if all agree.

Bound on log-probabilities: both sides compute in float32 with another order of sums. A sum of n terms
moves by about sqrt(n) * eps relative (rounding errors of random sign); L layers with residuals add
their parts, logits of size up to 20 turn relative into absolute: 20 * eps * sqrt(hidden) * layers
with eps = 2^-24 is about 1e-4 for the shipped model; a wrong formula is off by 1e-2 and more.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

LOGIT_SIZE = 20.0


def read_text(path, limit=20_000):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        text = "\n".join(json.loads(line)["text"] for line in text.splitlines()[:20])
    return text[:limit]


def our_windows(trainer, model_dir, text, tokens):
    """Targets and log-probabilities of each window, and the ids they stand for."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = pathlib.Path(folder, "text.txt"), pathlib.Path(folder, "log_probs.jsonl")
        source.write_text(text, encoding="utf-8")
        subprocess.run([trainer, "eval", "--model", model_dir, "--input", source, "--dtype",
                        "float32", "--window-tokens", "256", "--max-tokens", str(tokens),
                        "--log-probs", output], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def their_log_probs(model, bos, targets):
    ids = torch.tensor([[bos, *targets[:-1]]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    log_probs = torch.log_softmax(logits.double(), dim=-1)
    return log_probs[torch.arange(len(targets)), torch.tensor(targets)].tolist()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("--trainer", default="build/bin/trainer")
    arguments.add_argument("--text", type=pathlib.Path,
                           default=pathlib.Path(".cache/corpus/heldout.jsonl"))
    arguments.add_argument("--tokens", type=int, default=2000)
    given = arguments.parse_args()

    model = transformers.AutoModelForCausalLM.from_pretrained(
        given.model, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
    text = read_text(given.text)
    windows = our_windows(given.trainer, given.model, text, given.tokens)

    ours = [target for window in windows for target in window["targets"]]
    theirs = tokenizer.encode(text, add_special_tokens=False)[:len(ours)]
    if ours != theirs:
        sys.exit("token ids differ")
    with_bos = tokenizer.encode("a")
    if with_bos[0] != tokenizer.bos_token_id:
        sys.exit(f"transformers puts no BOS before a text: {with_bos}")

    config = model.config
    bound = LOGIT_SIZE * 2**-24 * config.hidden_size**0.5 * config.num_hidden_layers
    worst = 0.0
    for window in windows:
        log_probs = their_log_probs(model, tokenizer.bos_token_id, window["targets"])
        worst = max(worst, *(abs(a - b) for a, b in zip(window["log_probs"], log_probs)))
    print(json.dumps({"model": str(given.model), "architecture": type(model).__name__,
                      "transformers": transformers.__version__, "tokens": len(ours),
                      "max_log_prob_difference": worst, "bound": bound}))
    if worst > bound:
        sys.exit(f"log-probabilities differ by {worst:.2e}, bound {bound:.2e}")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False,
                                         add_generation_prompt=True)
    print(f"chat template: {chat!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
