#!/usr/bin/env python3
"""vLLM without HTTP: decode at several batch sizes and prefill, medians of several steps, as JSON lines.

The engine runs in this process, so that each call of its `step` is one forward and can be timed by itself. Each
sequence has a prompt of its own of --depth tokens, random ids below 4096, as the other drivers draw them.
"""

import argparse
import json
import os
import random
import statistics
import time

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from vllm import LLM, SamplingParams  # noqa: E402

VOCAB = 4096


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def report(row: dict) -> None:
    print(json.dumps(row), flush=True)


class Bench:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.rng = random.Random(1)
        self.sent = 0
        begin = time.perf_counter()
        self.engine = LLM(arguments.checkpoint, dtype="bfloat16", max_model_len=arguments.context,
                          max_num_batched_tokens=arguments.step_tokens, max_num_seqs=max(arguments.batches + [1]),
                          enable_prefix_caching=False, enforce_eager=arguments.eager).llm_engine
        report({"what": "ready", "s": time.perf_counter() - begin})

    def send(self, prompt: int, tokens: int) -> str:
        self.sent += 1
        name = str(self.sent)
        ids = [self.rng.randrange(2, VOCAB) for _ in range(prompt)]
        self.engine.add_request(name, {"prompt_token_ids": ids}, SamplingParams(
            temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False))
        return name

    def step(self) -> tuple[float, dict[str, int]]:
        """Seconds, and how many tokens each sequence has that got one."""
        begin = time.perf_counter()
        outputs = self.engine.step()
        took = time.perf_counter() - begin
        return took, {each.request_id: len(each.outputs[0].token_ids) for each in outputs}

    def prefill(self, tokens: int) -> float:
        """Until the first token is there."""
        name, seconds = self.send(tokens, 1), 0.0
        while True:
            took, lengths = self.step()
            seconds += took
            if name in lengths:
                return seconds

    def decode(self, batch: int, steps: int) -> list[float]:
        names = [self.send(self.arguments.depth, steps + 2) for _ in range(batch)]
        lengths, seconds = dict.fromkeys(names, 0), []
        while self.engine.has_unfinished_requests():
            took, now = self.step()
            # A step counts if every sequence got just one more token: no prompt was in it, and none is over.
            if len(seconds) < steps and all(lengths[name] > 0 and now.get(name) == lengths[name] + 1 for name in names):
                seconds.append(took)
            lengths.update(now)
        if len(seconds) < steps:
            raise SystemExit(f"vllm: {len(seconds)} of {steps} steps decoded all {batch} sequences")
        return seconds

    def run(self) -> None:
        self.prefill(64)
        self.decode(1, 2)
        for tokens in self.arguments.prompts:
            begin, seconds = time.perf_counter(), []
            while not seconds or (len(seconds) < self.arguments.repeats and
                                  time.perf_counter() - begin < self.arguments.row_seconds):
                seconds.append(self.prefill(tokens))
            took = statistics.median(seconds)
            report({"what": "prefill", "tokens": tokens, "s": took, "tokens_per_s": tokens / took,
                    "repeats": len(seconds)})
        for batch in self.arguments.batches:
            took = statistics.median(self.decode(batch, self.arguments.repeats))
            report({"what": "decode", "batch": batch, "step_s": took, "tokens_per_s": batch / took,
                    "repeats": self.arguments.repeats})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--batches", type=integers, default=[1, 8, 32])
    parser.add_argument("--prompts", type=integers, default=[512])
    parser.add_argument("--depth", type=int, default=32, help="tokens of context before decoding [%(default)s]")
    parser.add_argument("--context", type=int, default=8192,
                        help="longest sequence [%(default)s]")
    parser.add_argument("--step-tokens", type=int, default=2048,
                        help="most tokens of a step: vLLM's start runs one of that size [%(default)s]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--eager", action="store_true", help="without compiling: starts minutes earlier")
    parser.add_argument("--row-seconds", type=float, default=60.0, help="a prompt is not repeated any more after these")
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
