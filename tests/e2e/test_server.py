#!/usr/bin/env python3
"""The real mole-server, judged by OpenAI's Python client, curl and the mole command line.

    test_server.py --bin build/cpu-dev/bin --model models/demo
"""

import argparse
import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

import openai

from harness import TIMEOUT_S, Server, run, wait_until

ARGUMENTS = argparse.Namespace()
CANARY = "canaryword"  # stands in prompts; must never stand in a log
PROMPT = f"Once upon a time {CANARY} there was"
MESSAGES = [{"role": "user", "content": PROMPT}]


def binary(name: str) -> str:
    return os.path.join(ARGUMENTS.bin, name)


class ServedModel(unittest.TestCase):
    """One server for all tests of the class."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(binary("mole-server"), ARGUMENTS.model)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0)
        listed = cls.client.models.list().data[0]
        cls.model = listed.id
        cls.context = listed.max_model_len

    @classmethod
    def tearDownClass(cls):
        wait_until(cls.server.idle, "an idle engine after all requests")
        assert cls.server.stop() == 0
        for record in cls.server.log_records():  # raises on a line that is no JSON
            assert CANARY not in json.dumps(record), f"a prompt in the log: {record}"

    def complete(self, **more):
        arguments = {"model": self.model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0, **more}
        return self.client.completions.create(**arguments)

    def chat(self, **more):
        arguments = {"model": self.model, "messages": MESSAGES, "max_tokens": 24, "temperature": 0, **more}
        return self.client.chat.completions.create(**arguments)


class Models(ServedModel):
    def test_list_and_retrieve(self):
        self.assertEqual(self.model, os.path.basename(os.path.normpath(ARGUMENTS.model)))
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.models.retrieve("no/such model")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.NotFoundError):
            self.complete(model="other")


class Completions(ServedModel):
    def test_whole_and_streamed_are_equal(self):
        whole = self.complete()
        streamed = list(self.complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].text for c in streamed if c.choices), whole.choices[0].text)
        reasons = [c.choices[0].finish_reason for c in streamed if c.choices]
        self.assertEqual([r for r in reasons if r], [whole.choices[0].finish_reason])
        self.assertEqual(streamed[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(streamed[-1].choices, [])
        self.assertTrue(all(c.usage is None for c in streamed[:-1]))
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)

    def test_several_prompts_and_choices(self):
        answer = self.complete(prompt=["A", "B"], n=3, temperature=1, seed=5, max_tokens=8)
        self.assertEqual([c.index for c in answer.choices], list(range(6)))
        again = self.complete(prompt=["A", "B"], n=3, temperature=1, seed=5, max_tokens=8)
        self.assertEqual([c.text for c in answer.choices], [c.text for c in again.choices])
        self.assertGreater(len({c.text for c in answer.choices[:3]}), 1, "n choices are one")

    def test_alone_equals_together(self):
        prompts = [f"{PROMPT} {number}" for number in range(6)]
        alone = [self.complete(prompt=p, logprobs=1).choices[0] for p in prompts]
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            together = list(pool.map(lambda p: self.complete(prompt=p, logprobs=1).choices[0], prompts))
        for one, other in zip(alone, together):
            self.assertEqual(one.text, other.text)
            self.assertEqual(one.logprobs.token_logprobs, other.logprobs.token_logprobs)

    def test_cached_prefix_changes_nothing(self):
        prompt = PROMPT * 8
        first = self.complete(prompt=prompt, logprobs=0, extra_body={"cache_salt": "mine"})
        second = self.complete(prompt=prompt, logprobs=0, extra_body={"cache_salt": "mine"})
        self.assertEqual(first.usage.prompt_tokens_details.cached_tokens, 0)
        if first.usage.prompt_tokens > 64:  # one page of the cache
            self.assertGreater(second.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual(first.choices[0].logprobs, second.choices[0].logprobs)

    def test_stop(self):
        whole = self.complete(max_tokens=40).choices[0].text
        self.assertGreater(len(whole), 12)
        stop = whole[6:10]
        for stream in (False, True):
            answer = self.complete(max_tokens=40, stop=[stop, "never said"], stream=stream)
            chunks = list(answer) if stream else [answer]
            self.assertEqual("".join(c.choices[0].text for c in chunks), whole[: whole.index(stop)])
            self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")

    def test_echo_scores_the_prompt_as_lm_eval_wants(self):
        answer = self.complete(echo=True, logprobs=1, max_tokens=1)
        logprobs = answer.choices[0].logprobs
        self.assertEqual(answer.choices[0].text[: len(PROMPT)], PROMPT)
        self.assertEqual(len(logprobs.tokens), answer.usage.total_tokens)
        self.assertIsNone(logprobs.token_logprobs[0])
        greedy = 0
        for token, logprob, top in zip(logprobs.tokens[1:], logprobs.token_logprobs[1:], logprobs.top_logprobs[1:]):
            self.assertIn(token, top)
            self.assertEqual(top[token], logprob)
            greedy += max(top, key=top.get) == token
        self.assertGreaterEqual(greedy, 1, "the last token was chosen greedily")

    def test_token_ids(self):
        answer = self.client.post("/../tokenize", body={"prompt": PROMPT}, cast_to=object)
        ids = answer["tokens"]
        self.assertEqual(self.complete(prompt=ids).choices[0].text, self.complete().choices[0].text)
        back = self.client.post("/../detokenize", body={"tokens": ids}, cast_to=object)
        self.assertIn(PROMPT, back["prompt"])


class Chat(ServedModel):
    def test_whole_and_streamed_are_equal(self):
        whole = self.chat()
        streamed = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(streamed[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(streamed[-1].usage.total_tokens, whole.usage.total_tokens)
        self.assertEqual(len({(c.id, c.created, c.model) for c in streamed}), 1)

    def test_n_streams(self):
        finished = []
        for chunk in self.chat(n=4, temperature=1, stream=True):
            finished += [c.index for c in chunk.choices if c.finish_reason]
        self.assertEqual(sorted(finished), [0, 1, 2, 3])

    def test_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=3)
        content = answer.choices[0].logprobs.content
        self.assertTrue(content)
        self.assertIsNone(answer.choices[0].logprobs.refusal)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)  # greedy
        text = b"".join(bytes(t.bytes) for t in content).decode(errors="replace")
        self.assertTrue(text.startswith(answer.choices[0].message.content))

    def test_content_parts(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
        self.assertEqual(self.chat(messages=parts).choices[0].message.content, self.chat().choices[0].message.content)


class Errors(ServedModel):
    def test_bad_requests_name_the_field(self):
        for field, value in (("temperature", 3), ("n", 0), ("top_p", 0), ("stop", ["a"] * 5), ("seed", 1.5)):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.complete(**{field: value})
            self.assertEqual(caught.exception.param, field)

    def test_context_length(self):
        for stream in (False, True):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.complete(max_tokens=self.context, stream=stream)
            self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_raw_body_that_is_no_json(self):
        answer = run("curl", "-s", "-w", "%{http_code}", "-H", "content-type: application/json", "-d", "{",
                     self.server.url + "/v1/completions")
        self.assertTrue(answer.stdout.endswith("400"), answer.stdout)

    def test_request_id(self):
        answer = self.client.completions.with_raw_response.create(
            model=self.model, prompt=PROMPT, max_tokens=1, extra_headers={"x-request-id": "e2e-1"})
        self.assertEqual(answer.headers["x-request-id"], "e2e-1")
        self.assertGreaterEqual(int(answer.headers["openai-processing-ms"]), 0)


class Cancellation(ServedModel):
    def test_closed_streams_free_the_engine(self):
        for _ in range(5):
            stream = self.complete(max_tokens=self.context - 64, n=8, stream=True, extra_body={"ignore_eos": True})
            next(iter(stream))
            stream.close()
        wait_until(self.server.idle, "the cancelled requests to end")

    def test_reset_connections_free_the_engine(self):
        body = json.dumps({"prompt": PROMPT, "max_tokens": self.context - 64, "ignore_eos": True, "stream": True})
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=TIMEOUT_S) as raw:
                # Linger of zero seconds: closing sends a reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                raw.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                self.assertTrue(raw.recv(1))
        wait_until(self.server.idle, "the cancelled requests to end")


class Curl(ServedModel):
    def curl(self, path, body):
        answer = run("curl", "-sN", "-i", "-H", "content-type: application/json", "-d", json.dumps(body),
                     self.server.url + path)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        head, _, stream = answer.stdout.replace("\r\n", "\n").partition("\n\n")
        return head.lower(), stream

    def test_streams(self):
        for path, more in (("/v1/completions", {"prompt": PROMPT}), ("/v1/chat/completions", {"messages": MESSAGES})):
            head, stream = self.curl(path, {"max_tokens": 8, "stream": True, **more})
            self.assertIn("content-type: text/event-stream", head)
            self.assertTrue(stream.endswith("data: [DONE]\n\n"))
            for event in stream.strip().split("\n\n")[:-1]:
                self.assertTrue(event.startswith("data: {"), event)
                json.loads(event[len("data: "):])


class CommandLine(ServedModel):
    def mole(self, *arguments, **more):
        return run(binary("mole"), *arguments, **more)

    def test_models(self):
        answer = self.mole("models", "--url", self.server.url)
        self.assertEqual((answer.returncode, answer.stdout), (0, self.model + "\n"))

    def test_complete_and_chat(self):
        flags = ("--url", self.server.url, "--max-tokens", "16", "--temperature", "0")
        text = self.complete(max_tokens=16).choices[0].text
        for arguments, stdin in (((PROMPT,), None), ((), PROMPT + "\n"), ((PROMPT, "--no-stream"), None)):
            answer = self.mole("complete", *flags, *arguments, stdin=stdin)
            self.assertEqual((answer.returncode, answer.stdout), (0, text + "\n"), answer.stderr)
        answer = self.mole("chat", *flags, PROMPT)
        self.assertEqual(answer.stdout, self.chat(max_tokens=16).choices[0].message.content + "\n")
        self.assertNotIn("\033", answer.stdout + answer.stderr)

    def test_stop_and_seed(self):
        flags = ("--url", self.server.url, "--max-tokens", "16", "--seed", "3")
        whole = self.mole("complete", *flags, PROMPT).stdout
        self.assertEqual(self.mole("complete", *flags, PROMPT).stdout, whole)
        stop = whole[4:7]
        self.assertEqual(self.mole("complete", PROMPT, *flags, "--stop", stop).stdout,
                         whole[: whole.index(stop)] + "\n")

    def test_exit_codes(self):
        self.assertEqual(self.mole().returncode, 2)
        self.assertEqual(self.mole("sing").returncode, 2)
        self.assertEqual(self.mole("models", "--no-such-flag").returncode, 2)
        self.assertEqual(self.mole("models", "--url", "ftp://x").returncode, 2)
        self.assertEqual(self.mole("models", "--url", "http://127.0.0.1:1").returncode, 1)
        refused = self.mole("complete", "--url", self.server.url, "--model", "other", "x")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("other", refused.stderr)
        self.assertEqual(self.mole("--help").returncode, 0)

    def test_interrupt_cancels(self):
        command = [binary("mole"), "complete", "--url", self.server.url, "--max-tokens", str(self.context - 64), PROMPT]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            self.assertTrue(process.stdout.read(1))
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            self.assertIn(process.wait(timeout=TIMEOUT_S), (0, 130))  # 0: it had just finished
        wait_until(self.server.idle, "the cancelled request to end")


class Lifecycle(unittest.TestCase):
    def start(self, *flags):
        server = Server(binary("mole-server"), ARGUMENTS.model, *flags)
        self.addCleanup(server.stop)
        return server

    def stream(self, server, **more):
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", timeout=TIMEOUT_S, max_retries=0)
        stream = client.completions.create(model="m", prompt=PROMPT, stream=True, temperature=0, **more)
        return stream, iter(stream)

    def long_request(self, server):
        context = json.loads(run("curl", "-s", server.url + "/v1/models").stdout)["data"][0]["max_model_len"]
        return self.stream(server, max_tokens=context - 64, n=8, extra_body={"ignore_eos": True})

    def test_drain_finishes_what_runs(self):
        server = self.start("--served-model-name", "m")
        _, events = self.stream(server, max_tokens=32, extra_body={"ignore_eos": True})
        next(events)
        server.terminate()
        reasons = [c.choices[0].finish_reason for c in events]
        self.assertEqual(reasons[-1], "length")
        self.assertEqual(server.wait(), 0)

    def test_drain_ends_the_rest_with_an_error_event(self):
        server = self.start("--served-model-name", "m", "--drain-ms", "0")
        _, events = self.long_request(server)
        next(events)
        server.terminate()
        with self.assertRaises(openai.APIError):
            list(events)
        self.assertEqual(server.wait(), 0)

    def test_second_signal_is_fast(self):
        server = self.start("--served-model-name", "m", "--drain-ms", "600000")
        _, events = self.long_request(server)
        next(events)
        server.terminate()
        wait_until(lambda: server.status("/readyz") == 503, "unreadiness")
        server.terminate()
        with self.assertRaises(openai.APIError):
            list(events)
        self.assertEqual(server.wait(), 0)

    def test_api_key(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("# test\nsecret\n")
            keys.flush()
            server = self.start("--api-key-file", keys.name)
            with self.assertRaises(openai.AuthenticationError):
                openai.OpenAI(base_url=server.url + "/v1", api_key="wrong", max_retries=0).models.list()
            openai.OpenAI(base_url=server.url + "/v1", api_key="secret", max_retries=0).models.list()
            answer = run(binary("mole"), "models", "--url", server.url, "--api-key-file", "/dev/stdin", stdin="secret\n")
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertEqual(server.status("/metrics"), 401)
            self.assertEqual(server.status("/health"), 200)

    def test_exit_codes(self):
        mole_server = binary("mole-server")
        with tempfile.TemporaryDirectory() as empty:
            self.assertEqual(run(mole_server, empty, "--port", "0").returncode, 4)
        self.assertEqual(run(mole_server, "/no/such/folder").returncode, 4)
        self.assertEqual(run(mole_server).returncode, 2)
        self.assertEqual(run(mole_server, ARGUMENTS.model, "--max-num-seq", "3").returncode, 2)
        self.assertEqual(run(mole_server, ARGUMENTS.model, "--host", "0.0.0.0").returncode, 3)
        self.assertEqual(run(mole_server, ARGUMENTS.model, "--api-key-file", "/no/such").returncode, 3)
        self.assertEqual(run(mole_server, ARGUMENTS.model, "--port", "0", "--max-model-len", "99999999").returncode, 3)
        self.assertEqual(run(mole_server, "--help").returncode, 0)
        self.assertIn("mole-server", run(mole_server, "--version").stdout)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            self.assertEqual(run(mole_server, ARGUMENTS.model, "--port", port).returncode, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, help="folder of mole-server and mole")
    parser.add_argument("--model", required=True, help="model directory")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
