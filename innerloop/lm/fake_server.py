"""FakeServer: an OpenAI-compatible server on loopback over any language model, with faults on demand, for tests.

    with FakeServer(Scripted(["4"]), faults=Faults(busy=0.2, broken=0.1, seed=3)) as server:
        model = Endpoint(server.url, "any", key="")
        ...
    server.served.tokens_out     # what it really wrote: for replies that were lost on the way too

It speaks Chat Completions and Completions, both as streams too, and Responses. `served` counts every reply that the
model made, whether or not it arrived.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from innerloop.errors import InputError
from innerloop.ledger import Ledger
from innerloop.lm.protocol import Prompt, Reply

__all__ = ["FakeServer", "Faults"]

MOST_BODY = 4 << 20  # bytes of a request


@dataclass(frozen=True)
class Faults:
    """Chances, 0 to 1, of each fault; at most one happens to a request."""

    busy: float = 0.0  # 429 with Retry-After, before anything is written
    broken: float = 0.0  # 500, before anything is written
    truncated: float = 0.0  # the connection ends in the middle of the reply
    malformed: float = 0.0  # the reply is not JSON
    wrong_usage: float = 0.0  # the reply claims more tokens than were asked for
    slow: float = 0.0  # the reply comes `delay` seconds late
    delay: float = 0.3
    retry_after: float = 0.01  # seconds that a busy server asks for
    seed: int = 0

    def kinds(self) -> dict[str, float]:
        """The faults and their chances."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("delay", "retry_after", "seed")}


class QuietServer(ThreadingHTTPServer):
    """A server to which clients that hang up are no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakeServer:
    """Serves `model` until the context ends.

    latency  seconds that every reply takes
    pause    seconds between two chunks of a stream
    refuses  fields of a request that get 400, as max_tokens does where only max_completion_tokens is known
    ignores  fields that the server drops and says nothing of, as many do with seed, n or stop
    """

    def __init__(
        self,
        model: Any,
        *,
        faults: Faults | None = None,
        latency: float = 0.0,
        pause: float = 0.0,
        key: str = "",
        refuses: Sequence[str] = (),
        ignores: Sequence[str] = (),
    ) -> None:
        self.refuses, self.ignores = tuple(refuses), tuple(ignores)
        self.model, self.faults, self.latency, self.key = model, faults or Faults(), latency, key
        self.pause, self.streams, self.hung_up = (
            pause,
            0,
            0,
        )  # replies as streams, and those that nobody read to the end
        self.served, self.requests, self.most_at_once = Ledger(), 0, 0
        self._random, self._lock, self._active = random.Random(self.faults.seed), threading.Lock(), 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": server.model.name, "object": "model"}]})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(min(length, MOST_BODY))
                server.handle(self, body)

            def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None: ...

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()

    def fault(self) -> str:
        """The fault of the next request; "" for none."""
        with self._lock:
            drawn = self._random.random()
        for kind, chance in self.faults.kinds().items():
            if drawn < chance:
                return kind
            drawn -= chance
        return ""

    def handle(self, request: Any, body: bytes) -> None:
        with self._lock:
            self.requests += 1
            self._active += 1
            self.most_at_once = max(self.most_at_once, self._active)
        try:
            self._handle(request, body)
        finally:
            with self._lock:
                self._active -= 1

    def _handle(self, request: Any, body: bytes) -> None:
        time.sleep(self.latency)
        fault, path = self.fault(), request.path.removeprefix("/v1")
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return request.answer(401, problem("the key is not valid"))
        if fault == "busy":
            return request.answer(429, problem("too many requests"), {"Retry-After": str(self.faults.retry_after)})
        if fault == "broken":
            return request.answer(500, problem("something broke"))
        try:
            reply = self.reply(path, json.loads(body))
        except (InputError, ValueError, KeyError) as error:
            return request.answer(400, problem(str(error)))
        if reply is None:
            return request.answer(404, problem(f"there is no {path}"))
        value, real = reply
        self.served.charge(tokens_in=real.tokens_in, tokens_out=real.tokens_out, completions=len(real.completions))
        if fault == "wrong_usage":
            usage = value["usage"]
            usage["output_tokens" if "output_tokens" in usage else "completion_tokens"] += 1_000_000
        asked = {k: v for k, v in json.loads(body).items() if k not in self.ignores}
        if fault == "slow":
            time.sleep(self.faults.delay)
        if asked.get("stream"):
            return self.stream(request, value, asked, fault)
        data = json.dumps(value).encode()
        if fault == "malformed":
            data = data[: len(data) // 2]
        if fault == "truncated":
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data[: len(data) // 2])
            request.close_connection = True
            return None
        return request.answer(200, data)

    def stream(self, request: Any, value: dict[str, Any], body: dict[str, Any], fault: str) -> None:
        """The reply in server-sent events of a word each, or as many as a fault leaves."""
        chunks = chunks_of(value, bool((body.get("stream_options") or {}).get("include_usage")))
        if fault in ("truncated", "malformed"):
            chunks = chunks[: len(chunks) // 2]
        data = [json.dumps(chunk) for chunk in chunks]
        data += {"truncated": [], "malformed": ['{"choices": [']}.get(fault, ["[DONE]"])
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        with self._lock:
            self.streams += 1
        try:
            for i, text in enumerate(data):
                time.sleep(self.pause if i else 0)
                event = f"data: {text}\n\n".encode()
                request.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            if fault != "truncated":
                request.wfile.write(b"0\r\n\r\n")
        except OSError:
            with self._lock:
                self.hung_up += 1
            fault = "truncated"
        request.close_connection = request.close_connection or fault == "truncated"

    def reply(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], Reply] | None:
        """(the reply as JSON, the model's own); None for a path that is not known."""
        builders = {"/chat/completions": chat_reply, "/completions": text_reply, "/responses": response_reply}
        if path not in builders:
            return None
        if refused := next((name for name in self.refuses if name in body), None):
            raise ValueError(f"Unsupported parameter: '{refused}' is not supported with this model.")
        body = {k: v for k, v in body.items() if k not in self.ignores}
        prompt: Prompt = (
            body["messages"] if path == "/chat/completions" else body.get("prompt") or body.get("input", "")
        )
        stop = body.get("stop") or ()
        most = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens") or 16
        (real,) = self.model.generate(
            [prompt], max_new_tokens=most, stop=(stop,) if isinstance(stop, str) else stop, n=body.get("n") or 1,
            temperature=body.get("temperature", 1.0), top_p=body.get("top_p") or 1.0, seed=body.get("seed"),
            logprobs=bool(body.get("logprobs")),
        )  # fmt: skip
        return builders[path](real, body), real


def problem(message: str) -> dict[str, Any]:
    """An error in the form of the protocol."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def chat_reply(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """Chat Completions."""
    choices: list[dict[str, Any]] = []
    for i, c in enumerate(reply.completions):
        logprobs = None if c.logprobs is None else {"content": [{"token": "", "logprob": p} for p in c.logprobs]}
        message = {"role": "assistant", "content": c.text}
        choices.append({"index": i, "message": message, "finish_reason": c.finish, "logprobs": logprobs})
    return {"id": "chatcmpl-0", "object": "chat.completion", "choices": choices, "usage": usage_of(reply)}


def chunks_of(value: dict[str, Any], usage: bool) -> list[dict[str, Any]]:
    """A reply of Chat Completions or Completions as the chunks of a stream, a word each."""
    chunks: list[dict[str, Any]] = []
    for choice in value["choices"]:
        chat = "message" in choice
        text = choice["message"]["content"] if chat else choice["text"]
        parts = [word + " " for word in text.split(" ")]
        parts[-1] = parts[-1][:-1]
        for k, part in enumerate([*parts, ""]):
            said: dict[str, Any] = {"delta": {"content": part}} if chat else {"text": part}
            finish = choice["finish_reason"] if k == len(parts) else None
            chunks.append({"choices": [{"index": choice["index"], **said, "finish_reason": finish}]})
    return chunks + ([{"choices": [], "usage": value["usage"]}] if usage else [])


def text_reply(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """Completions."""
    choices: list[dict[str, Any]] = []
    for i, c in enumerate(reply.completions):
        logprobs = None if c.logprobs is None else {"token_logprobs": list(c.logprobs)}
        choices.append({"index": i, "text": c.text, "finish_reason": c.finish, "logprobs": logprobs})
    return {"id": "cmpl-0", "object": "text_completion", "choices": choices, "usage": usage_of(reply)}


def response_reply(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """Responses."""
    (c,) = reply.completions
    content = [{"type": "output_text", "text": c.text}]
    usage = {"input_tokens": reply.tokens_in, "output_tokens": reply.tokens_out}
    cut = None if c.finish == "stop" else {"reason": "max_output_tokens"}
    return {
        "id": "resp-0", "object": "response", "status": "completed" if cut is None else "incomplete",
        "incomplete_details": cut, "output": [{"type": "message", "role": "assistant", "content": content}],
        "usage": usage | {"total_tokens": reply.tokens_in + reply.tokens_out},
    }  # fmt: skip


def usage_of(reply: Reply) -> dict[str, Any]:
    """The usage of Chat Completions and Completions."""
    total = reply.tokens_in + reply.tokens_out
    usage: dict[str, Any] = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out}
    return usage | {"total_tokens": total, "prompt_tokens_details": {"cached_tokens": reply.tokens_cached}}
