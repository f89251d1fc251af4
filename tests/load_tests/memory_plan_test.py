#!/usr/bin/env python3
"""mole-server --plan against what the server then takes: anonymous memory after the cache was filled by real
requests, and at most while loading: within 2 % on a bench model of honest size. And for each --model given, and a
toy with a multi-token-prediction module."""

import argparse
import asyncio
import ctypes
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "load_tests"), str(ROOT / "tests" / "e2e")]

import tiny_mtp  # noqa: E402
from harness import Server  # noqa: E402
from openai_stream import Client, Request  # noqa: E402

SEQUENCES, MODEL_LEN, PROMPT = 8, 512, 450
# The cache holds what eight sequences of the longest kind need, no more: it is full in the end.
FLAGS = ["--threads", "2", "--max-model-len", str(MODEL_LEN), "--max-num-seqs", str(SEQUENCES), "--max-num-batched-tokens", "512"]
TOLERANCE = 0.02
ROUNDS_MAX = 40
# A model of a few megabytes has no 2 % to hide the threads' stacks and scratch memory in, which the plan leaves out.
SMALL_SLACK_BYTES = 12 << 20


def huge_pages_on_request_only() -> None:
    """Where a system gives huge pages to everybody, stacks and heaps have them too, which nobody can plan. Children
    inherit this."""
    setting = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if setting.exists() and "[always]" in setting.read_text(encoding="ascii"):
        pr_set_thp_disable = 41
        ctypes.CDLL(None).prctl(pr_set_thp_disable, 1, 0, 0, 0)


def read_plan(server: str, model: str, *flags: str) -> dict[str, int]:
    text = subprocess.run([server, model, "--plan", *FLAGS, *flags], check=True, capture_output=True, text=True).stdout
    lines = [line.partition("#")[0].split(":") for line in text.splitlines() if not line.startswith("#")]
    return {key.strip(): int(value) for key, value in lines}


def anonymous_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


class Peak:
    """The most anonymous memory that was seen of a process, looked at again and again."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()

    def watch(self, pid: int) -> None:
        while not self._done.wait(0.005):
            try:
                self.bytes = max(self.bytes, anonymous_bytes(pid))
            except OSError:
                return

    def stop(self) -> None:
        self._done.set()


async def fill_cache(url: str, enough: Callable[[], bool]) -> None:
    """Long prompts all at once, so that steps are full; then the same with other ends, whose beginnings are in the
    cache: if the ends of all come in one step, their contexts are expanded together, which takes the most memory. On a
    busy machine they may come in two, so that is tried again until it was `enough`."""
    client = Client(url)
    await client.find_model()
    rng = random.Random(1)
    prompts = [[rng.randrange(2, 4000) for _ in range(PROMPT)] for _ in range(SEQUENCES)]
    for attempt in range(ROUNDS_MAX):
        if attempt > 1 and enough():
            return
        requests = [Request(prompt, MODEL_LEN - PROMPT - 1 if attempt < 2 else 1) for prompt in prompts]
        for answer in await asyncio.gather(*(client.complete(request) for request in requests)):
            assert not answer.error, answer.error
        prompts = [prompt[:-1] + [rng.randrange(2, 4000)] for prompt in prompts]


def check(server_path: str, model: str, slack: int, *flags: str) -> None:
    plan = read_plan(server_path, model, *flags)
    parts = sum(plan[key] for key in ("weights", "tables", "kv-cache", "workspace", "program"))
    assert plan["total"] == parts, plan
    server = Server(server_path, model, *FLAGS, *flags)
    peak = Peak()
    watcher = threading.Thread(target=peak.watch, args=(server.process.pid,), daemon=True)
    watcher.start()
    allowed = TOLERANCE * plan["total"] + slack
    try:
        asyncio.run(fill_cache(server.url, lambda: anonymous_bytes(server.process.pid) >= plan["total"] - allowed))
        taken = anonymous_bytes(server.process.pid)
    finally:
        peak.stop()
        server.stop()
    print(f"{os.path.basename(model)} {' '.join(flags)}: planned {plan['total']}, taken {taken} ({taken - plan['total']:+}, "
          f"{(taken / plan['total'] - 1) * 100:+.2f} %), peak planned {plan['peak']}, seen {peak.bytes}", flush=True)
    assert abs(taken - plan["total"]) <= allowed, f"the plan is further off than it may be: {plan}"
    assert peak.bytes <= plan["peak"] + allowed, f"the peak is above the plan: {plan}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", action="append", required=True)
    arguments = parser.parse_args()
    huge_pages_on_request_only()
    server = f"{arguments.bin}/mole-server"
    with tempfile.TemporaryDirectory() as folder:
        honest = os.path.join(folder, "fixed-cost")
        subprocess.run([f"{arguments.bin}/mole-make-checkpoint", "--preset", "fixed-cost", honest], check=True)
        check(server, honest, 0)
        module = os.path.join(folder, "mtp")
        os.mkdir(module)
        tiny_mtp.write(module, arguments.model[0], 1)
        check(server, module, SMALL_SLACK_BYTES, "--speculative-method", "mtp")
        for model in arguments.model:
            check(server, model, SMALL_SLACK_BYTES)


if __name__ == "__main__":
    main()
