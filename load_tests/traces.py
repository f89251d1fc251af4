"""Requests and when they come: drawn from a seed, or read from a file that was recorded.

A trace is JSON lines of {"at", "max_tokens"} and either "prompt", the token ids themselves, or "prompt_tokens" and
"seed", from which the same ids are drawn everywhere. Times are those of a process of rate 1: whoever replays it at
r requests a second divides them by r.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import random

from openai_stream import Request

TRACES = pathlib.Path(__file__).resolve().parent / "traces"
PROMPT_TOKENS_MAX = 1 << 20


@dataclasses.dataclass
class Arrival:
    at: float
    max_tokens: int
    prompt_tokens: int = 0
    seed: int = 0
    prompt: list[int] | None = None

    def request(self, vocab_size: int, again: int = 0) -> Request:
        """`again` gives other ids of the same number: a replay must not find its prompts cached."""
        if self.prompt is not None:
            return Request(self.prompt, self.max_tokens)
        rng = random.Random(self.seed + (again << 32))
        return Request([rng.randrange(2, vocab_size) for _ in range(self.prompt_tokens)], self.max_tokens)

    def to_json(self) -> str:
        return json.dumps({name: value for name, value in dataclasses.asdict(self).items() if value is not None})


def draw(arguments: argparse.Namespace, count: int, seed: int) -> list[Arrival]:
    """Poisson arrivals; prompt lengths even in the logarithm, output lengths even."""
    rng = random.Random(seed)
    low, high = math.log(arguments.prompt_min), math.log(arguments.prompt_max)
    at, arrivals = 0.0, []
    for _ in range(count):
        at += rng.expovariate(1.0)
        arrivals.append(Arrival(at, rng.randint(arguments.output_min, arguments.output_max),
                                round(math.exp(rng.uniform(low, high))), rng.getrandbits(32)))
    return arrivals


def read(path: pathlib.Path) -> list[Arrival]:
    arrivals = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            arrival = Arrival(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise SystemExit(f"{path}:{number}: {error}; at, max_tokens and prompt, or prompt_tokens and seed, "
                             "are accepted") from None
        length = arrival.prompt_tokens if arrival.prompt is None else len(arrival.prompt)
        if not 1 <= length <= PROMPT_TOKENS_MAX or arrival.max_tokens < 1 or arrival.at < 0:
            raise SystemExit(f"{path}:{number}: a prompt has 1 to {PROMPT_TOKENS_MAX} tokens, max_tokens is at least 1 "
                             "and at is not below 0")
        arrivals.append(arrival)
    return sorted(arrivals, key=lambda arrival: arrival.at)


def write(path: pathlib.Path, arrivals: list[Arrival]) -> None:
    path.write_text("".join(arrival.to_json() + "\n" for arrival in arrivals))


def from_arguments(arguments: argparse.Namespace) -> list[Arrival]:
    if arguments.trace:
        named = TRACES / f"{arguments.trace}.jsonl"
        arrivals = read(named if named.exists() else pathlib.Path(arguments.trace))
    else:
        arrivals = draw(arguments, arguments.requests, arguments.seed)
    if arguments.write_trace:
        write(arguments.write_trace, arrivals)
    return arrivals
