#!/usr/bin/env python3
"""Equal bits through the real doors: the same requests to servers that differ in threads, instruction set,
chunking, prefix cache and room for pages, alone and all at once; and the trainer's log-probabilities against
the server's.

    test_bits.py --bin build/cpu-dev/bin --model models/demo
"""

import argparse
import concurrent.futures
import json
import os
import random
import struct
import sys
import tempfile
import unittest
import urllib.request

import tiny_mtp
from harness import TIMEOUT_S, Server, run

ARGUMENTS = argparse.Namespace()
SEED = int(os.environ.get("MOLE_SEED", random.SystemRandom().randrange(1 << 32)))
# Four sequences that begin together on a page each and grow to three: six pages can't hold them.
GROWING = {"prompt": "the", "max_tokens": 130, "ignore_eos": True, "n": 4, "logprobs": 0, "seed": SEED}
WORDS = "the of and to that in he his I was her it with for not she be had as him you is on my".split()


def binary(name: str) -> str:
    return os.path.join(ARGUMENTS.bin, name)


def post(server: Server, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def float_bits(value: float) -> int:
    """What is printed is a float32; equal bits, not nearly equal numbers."""
    return struct.unpack("<I", struct.pack("<f", value))[0]


def draw_requests(count: int) -> list[dict]:
    """Prompts of mixed lengths, some with a long common start, greedy and sampled."""
    draw = random.Random(SEED)
    shared = " ".join(draw.choices(WORDS, k=90))
    requests = []
    for number in range(count):
        words = " ".join(draw.choices(WORDS, k=draw.choice([1, 5, 63, 64, 120])))
        prompt = f"{shared} {words}" if number % 2 else words
        requests.append({"prompt": prompt, "max_tokens": draw.choice([1, 20, 70]), "logprobs": 2, "seed": number,
                         "temperature": draw.choice([0, 0.8, 1.0]), "top_p": draw.choice([1.0, 0.9])})
    return requests


def outcome(answer: dict) -> tuple:
    return tuple((choice["text"], choice["finish_reason"], tuple(map(float_bits, choice["logprobs"]["token_logprobs"])))
                 for choice in answer["choices"])


class EqualBits(unittest.TestCase):
    def answers(self, requests: list[dict], together: bool, *flags: str, **environment: str) -> list[tuple]:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        server = Server(binary("mole-server"), self.model, *flags)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        try:
            with concurrent.futures.ThreadPoolExecutor(len(requests) if together else 1) as pool:
                found = list(pool.map(lambda body: outcome(post(server, "/v1/completions", body)), requests))
            found.append(outcome(post(server, "/v1/completions", GROWING)))
            self.accepted += server.metric("mole_speculative_accepted_tokens_total")
            self.preemptions = server.metric("mole_preemptions_total")
            self.loaded_pages = server.metric("mole_kv_swap_pages_loaded_total")
            self.hit_tokens = server.metric("mole_prefix_cache_hits_total")
        finally:
            self.assertEqual(server.stop(), 0)
        return found

    def setUp(self):
        self.model = ARGUMENTS.model
        self.accepted = 0  # drafts, of all servers

    def test_servers_that_differ_give_the_same_answers(self):
        requests = draw_requests(16)
        expected = self.answers(requests, False, "--threads", "1", "--no-enable-prefix-caching")
        self.assertGreater(len({answer[0][0] for answer in expected}), 8, "the requests are too alike to show anything")
        pages = 6 * 64 * self.bytes_per_token()
        variants = {
            "all at once": (True, ["--threads", "1"], {}),
            "all at once, 2 threads": (True, ["--threads", "2"], {}),
            "AVX2": (True, ["--threads", "1"], {"MOLE_ISA": "avx2"}),
            "chunks of 16": (True, ["--threads", "1", "--max-num-batched-tokens", "16", "--max-num-seqs", "8"], {}),
            "n-gram drafts": (True, ["--threads", "1", "--speculative-method", "ngram", "--prompt-lookup-min", "1"], {}),
            "n-gram drafts, alone": (False, ["--threads", "2", "--speculative-method", "ngram", "--prompt-lookup-min", "1",
                                             "--num-speculative-tokens", "8"], {}),
            "a pace to keep": (True, ["--threads", "1", "--target-itl-ms", "5", "--prefill-chunk-min", "4"], {}),
            "few pages": (True, ["--threads", "1", "--max-model-len", "384", "--kv-cache-memory-bytes", str(pages),
                                 "--max-queued-tokens", "100000"], {}),
        }
        for name, (together, flags, environment) in variants.items():
            with self.subTest(name):
                self.assertEqual(self.answers(requests, together, *flags, **environment), expected)
        self.assertGreater(self.accepted, 0, "no draft was right: nothing was shown about them")
        self.assertGreater(self.preemptions, 0, "few pages were meant to cost somebody its place")

    def test_quantised_weights_keep_that(self):
        requests = draw_requests(6)
        plain = self.answers(requests, False, "--threads", "1")
        for form in ("int8", "int4"):
            with self.subTest(form):
                flags = ["--quantization", form]
                expected = self.answers(requests, False, *flags, "--threads", "1")
                self.assertNotEqual(expected, plain)
                self.assertEqual(self.answers(requests, True, *flags, "--threads", "2"), expected)
                self.assertEqual(self.answers(requests, True, *flags, "--threads", "2", MOLE_ISA="avx2"), expected)

    def test_cache_formats_and_swapping_keep_that(self):
        """Within one format of the cache; and a server that starts again finds the pages of the one before."""
        requests = draw_requests(6)
        answers = {}
        for form in ("auto", "int8", "fp8"):
            with self.subTest(form), tempfile.TemporaryDirectory() as folder:
                flags = ["--kv-cache-dtype", form]
                expected = self.answers(requests, False, *flags, "--threads", "1", "--no-enable-prefix-caching")
                answers[form] = expected
                chunks = ["--max-num-batched-tokens", "16", "--max-num-seqs", "8"]
                self.assertEqual(self.answers(requests, True, *flags, "--threads", "2", *chunks), expected)
                pages = 7 * 64 * self.bytes_per_token(form)
                swap = [*flags, "--max-model-len", "384", "--kv-cache-memory-bytes", str(pages), "--max-queued-tokens",
                        "100000", "--kv-swap-file", os.path.join(folder, "pages"), "--kv-swap-bytes", "67108864"]
                self.assertEqual(self.answers(requests, True, *swap, "--threads", "2"), expected)
                self.assertGreater(self.preemptions, 0, "seven pages were meant to cost somebody its place")
                self.assertEqual(self.answers(requests, False, *swap, "--threads", "1"), expected)
                self.assertGreater(self.loaded_pages, 0, "the second server was meant to find the first one's pages")
                self.assertGreater(self.hit_tokens, 0)
        self.assertEqual(len(set(map(str, answers.values()))), 3, "formats that make no difference were not used")

    def test_drafts_of_the_models_own_module_keep_that(self):
        requests = draw_requests(6)
        with tempfile.TemporaryDirectory() as folder:
            tiny_mtp.write(folder, ARGUMENTS.model, SEED)
            self.model = folder
            expected = self.answers(requests, False, "--threads", "1", "--no-enable-prefix-caching")
            mtp = ["--speculative-method", "mtp"]
            variants = {
                "alone": (False, ["--threads", "1"]),
                "all at once": (True, ["--threads", "2", "--num-speculative-tokens", "2"]),
                "chunks of 16": (True, ["--threads", "1", "--max-num-batched-tokens", "16", "--max-num-seqs", "8"]),
                "int8 cache": (True, ["--threads", "2", "--kv-cache-dtype", "int8"]),
            }
            int8 = self.answers(requests, False, "--threads", "1", "--kv-cache-dtype", "int8")
            self.assertEqual(self.accepted, 0, "no drafts were asked for")
            for name, (together, flags) in variants.items():
                with self.subTest(name):
                    before = self.accepted
                    answers = self.answers(requests, together, *mtp, *flags)
                    self.assertEqual(answers, int8 if "int8" in flags else expected)
                    self.assertGreater(self.accepted, before, "no draft was right: nothing was shown")

    def config(self) -> dict:
        with open(os.path.join(ARGUMENTS.model, "config.json"), encoding="utf-8") as file:
            return json.load(file)

    def bytes_per_token(self, form: str = "auto") -> int:
        config = self.config()
        latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
        number = 2 if "bfloat16" in json.dumps(config) else 4
        scales = {"auto": 0, "int8": 4, "fp8": 4 * -(-latent // 128)}[form]
        codes = latent * number if form == "auto" else -(-latent // 4) * 4
        return (codes + scales + rope * number) * config["num_hidden_layers"]

    def test_trainer_and_server_score_alike(self):
        draw = random.Random(SEED)
        text = " ".join(draw.choices(WORDS, k=200))
        with tempfile.TemporaryDirectory() as folder:
            source, scores = os.path.join(folder, "text.txt"), os.path.join(folder, "scores.jsonl")
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
            done = run(binary("trainer"), "eval", "--model", ARGUMENTS.model, "--input", source, "--log-probs", scores,
                       "--threads", "1")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(scores, encoding="utf-8") as file:
                windows = [json.loads(line) for line in file]
        server = Server(binary("mole-server"), ARGUMENTS.model, "--threads", "2")
        try:
            for window in windows:
                self.compare(server, window)
        finally:
            self.assertEqual(server.stop(), 0)

    def compare(self, server: Server, window: dict) -> None:
        ids = [self.config()["bos_token_id"], *window["targets"]]  # a window begins with BOS
        body = {"prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 0}
        served = post(server, "/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"]
        trained = window["log_probs"]
        self.assertGreater(len(trained), 100)
        self.assertEqual([float_bits(value) for value in served[1 : len(ids)]],
                         [float_bits(value) for value in trained])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    _, tests = parser.parse_known_args(namespace=ARGUMENTS)  # EqualBits.test_… runs one
    print(f"MOLE_SEED={SEED}", file=sys.stderr)
    unittest.main(argv=[sys.argv[0], *tests], verbosity=2)


if __name__ == "__main__":
    main()
