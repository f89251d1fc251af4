#!/usr/bin/env python3
"""The scripts that put programs beside each other: their tables from made-up figures, and the start-up bench with the
real server. Nothing here depends on how long anything takes."""

import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "load_tests"), str(ROOT / "load_tests" / "peers")]

import peers_turns  # noqa: E402
import serve_turns  # noqa: E402
import startup_bench  # noqa: E402


def check_peers_table() -> None:
    turns = [{"probe_gb_per_s": [20.0, 21.0, 22.0],
              "tokens_per_s": {"mole": {"decode, batch 1": ours, "prefill 4096": 100.0},
                               "other": {"decode, batch 1": 2.0}}}
             for ours in (3.0, 5.0, 4.0)]
    text = peers_turns.table(turns)
    assert "| tok/s | mole | other | ratio |" in text, text
    assert "| decode, batch 1 | 4.0 (3.0 to 5.0) | 2.0 (2.0 to 2.0) | 2.00 |" in text, text
    assert "| prefill 4096 | 100.0 (100.0 to 100.0) | - | - |" in text, text
    assert "20.0/21.0/22.0" in text, text


def check_rows() -> None:
    """Rows stand among whatever a program logs."""
    text = 'INFO started\n{"what": "ready", "s": 3}\n{"what": "decode", "batch": 8, "tokens_per_s": 2.5}\n{"x": 1}\n'
    assert peers_turns.Programs.rows(text) == {"decode, batch 8": 2.5}


def check_serve_table() -> None:
    row = {"share_of_capacity": 0.8, "requests": 5, "errors": 1, "ttft_s": {"p50": 1.0, "p99": 2.0},
           "inter_token_s": {"p50": 0.1, "p99": 0.15}, "output_tokens_per_s": 9.0, "goodput_tokens_per_s": 4.5,
           "within_slo": 0.5}
    result = {"name": "mole", "rows": [row], "capacity_requests_per_s": 0.25, "probe_gb_per_s": [20.0, 30.0]}
    text = serve_turns.table([result, result | {"name": "vLLM"}])
    assert "| 0.80 | mole | 5 (1 failed) | 1.00 / 2.00 | 100 / 150 | 1.50 | 9.00 | 4.50 (50%) |" in text, text
    assert "| 0.80 | vLLM |" in text and "mole 20.0/30.0; vLLM 20.0/30.0" in text, text


def check_startup(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder) / "startup.json"
        flags = [arguments.model, "--bin", arguments.bin, "--turns", "1", "--json", str(result)]
        assert startup_bench.main([*flags, "--max-model-len", "256"]) == 0  # what it does not know goes to the server
        (row,) = json.loads(result.read_text())
        assert row["state"] == "warm" and row["ready_to_read"] > 0, row
        assert row["bytes"] == sum(path.stat().st_size for path in pathlib.Path(arguments.model).glob("*.safetensors"))
        for wrong, expected in (([folder, "--bin", arguments.bin], "no .safetensors"),
                                ([*flags, "--max-model-len", "1000000000"], "max-model-len is 1000000000")):
            try:
                startup_bench.main(wrong)
            except SystemExit as error:
                assert expected in str(error), error
            else:
                raise AssertionError(f"accepted: {wrong}")


def check_usage() -> None:
    for wrong in ([], ["compare"], ["install", "something"], ["nonsense", "x"]):
        done = subprocess.run([str(ROOT / "load_tests" / "peers" / "peers.sh"), *wrong], capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "MOLE_PEERS": tempfile.gettempdir()}, check=False)
        assert done.returncode == 2 and "peers.sh compare CHECKPOINT" in done.stderr, done
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            peers_turns.parse_arguments(["model", "--bin", "x", "--llama", "y"])
        except SystemExit:
            return
    raise AssertionError("--llama without --gguf was accepted")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    check_peers_table()
    check_rows()
    check_serve_table()
    check_usage()
    check_startup(arguments)
    print("ok")


if __name__ == "__main__":
    main()
