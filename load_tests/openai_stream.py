"""Streamed completions from any server that speaks OpenAI's protocol, with the time of every event.

Standard library only and little work per event: client and server share the machine's cores.
"""

import asyncio
import dataclasses
import json
import time
import urllib.parse


@dataclasses.dataclass
class Request:
    prompt: list[int]  # token ids
    max_tokens: int


@dataclasses.dataclass
class Answer:
    """Times are seconds of time.perf_counter(); token_times has one entry for each event with text."""

    sent: float = 0.0
    token_times: list[float] = dataclasses.field(default_factory=list)
    done: float = 0.0
    completion_tokens: int = 0
    text: str = ""
    error: str = ""

    @property
    def ttft(self) -> float:
        return self.token_times[0] - self.sent

    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.token_times, self.token_times[1:])]


class Client:
    """One server. `model` is the name that requests carry; without one the server's first is asked for."""

    def __init__(self, url: str, model: str = "", api_key: str = "", timeout_s: float = 600.0):
        parts = urllib.parse.urlsplit(url if "//" in url else "http://" + url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.path = parts.path.rstrip("/")
        if not self.path.endswith("/v1"):
            self.path += "/v1"
        self.model, self.api_key, self.timeout_s = model, api_key, timeout_s

    def _head(self, method: str, path: str, length: int) -> bytes:
        key = f"Authorization: Bearer {self.api_key}\r\n" if self.api_key else ""
        return (f"{method} {self.path}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{key}"
                f"Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").encode()

    async def find_model(self) -> str:
        if not self.model:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            writer.write(self._head("GET", "/models", 0))
            body = b"".join([chunk async for chunk in _body(reader, await _status_and_headers(reader))])
            writer.close()
            self.model = json.loads(body)["data"][0]["id"]
        return self.model

    async def complete(self, request: Request) -> Answer:
        """Never raises for what the server or network does: the answer's `error` says it."""
        answer = Answer(sent=time.perf_counter())
        try:
            await asyncio.wait_for(self._stream(request, answer), self.timeout_s)
        except (OSError, ValueError, KeyError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        answer.done = time.perf_counter()
        if not answer.error and not answer.token_times:
            answer.error = "no token came"
        return answer

    async def _stream(self, request: Request, answer: Answer) -> None:
        body = json.dumps({"model": self.model, "prompt": request.prompt, "max_tokens": request.max_tokens,
                           "temperature": 0, "ignore_eos": True, "stream": True,
                           "stream_options": {"include_usage": True}}).encode()
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        try:
            writer.write(self._head("POST", "/completions", len(body)) + body)
            headers = await _status_and_headers(reader)
            buffer = b""
            async for chunk in _body(reader, headers):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    _take_event(line, answer)
        finally:
            writer.close()


def _take_event(line: bytes, answer: Answer) -> None:
    if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
        return
    now = time.perf_counter()
    event = json.loads(line[5:])
    if event.get("error"):
        raise ValueError(json.dumps(event["error"]))
    for choice in event.get("choices") or []:
        # A token may have no text of its own (part of a character): the last event, which only says why it
        # ended, is told apart by its reason.
        if choice.get("text") or choice.get("finish_reason") is None:
            answer.token_times.append(now)
            answer.text += choice.get("text") or ""
    if event.get("usage"):
        answer.completion_tokens = event["usage"]["completion_tokens"]


async def _status_and_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    status = int(head[0].split()[1])
    if status != 200:
        body = b"".join([chunk async for chunk in _body(reader, headers)])
        raise ValueError(f"HTTP {status}: {body[:300].decode(errors='replace')}")
    return headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]):
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while chunk := await reader.read(1 << 16):
            yield chunk
