#!/usr/bin/env python3
"""vLLM without HTTP: decode at several batch sizes and prefill, medians of several runs, as JSON lines.

Decode is the difference of two generations that differ in their length only, so that prefill and what a call
costs drop out.
"""

import argparse
import json
import random
import statistics
import time

from vllm import LLM, SamplingParams


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--batches", type=integers, default=[1, 8, 32])
    parser.add_argument("--prompts", type=integers, default=[512])
    parser.add_argument("--tokens", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    llm = LLM(arguments.checkpoint, dtype="bfloat16", max_model_len=8192, enable_prefix_caching=False)
    vocab = 4096
    rng = random.Random(1)

    def seconds(batch: int, prompt: int, tokens: int) -> float:
        prompts = [{"prompt_token_ids": [rng.randrange(2, vocab) for _ in range(prompt)]} for _ in range(batch)]
        sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        begin = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - begin

    seconds(1, 32, 4)
    for batch in arguments.batches:
        steps = [(seconds(batch, 32, arguments.tokens) - seconds(batch, 32, 1)) / (arguments.tokens - 1)
                 for _ in range(arguments.repeats)]
        step = statistics.median(steps)
        print(json.dumps({"what": "decode", "batch": batch, "step_s": step, "tokens_per_s": batch / step}), flush=True)
    for prompt in arguments.prompts:
        took = statistics.median(seconds(1, prompt, 1) for _ in range(arguments.repeats))
        print(json.dumps({"what": "prefill", "tokens": prompt, "s": took, "tokens_per_s": prompt / took}), flush=True)


if __name__ == "__main__":
    main()
