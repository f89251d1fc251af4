"""What transformers computes from a real checkpoint, in the fields of the goldens' expected.json.

    python3 expect_from.py CHECKPOINT_FOLDER OUTPUT.json

Loads the folder unchanged with from_pretrained() in float32, asserts that no tensor is missing or
unused, encodes three English prompts with its tokenizer.json through transformers, and writes
log-probabilities and greedy tokens. Margins are reported, not enforced: look at greedy_margin before
comparing greedy tokens.
"""

import json
import pathlib
import sys

import torch
import transformers

import make_goldens

PROMPTS = (
    "It",
    "It is a truth universally acknowledged, that a single man",
    "Call me Ishmael. Some years ago--never mind how long precisely--having little or no money in my "
    "purse, and nothing particular to interest me on shore, I thought I would sail about a little and "
    "see the watery part of the world. It is a way I have of driving off the spleen and regulating "
    "the circulation. Whenever I find myself growing grim about the mouth; whenever it is a damp, "
    "drizzly November in my soul; whenever I find myself involuntarily pausing before coffin "
    "warehouses, and bringing up the rear of every funeral I meet;",
)


def load_checked(folder):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager",
        experts_implementation="eager", output_loading_info=True)
    wrong = {key: list(value) for key, value in report.items() if value}
    if wrong:
        sys.exit(f"{folder}: transformers reports {wrong}")
    return model.eval()


def main(folder, output):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = load_checked(folder)
    margins = make_goldens.RoutingMargins(model, config)
    prompts, greedy_margin = [], float("inf")
    for text in PROMPTS:
        tokens = tokenizer.encode(text, add_special_tokens=False)
        prompt, margin = make_goldens.run_prompt(model, tokens)
        prompts.append({"text": text, **prompt,
                        "greedy_text": tokenizer.decode(prompt["greedy"])})
        greedy_margin = min(greedy_margin, margin)
    routing_margin = margins.smallest
    again = [make_goldens.run_prompt(model.double(), p["token_ids"])[0] for p in prompts]
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "greedy_margin": greedy_margin,
        "routing_margin": routing_margin,
        "float32_noise": make_goldens.largest_difference(prompts, again),
        "prompts": prompts,
    }
    make_goldens.write_json(pathlib.Path(output), expected)
    print({key: value for key, value in expected.items() if isinstance(value, float)})
    for prompt in prompts:
        print(repr(prompt["text"][-60:]), "->", repr(prompt["greedy_text"]))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
