#!/usr/bin/env python3
"""Ours beside other servers, all speaking OpenAI's protocol at addresses of your choice: the same prompts
(token ids), the same number of tokens, ignore_eos, one server at a time in turns, so that a change of the
machine's speed meets all of them. Prints medians and our ratio to each.

    peers_bench.py ours=127.0.0.1:8000 llama.cpp=127.0.0.1:8001 vllm=127.0.0.1:8002

The first is ours. Servers that are not asked are idle but keep their memory: all must fit the machine.
"""

import argparse
import asyncio
import json
import pathlib
import random
import statistics
import sys

from openai_stream import Answer, Client, Request


def prompts(count: int, length: int, vocab_size: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(2, vocab_size) for _ in range(length)] for _ in range(count)]


async def decode(client: Client, batch: int, arguments: argparse.Namespace, turn: int) -> float:
    """Tokens per second of all streams together, from when the last has begun until the first is done."""
    requests = [Request(prompt, arguments.tokens)
                for prompt in prompts(batch, arguments.decode_prompt, arguments.vocab_size, turn)]
    answers = await asyncio.gather(*(client.complete(request) for request in requests))
    check(client, answers)
    begin = max(answer.token_times[0] for answer in answers)
    end = min(answer.token_times[-1] for answer in answers)
    inside = sum(sum(begin < at <= end for at in answer.token_times) for answer in answers)
    if end <= begin or inside == 0:
        raise SystemExit(f"{client.host}:{client.port}: {batch} streams never ran together; give more --tokens")
    return inside / (end - begin)


async def prefill(client: Client, length: int, arguments: argparse.Namespace, turn: int) -> float:
    """Prompt tokens per second until the first token."""
    answer = await client.complete(Request(prompts(1, length, arguments.vocab_size, 1000 + turn)[0], 2))
    check(client, [answer])
    return length / answer.ttft


def check(client: Client, answers: list[Answer]) -> None:
    for answer in answers:
        if answer.error:
            raise SystemExit(f"{client.host}:{client.port}: {answer.error}")


async def measure(arguments: argparse.Namespace) -> dict:
    clients = {name: Client(url, timeout_s=arguments.timeout_s) for name, _, url in
               (server.partition("=") for server in arguments.servers)}
    for client in clients.values():
        await client.find_model()
        check(client, [await client.complete(Request(prompts(1, 8, arguments.vocab_size, 0)[0], 2))])
    works = [(f"decode, batch {batch}", decode, batch) for batch in arguments.batches]
    works += [(f"prefill {length}", prefill, length) for length in arguments.prompts]
    rows = []
    for what, run, size in works:
        rates = {name: [] for name in clients}
        for turn in range(arguments.turns):
            for name, client in clients.items():
                rates[name].append(await run(client, size, arguments, turn + 1))
        rows.append({"what": what, "tokens_per_s": {name: statistics.median(each) for name, each in rates.items()},
                     "all": rates})
        print_row(rows[-1])
    return {"servers": arguments.servers, "turns": arguments.turns, "rows": rows}


def print_row(row: dict) -> None:
    ours, *others = row["tokens_per_s"].items()
    text = f"{row['what']:18} {ours[0]} {ours[1]:8.1f} tok/s"
    for name, rate in others:
        text += f" | {name} {rate:8.1f} tok/s, ours is {ours[1] / rate:5.2f}x"
    print(text, flush=True)


def main(arguments: list[str]) -> int:
    def integers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=HOST:PORT", help="the first is ours")
    parser.add_argument("--batches", type=integers, default=[1, 8, 32], help="streams at once [1,8,32]")
    parser.add_argument("--prompts", type=integers, default=[512], help="lengths to prefill [512]")
    parser.add_argument("--tokens", type=int, default=32, help="of each stream [%(default)s]")
    parser.add_argument("--decode-prompt", type=int, default=32, help="prompt of each stream [%(default)s]")
    parser.add_argument("--turns", type=int, default=5, help="the median of so many counts [%(default)s]")
    parser.add_argument("--vocab-size", type=int, default=4096, help="token ids are drawn below it [%(default)s]")
    parser.add_argument("--timeout-s", type=float, default=600.0)
    parser.add_argument("--json", type=pathlib.Path, help="file that gets all figures")
    parsed = parser.parse_args(arguments)
    wrong = [server for server in parsed.servers if "=" not in server]
    if wrong:
        parser.error(f"server is {wrong[0]!r}; NAME=HOST:PORT is accepted")
    result = asyncio.run(measure(parsed))
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
