#!/usr/bin/env python3
"""Our engine and other engines without HTTP, on the same weights and threads, in turns: one program after another,
each loading the model and leaving again (only one fits the memory), with the bandwidth of the machine read
between them. Prints one table: medians over the turns, our ratio to each peer, the probe before and after.

    peers_turns.py CHECKPOINT --bin DIR [--llama BENCH --gguf FILE] [--vllm PYTHON] [--keep FILE]

With --keep the turns are added to those that FILE holds already, so that a machine that is free for minutes only
can be measured in parts. The order of the programs rotates from turn to turn.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
OURS = "mole"


def label(row: dict) -> str:
    return f"prefill {row['tokens']}" if row["what"] == "prefill" else f"decode, batch {row['batch']}"


def run(command: list[str], environment: dict[str, str], seconds: float) -> str:
    """Standard output. A program that fails or hangs ends the measurement: half a turn compares nothing."""
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    lines = []
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as process:
        late = threading.Timer(seconds, process.kill)
        late.start()
        for line in process.stdout:
            lines.append(line)
            sys.stderr.write(line)
        code = process.wait()
        if not late.is_alive():
            raise SystemExit(f"{command[0]} took more than {seconds:.0f} s; give more with --timeout-s")
        late.cancel()
    if code != 0:
        raise SystemExit(f"{command[0]} ended with {code}")
    return "".join(lines)


def numbers(values: list[int]) -> str:
    return ",".join(str(value) for value in values)


class Programs:
    """What takes turns. Each returns tokens per second by label."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.by_name = {OURS: self.ours}
        if arguments.llama:
            self.by_name["llama.cpp"] = self.llama
        if arguments.vllm:
            self.by_name["vLLM"] = self.vllm

    def ours(self) -> dict[str, float]:
        a = self.arguments
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "rows.json"
            run([str(a.bin / "mole-engine-bench"), "--model", str(a.checkpoint), "--quantization", a.quantization,
                 "--batches", numbers(a.batches), "--prompts", numbers(a.prompts), "--depths", str(a.depth),
                 "--threads", str(a.threads), "--repeats", str(a.repeats), "--row-seconds", str(a.row_seconds),
                 "--tries", "1", "--probe-mib", str(a.probe_mib), "--json", str(path)], {}, a.timeout_s)
            return {label(row): row["tokens_per_s"] for row in json.loads(path.read_text())["rows"]}

    def llama(self) -> dict[str, float]:
        a = self.arguments
        prompts = [length for length in a.prompts if length <= 1024]  # of its sequences: 32 share 32768 tokens
        return self.rows(run([str(a.llama), str(a.gguf), str(a.threads), str(a.repeats), str(a.row_seconds),
                              numbers(a.batches), numbers(prompts)], {}, a.timeout_s))

    def vllm(self) -> dict[str, float]:
        a = self.arguments
        bind = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", f"0-{a.threads - 1}")
        return self.rows(run(
            [str(a.vllm), str(HERE / "vllm_offline.py"), str(a.checkpoint), "--batches", numbers(a.batches),
             "--prompts", numbers(a.prompts), "--depth", str(a.depth), "--repeats", str(a.repeats),
             "--row-seconds", str(a.row_seconds)],
            {"VLLM_CPU_OMP_THREADS_BIND": bind, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
             "OMP_NUM_THREADS": str(a.threads), "LD_PRELOAD": a.vllm_preload}, a.timeout_s))

    @staticmethod
    def rows(text: str) -> dict[str, float]:
        """Rows among whatever else a program prints."""
        lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"what"')]
        return {label(line): line["tokens_per_s"] for line in lines if line["what"] in ("prefill", "decode")}

    def probe(self) -> float:
        """GB/s of the fastest read we know of memory, all threads."""
        a = self.arguments
        text = run([str(a.bin / "mole-machine-bench"), "--probe-mib", str(a.probe_mib), "--threads", str(a.threads)],
                   {}, a.timeout_s)
        return json.loads(text)["best_bytes_per_s"] / 1e9


def measure_turn(programs: Programs, turns: list[dict], keep: pathlib.Path | None) -> None:
    """Adds a turn; what it has so far is kept after each program."""
    names = list(programs.by_name)
    first = len(turns) % len(names)
    probes, rates = [programs.probe()], {}
    turns.append({"probe_gb_per_s": probes, "tokens_per_s": rates})
    for name in names[first:] + names[:first]:
        rates[name] = programs.by_name[name]()
        probes.append(programs.probe())
        print(f"turn {len(turns)}, {name}: {json.dumps(rates[name])}, probe {probes[-2]:.1f}/{probes[-1]:.1f} GB/s",
              file=sys.stderr, flush=True)
        if keep:
            keep.write_text(json.dumps(turns, indent=1) + "\n")


def table(turns: list[dict]) -> str:
    """Markdown. A ratio is that of the medians; behind a rate stand its least and its most over the turns."""
    names = list(dict.fromkeys(name for turn in turns for name in turn["tokens_per_s"]))
    names.sort(key=lambda name: name != OURS)
    labels = list(dict.fromkeys(row for turn in turns for row in turn["tokens_per_s"].get(OURS, {})))
    peers = names[1:]
    lines = ["| tok/s | " + " | ".join([OURS] + [f"{peer} | ratio" for peer in peers]) + " |",
             "|---" * (2 + 2 * len(peers)) + "|"]
    for row in labels:
        rates = {name: [turn["tokens_per_s"][name][row] for turn in turns if row in turn["tokens_per_s"].get(name, {})]
                 for name in names}
        cells = [spread(rates[OURS])]
        for peer in peers:
            both = rates[OURS] and rates[peer]
            ratio = f"{statistics.median(rates[OURS]) / statistics.median(rates[peer]):.2f}" if both else "-"
            cells += [spread(rates[peer]), ratio]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    probes = "; ".join("/".join(f"{probe:.1f}" for probe in turn["probe_gb_per_s"]) for turn in turns)
    return "\n".join([*lines, "", f"{len(turns)} turns; probe before, between and after the programs of each, GB/s: "
                      f"{probes}"])


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    text = f"{statistics.median(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f} to {max(values):.1f})"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    def integers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of our programs")
    parser.add_argument("--llama", type=pathlib.Path, help="llama_bench, as peers.sh builds it")
    parser.add_argument("--gguf", type=pathlib.Path, help="the same weights for it")
    parser.add_argument("--vllm", type=pathlib.Path, help="python of an environment that has vLLM")
    parser.add_argument("--vllm-preload", default="", help="libraries for its LD_PRELOAD, with colons")
    parser.add_argument("--quantization", default="none", help="of our weights [%(default)s]")
    parser.add_argument("--batches", type=integers, default=[1, 8, 32], help="sequences decoded at once [1,8,32]")
    parser.add_argument("--prompts", type=integers, default=[512], help="lengths to prefill [512]")
    parser.add_argument("--depth", type=int, default=32, help="tokens of context before decoding [%(default)s]")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5, help="in a turn; their median counts [%(default)s]")
    parser.add_argument("--row-seconds", type=int, default=20,
                        help="a prompt is not repeated any more after these [%(default)s]")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--probe-mib", type=int, default=1024, help="memory that the probe reads [%(default)s]")
    parser.add_argument("--timeout-s", type=float, default=1800.0, help="of one program [%(default)s]")
    parser.add_argument("--keep", type=pathlib.Path, help="JSON file of turns: new ones are added")
    parsed = parser.parse_args(arguments)
    if (parsed.llama is None) != (parsed.gguf is None):
        parser.error("--llama and --gguf are given together or not at all")
    return parsed


def main(arguments: list[str]) -> int:
    parsed = parse_arguments(arguments)
    turns = json.loads(parsed.keep.read_text()) if parsed.keep and parsed.keep.exists() else []
    programs = Programs(parsed)
    for _ in range(parsed.turns):
        measure_turn(programs, turns, parsed.keep)
    print(table(turns))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
