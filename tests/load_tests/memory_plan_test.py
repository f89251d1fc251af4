#!/usr/bin/env python3
"""mole-server --plan against what the server then takes: anonymous memory after the cache was filled by real
requests, and at most while loading. Runs for each --model given, and for the bench model lite-tiny."""

import argparse
import asyncio
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "load_tests"), str(ROOT / "tests" / "e2e")]

from harness import Server  # noqa: E402
from openai_stream import Client, Request  # noqa: E402

FLAGS = ["--kv-cache-memory-bytes", str(16 << 20), "--max-model-len", "1024", "--max-num-seqs", "8",
         "--max-num-batched-tokens", "512"]
TOLERANCE = 0.02
# What the plan leaves out: the allocator's unused parts, the engine's own tables and the stacks of threads, 6 to
# 12 MB here. Next to a served model's size it is nothing; next to a test's few megabytes of weights it is not.
SLACK_BYTES = 24 << 20


def read_plan(server: str, model: str) -> dict[str, int]:
    text = subprocess.run([server, model, "--plan", *FLAGS], check=True, capture_output=True, text=True).stdout
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


async def fill_cache(url: str) -> None:
    client = Client(url)
    await client.find_model()
    rng = random.Random(1)
    for _ in range(6):
        requests = [Request([rng.randrange(2, 4096) for _ in range(900)], 60) for _ in range(8)]
        for answer in await asyncio.gather(*(client.complete(request) for request in requests)):
            assert not answer.error, answer.error


def check(server_path: str, model: str) -> None:
    plan = read_plan(server_path, model)
    parts = sum(plan[key] for key in ("weights", "tables", "kv-cache", "workspace", "program"))
    assert plan["total"] == parts, plan
    server = Server(server_path, model, *FLAGS)
    peak = Peak()
    watcher = threading.Thread(target=peak.watch, args=(server.process.pid,), daemon=True)
    watcher.start()
    try:
        asyncio.run(fill_cache(server.url))
        taken = anonymous_bytes(server.process.pid)
    finally:
        peak.stop()
        server.stop()
    allowed = TOLERANCE * plan["total"] + SLACK_BYTES
    print(f"{os.path.basename(model)}: planned {plan['total']}, taken {taken} ({taken - plan['total']:+}), "
          f"peak planned {plan['peak']}, seen {peak.bytes}")
    assert abs(taken - plan["total"]) <= allowed, "the plan is further off than it may be"
    assert peak.bytes <= plan["peak"] + allowed, "the peak is above the plan"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny = os.path.join(folder, "lite-tiny")
        subprocess.run([f"{arguments.bin}/mole-make-checkpoint", "--preset", "lite-tiny", tiny], check=True)
        for model in [*arguments.model, tiny]:
            check(f"{arguments.bin}/mole-server", model)


if __name__ == "__main__":
    main()
