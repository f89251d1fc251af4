#!/usr/bin/env python3
"""Open-loop load on a server that speaks OpenAI's protocol: requests come when they come (Poisson arrivals),
whether or not earlier ones are done. Prints time to first token, inter-token times, goodput and errors for
each share of the capacity, which is measured first with as many requests in flight as the server runs at once.

Prompts are token ids of lengths drawn evenly in the logarithm between --prompt-min and --prompt-max. The same
--seed makes the same trace; --write-trace keeps it as JSON lines, --trace replays one to any server (traces.py),
--seconds cuts it, so that every share takes about as long.
--short: a few requests, checked instead of timed; fails only on wrong results.
"""

import argparse
import asyncio
import json
import math
import pathlib
import sys
import time

import traces
from openai_stream import Answer, Client, Request


async def closed_loop(client: Client, requests: list[Request], in_flight: int) -> float:
    """Requests per second with `in_flight` at any time."""
    left = iter(requests)

    async def worker() -> None:
        for request in left:
            answer = await client.complete(request)
            if answer.error:
                raise SystemExit(f"measuring the capacity: {answer.error}")

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return len(requests) / (time.perf_counter() - begin)


async def open_loop(client: Client, trace: list[tuple[float, Request]], rate: float) -> tuple[list[Answer], float]:
    begin = time.perf_counter()

    async def arrive(at: float, request: Request) -> Answer:
        await asyncio.sleep(max(0.0, begin + at / rate - time.perf_counter()))
        return await client.complete(request)

    answers = await asyncio.gather(*(arrive(at, request) for at, request in trace))
    return list(answers), time.perf_counter() - begin


def cut(trace: list[tuple[float, Request]], rate: float, seconds: float) -> list[tuple[float, Request]]:
    """The arrivals of the first `seconds`; 0 = all. At least one."""
    inside = [each for each in trace if seconds <= 0 or each[0] / rate <= seconds]
    return inside or trace[:1]


def percentile(values: list[float], part: float) -> float:
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def summarize(arguments: argparse.Namespace, share: float, rate: float, requests: list[Request],
              answers: list[Answer], seconds: float) -> dict:
    good = [(request, answer) for request, answer in zip(requests, answers) if not answer.error]
    gaps = [gap for _, answer in good for gap in answer.gaps()]
    ttfts = [answer.ttft for _, answer in good]

    def met(request: Request, answer: Answer) -> bool:
        allowed = arguments.slo_ttft_ms + arguments.slo_ttft_ms_per_token * len(request.prompt)
        steady = percentile(answer.gaps(), 0.5) if len(answer.token_times) > 1 else 0.0
        return answer.ttft * 1e3 <= allowed and steady * 1e3 <= arguments.slo_itl_ms

    kept = [answer for request, answer in good if met(request, answer)]
    return {"share_of_capacity": share, "requests_per_s": rate, "requests": len(answers),
            "errors": len(answers) - len(good), "error_example": next((a.error for a in answers if a.error), ""),
            "seconds": seconds, "prompt_tokens": sum(len(request.prompt) for request in requests),
            "output_tokens_per_s": sum(a.completion_tokens for _, a in good) / seconds,
            "goodput_tokens_per_s": sum(a.completion_tokens for a in kept) / seconds,
            "within_slo": len(kept) / len(answers) if answers else 0.0,
            "ttft_s": {"p50": percentile(ttfts, 0.5), "p99": percentile(ttfts, 0.99)},
            "inter_token_s": {"p50": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99)},
            "requests_detail": [{"prompt_tokens": len(request.prompt), "ttft_s": answer.ttft, "gaps_s": answer.gaps()}
                                for request, answer in good]}


def print_row(row: dict) -> None:
    itl, ttft = row["inter_token_s"], row["ttft_s"]
    print(f"{row['share_of_capacity']:8.2f} {row['requests_per_s']:8.3f} {row['requests']:6d} {row['errors']:6d} "
          f"{ttft['p50'] * 1e3:10.0f} {ttft['p99'] * 1e3:10.0f} {itl['p50'] * 1e3:8.1f} {itl['p99'] * 1e3:8.1f} "
          f"{itl['p99'] / itl['p50']:6.2f} {row['output_tokens_per_s']:9.1f} {row['goodput_tokens_per_s']:9.1f}",
          flush=True)
    if row["error_example"]:
        print(f"         first error: {row['error_example']}")


async def measure(arguments: argparse.Namespace) -> dict:
    client = Client(arguments.url, arguments.model, arguments.api_key, arguments.timeout_s)
    await client.find_model()
    arrivals = traces.from_arguments(arguments)
    capacity = arguments.capacity
    if capacity <= 0:
        some = arrivals[:arguments.capacity_requests or max(2 * arguments.in_flight, 8)]
        capacity = await closed_loop(client, [each.request(arguments.vocab_size) for each in some], arguments.in_flight)
    print(f"{arguments.url}: capacity {capacity:.3f} requests/s ({'given' if arguments.capacity > 0 else 'measured'})")
    print("   share    req/s   sent errors   ttft p50   ttft p99  itl p50  itl p99    p99/50     tok/s   goodput  (ms)",
          flush=True)
    rows = []
    for again, share in enumerate(arguments.shares, 1):
        trace = [(each.at, each.request(arguments.vocab_size, again)) for each in arrivals]
        part = cut(trace, share * capacity, arguments.seconds)
        answers, seconds = await open_loop(client, part, share * capacity)
        rows.append(summarize(arguments, share, share * capacity, [request for _, request in part], answers, seconds))
        print_row(rows[-1])
    return {"url": arguments.url, "model": client.model, "capacity_requests_per_s": capacity, "seed": arguments.seed,
            "slo_ttft_ms": arguments.slo_ttft_ms, "slo_ttft_ms_per_token": arguments.slo_ttft_ms_per_token,
            "slo_itl_ms": arguments.slo_itl_ms, "rows": rows}


async def check(arguments: argparse.Namespace) -> int:
    """Few requests, alone and then all at once: every one ends with all its tokens, and with the same text."""
    client = Client(arguments.url, arguments.model, arguments.api_key, arguments.timeout_s)
    await client.find_model()
    requests = [each.request(arguments.vocab_size)
                for each in traces.draw(arguments, arguments.requests, arguments.seed)]
    alone = [await client.complete(request) for request in requests]
    together = await asyncio.gather(*(client.complete(request) for request in requests))
    wrong = 0
    for request, first, second in zip(requests, alone, together):
        for answer in (first, second):
            if answer.error or answer.completion_tokens != request.max_tokens:
                wrong += 1
                print(f"prompt of {len(request.prompt)}: {answer.completion_tokens} of {request.max_tokens} tokens; "
                      f"{answer.error}")
        if first.text != second.text:
            wrong += 1
            print(f"prompt of {len(request.prompt)}: the text alone differs from the text under load")
    print(f"{2 * len(requests)} requests, {wrong} wrong (seed {arguments.seed})")
    return 1 if wrong else 0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://HOST:PORT of the server")
    parser.add_argument("--model", default="", help="name in requests [the first of /v1/models]")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--requests", type=int, default=60, help="drawn without --trace [%(default)s]")
    parser.add_argument("--shares", type=lambda text: [float(part) for part in text.split(",")],
                        default=[0.5, 0.8, 1.2], help="of the capacity, with commas [0.5,0.8,1.2]")
    parser.add_argument("--seconds", type=float, default=0.0, help="arrivals after these are left out; 0 = none")
    parser.add_argument("--capacity", type=float, default=0.0, help="requests/s; 0 = measure it")
    parser.add_argument("--capacity-requests", type=int, default=0,
                        help="of the trace, to measure it with; 0 = 2 x --in-flight")
    parser.add_argument("--in-flight", type=int, default=16, help="while measuring the capacity [%(default)s]")
    parser.add_argument("--prompt-min", type=int, default=16)
    parser.add_argument("--prompt-max", type=int, default=8000)
    parser.add_argument("--output-min", type=int, default=16)
    parser.add_argument("--output-max", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=4096, help="token ids are drawn below it [%(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", help="requests and arrivals from this file, or from load_tests/traces by name")
    parser.add_argument("--write-trace", type=pathlib.Path)
    parser.add_argument("--timeout-s", type=float, default=600.0, help="of one request [%(default)s]")
    parser.add_argument("--slo-ttft-ms", type=float, default=5000.0, help="for goodput [%(default)s]")
    parser.add_argument("--slo-ttft-ms-per-token", type=float, default=0.0,
                        help="added for each token of the prompt [%(default)s]")
    parser.add_argument("--slo-itl-ms", type=float, default=500.0,
                        help="for goodput: median of a request [%(default)s]")
    parser.add_argument("--json", type=pathlib.Path, help="file that gets all figures")
    parser.add_argument("--short", action="store_true", help="check results, not speed")
    parsed = parser.parse_args(arguments)
    if parsed.short:
        parsed.requests = min(parsed.requests, 6)
    return parsed


def main(arguments: list[str]) -> int:
    parsed = parse_arguments(arguments)
    if parsed.short:
        return asyncio.run(check(parsed))
    result = asyncio.run(measure(parsed))
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if all(row["errors"] == row["requests"] for row in result["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
