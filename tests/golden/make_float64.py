"""Makes the goldens that are held against float64: what a bfloat16 run may differ by follows from
the roundings it makes, not from what was seen (float64_reference.py).

    /tmp/golden/bin/python make_float64.py [NAME …]

Each: config.json, model.safetensors, float64.json (README.md describes the fields). The reference is
itself held against transformers' float64 run of the same files.
"""

import sys

import safetensors.torch
import torch
import transformers

import golden_configs
import make_goldens
from float64_reference import Reference, exact_weights

TOKENS, PROMPT = 150, 90  # three pages; the last sixty tokens as if generated
GAP_MIN = 0.1             # of routing scores; tokens that would come nearer to a tie are not taken
GAP_DEVIATIONS_MIN = 5    # so that no run which rounds as assumed can route otherwise
# transformers keeps norms, rope, router and the decoded weights in float32.
TRANSFORMERS_BOUND = 1e-4


def draw_tokens(reference, vocab, generator):
    tokens = []
    while len(tokens) < TOKENS:
        tokens.append(int(torch.randint(vocab, (1,), generator=generator)))
        with torch.no_grad():
            reference.log_probs(tokens, PROMPT)
        if min(float(gaps[-1]) for gaps in reference.gaps) < GAP_MIN:
            tokens.pop()
    return tokens


def numbers(values):
    return [float(f"{value:.12g}") for value in torch.as_tensor(values).tolist()]


def make(name, config):
    folder = make_goldens.FOLDER / name
    generator = make_goldens.store(folder, config, 1)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    reference = Reference(exact_weights(stored), config)
    tokens = draw_tokens(reference, config["vocab_size"], generator)
    rows = reference.log_probs(tokens, PROMPT)
    other = make_goldens.load_stored(folder, config, torch.float64)
    with torch.no_grad():
        theirs = other(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)
    difference = float((theirs - rows).abs().max().detach())
    assert difference < TRANSFORMERS_BOUND, difference
    inner = torch.stack([rows[i, token] for i, token in enumerate(tokens[1:])])
    leads = [min(float(gap.detach()) / max(deviation, 1e-30)
                 for gap, deviation in zip(gaps, reference.deviation(gaps)))
             for gaps in reference.gaps]
    assert min(leads) > GAP_DEVIATIONS_MIN, leads
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "token_ids": tokens,
        "prompt": PROMPT,
        "logprobs": numbers(inner),
        "deviations": numbers(reference.deviation(inner)),
        "last_logprobs": numbers(rows[-1]),
        "last_deviations": numbers(reference.deviation(rows[-1])),
        "routing_lead": min(leads),
        "transformers_difference": difference,
    }
    make_goldens.write_json(folder / "float64.json", expected)
    mean = sum(expected["deviations"]) / len(expected["deviations"])
    print(f"{name}: mean deviation {mean:.3g}, least routing lead {min(leads):.3g} deviations, "
          f"transformers differs by {difference:.2g}", flush=True)


def main(names):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, config in golden_configs.FLOAT64_CONFIGS.items():
        if not names or name in names:
            make(name, config)


if __name__ == "__main__":
    main(sys.argv[1:])
