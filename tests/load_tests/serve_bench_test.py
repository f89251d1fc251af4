#!/usr/bin/env python3
"""The benches that drive servers, in their short forms, against the real server: they fail only on wrong
results, never on a time. Also: a trace that was written is replayed as it was."""

import argparse
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "load_tests"), str(ROOT / "tests" / "e2e")]

import peers_bench  # noqa: E402
import serve_bench  # noqa: E402
import traces  # noqa: E402
from harness import Server  # noqa: E402


def check_trace_round_trip(folder: pathlib.Path) -> None:
    path = folder / "trace.jsonl"
    flags = ["http://unused", "--requests", "5", "--seed", "3", "--prompt-max", "100"]
    written = traces.from_arguments(serve_bench.parse_arguments([*flags, "--write-trace", str(path)]))
    replayed = traces.from_arguments(serve_bench.parse_arguments(["http://unused", "--trace", str(path)]))
    assert written == replayed, "a replayed trace differs from the one that was written"
    assert [each.request(4096) for each in written] == [each.request(4096) for each in replayed]
    again = traces.from_arguments(serve_bench.parse_arguments(flags))
    assert written == again, "the same seed made another trace"


def check_recorded_trace() -> None:
    arrivals = traces.from_arguments(serve_bench.parse_arguments(["http://unused", "--trace", "mixed"]))
    lengths = [each.prompt_tokens for each in arrivals]
    assert min(lengths) >= 16 and 4000 < max(lengths) <= 8000, lengths
    trace = [(each.at, each.request(4096)) for each in arrivals]
    assert len(serve_bench.cut(trace, 1.0, trace[2][0])) == 3 and len(serve_bench.cut(trace, 1.0, 0)) == len(trace)


def check_bad_traces(folder: pathlib.Path) -> None:
    path = folder / "bad.jsonl"
    for line in ("{", "[]", '{"at": 1}', '{"at": 1, "max_tokens": 4}', '{"at": 1, "max_tokens": 0, "prompt": [5]}',
                 '{"at": -1, "max_tokens": 1, "prompt": [5]}', '{"at": 1, "max_tokens": 1, "prompt": [], "seed": 1}'):
        path.write_text(line + "\n")
        try:
            traces.read(path)
        except SystemExit as error:
            assert "bad.jsonl:1" in str(error), error
        else:
            raise AssertionError(f"accepted: {line}")


def check_open_loop(url: str, folder: pathlib.Path) -> None:
    result = folder / "serve.json"
    code = serve_bench.main([url, "--requests", "6", "--prompt-max", "200", "--output-max", "24", "--in-flight", "4",
                             "--shares", "0.5,1.2", "--json", str(result)])
    assert code == 0, "the open loop failed"
    for row in json.loads(result.read_text())["rows"]:
        assert row["errors"] == 0, row
        assert row["requests"] == 6 and row["output_tokens_per_s"] > 0, row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    server = Server(f"{arguments.bin}/mole-server", arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_trace_round_trip(pathlib.Path(folder))
            check_recorded_trace()
            check_bad_traces(pathlib.Path(folder))
            assert serve_bench.main([server.url, "--short", "--prompt-max", "600"]) == 0, "serve bench --short"
            check_open_loop(server.url, pathlib.Path(folder))
            assert peers_bench.main([f"ours={server.url}", f"again={server.url}", "--turns", "1", "--batches", "1,4",
                                     "--prompts", "64", "--tokens", "24"]) == 0, "peers bench"
        finally:
            server.stop()
    print("ok")


if __name__ == "__main__":
    main()
