"""Endpoint: a language model behind an OpenAI-compatible server: Chat Completions, Completions or Responses.

    model = Endpoint("http://127.0.0.1:8080/v1", "qwen3", api="chat")

Prompts of a call are sent at once, `workers` at a time. A busy or broken server is asked again, later each time, and
after the time that it names (Retry-After). The key comes from the environment and is written nowhere.

A call that somebody watches (lm/watch.py) is a stream, where it is of Chat Completions or Completions and wants no
log probabilities. It is not made again once a piece was given; cancelled, its connection is closed, and since nobody
says then what it cost, it is charged with the most that it might.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from innerloop.budget import reserve
from innerloop.errors import InputError
from innerloop.ledger import in_this_context
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import Prompt, Reply, Sampling, kind_of
from innerloop.lm.replies import STREAM, BadReply, Chunks, body_of, reply_of
from innerloop.lm.watch import Cancelled, Piece, Watch, watched
from innerloop.text import printable

__all__ = ["APIS", "Endpoint", "EndpointError"]

APIS = {  # name: (path, capabilities)
    "chat": ("/chat/completions", {"chat", "stop", "n", "seed", "logprobs", "usage"}),
    "completions": ("/completions", {"raw", "prefill", "stop", "n", "seed", "logprobs", "usage"}),
    "responses": ("/responses", {"chat", "usage"}),
}
LIMITS = {"api.openai.com": "max_completion_tokens"}  # the field of the most new tokens of chats, by host
LIMIT = "max_tokens"  # of all others
STREAMED = ("chat", "completions")  # APIs whose replies are watched
RETRIED = {408, 409, 429, 500, 502, 503, 504}  # HTTP statuses after which a call is made again
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
TEMPLATE_TOKENS, MESSAGE_TOKENS = 256, 16  # at most, of a chat template, and of each message
WORKERS, MOST_WORKERS = 8, 256


class EndpointError(InputError):
    """The server could not be reached, or refused."""


@dataclass(frozen=True)
class Attempt:
    """Result of one request."""

    value: Any = None  # the JSON of the reply; None where there is none
    status: int = 0  # HTTP status; 0: no answer came
    problem: str = ""  # what went wrong, as part of a sentence
    wait: float = 0.0  # seconds that the server asks to wait
    may_have_run: bool = False  # the server may have written tokens that did not arrive
    reply: Reply | None = None  # in `value`
    begun: bool = False  # pieces of it were given to who watches


class Endpoint(Backend):
    """See the module docstring.

    url         up to and including /v1
    model       the name that the server knows
    timeout     seconds to wait for a reply
    retries     further attempts, after `backoff` seconds, twice that, and so on
    key         environment variable that holds the key; "" for none
    context     most tokens of prompt and completion, where you know them
    capabilities  further ones that the server has, such as "prefill" of vLLM's or llama.cpp's chat; or fewer, by "-n"
    client      an httpx.Client, or an `openai.OpenAI`, to be used instead of a new connection
    limit       the field that holds the most new tokens; "": max_tokens, and max_completion_tokens of OpenAI's chats
    extra       further fields of every request, such as {"chat_template_kwargs": {"enable_thinking": False}}
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api: str = "chat",
        key: str = "OPENAI_API_KEY",
        context: int = 1 << 17,
        capabilities: Sequence[str] = (),
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 0.1,
        workers: int = WORKERS,
        client: Any = None,
        limit: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if api not in APIS:
            raise InputError(f'no API is called "{printable(api)}": use one of {", ".join(APIS)}')
        if not 1 <= workers <= MOST_WORKERS or retries < 0 or not timeout > 0:
            raise InputError(
                f"workers={workers}, retries={retries}, timeout={timeout}: give 1 to {MOST_WORKERS}, 0 or more, above 0"
            )
        self.url, self.model, self.api, self.name = url.rstrip("/"), model, api, f"{model} at {url.rstrip('/')}"
        added, removed = {c for c in capabilities if c[0] != "-"}, {c[1:] for c in capabilities if c[0] == "-"}
        self.context, self.capabilities = context, frozenset((APIS[api][1] | added) - removed)
        self.limit = limit or (LIMITS.get(host_of(self.url), LIMIT) if api == "chat" else LIMIT)
        self.retries, self.backoff, self.workers, self.extra = retries, backoff, workers, dict(extra or {})
        self._unreachable = False  # the last call found no server
        self._streams = api in STREAMED  # and the server has not refused to
        self._send = sender(client, self.url, key, timeout)
        if client is None:
            weakref.finalize(self, self._send.client.close)

    def generate_each(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """One request a prompt, `workers` at a time. The first error ends the call; replies that came are charged."""
        _, sampling = self.fitted(prompts, sampling, prefix)  # for all of them, so that none takes it all
        if len(prompts) == 1:
            return [self.ask(prompts[0], sampling, prefix)]
        with ThreadPoolExecutor(min(self.workers, len(prompts))) as pool:
            futures = [
                pool.submit(in_this_context(self.ask), p, sampling, prefix, i * sampling.n)
                for i, p in enumerate(prompts)
            ]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def ask(self, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int], first: int = 0) -> Reply:
        """The reply to one prompt, after as many attempts as it takes and `retries` allow.

        first   number of its first completion in the call
        """
        retries = 0 if self._unreachable else self.retries  # of calls that failed together, one waits
        for tried in range(retries + 1):
            lengths, fitted = self.fitted([prompt], sampling, prefix)
            with reserve(**self.most_spent(lengths, fitted)) as held:
                attempt = self.attempt(prompt, fitted, prefix, first)
                if attempt.reply is not None:
                    self._unreachable = False
                    held.settle(**self.spent_on([attempt.reply]))
                    return attempt.reply
                if not attempt.may_have_run:
                    held.settle()
            if attempt.begun or (attempt.status not in RETRIED and attempt.status not in (0, 200)):
                break
            if tried < retries:
                time.sleep(min(LONGEST_WAIT, max(attempt.wait, random.uniform(0.5, 1.0) * self.backoff * 2**tried)))
        self._unreachable = attempt.status == 0 and not attempt.may_have_run
        raise EndpointError(f"{self.name}: {attempt.problem}{mend(attempt)}")

    def attempt(self, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int], first: int) -> Attempt:
        """One request; a server that refuses a stream is asked for whole replies from then on."""
        body = body_of(self.api, self.model, prompt, sampling, prefix, self.limit) | self.extra
        path, watch = APIS[self.api][0], watched()
        attempt: Attempt
        if watch is not None and self._streams and not sampling.logprobs and hasattr(self._send, "stream"):
            attempt = self._send.stream(path, body, Chunks(self.api), watch, first)
            if attempt.status in (400, 422) and "stream" in attempt.problem:
                self._streams = False
                attempt = self._send(path, body)
        else:
            attempt = self._send(path, body)
        if attempt.status != 200 or attempt.problem:
            return attempt
        try:
            return replace(attempt, reply=reply_of(self.api, attempt.value, sampling))
        except BadReply as error:
            return Attempt(None, 200, str(error), may_have_run=True, begun=attempt.begun)

    def count_tokens(self, prompt: Prompt) -> int:
        """No fewer than the server will count: a token has at least a byte, and a template few tokens."""
        if isinstance(prompt, str):
            return len(prompt.encode()) + 1
        if kind_of(prompt) == "ids":
            return len(prompt)
        contents = sum(len(m["content"].encode()) + MESSAGE_TOKENS for m in prompt)  # type: ignore[index, misc]
        return contents + TEMPLATE_TOKENS


def mend(attempt: Attempt) -> str:
    """What to do about a failure, as the end of a sentence."""
    hints = {401: "check the key", 403: "check the key", 404: "check the URL and the model's name"}
    hints |= {0: "check that the server runs and the URL is right", 429: "ask less at once (workers=), or later"}
    return f": {hints[attempt.status]}" if attempt.status in hints else ""


# -- sending ----------------------------------------------------------------------------------------------------------


def sender(client: Any, url: str, key: str, timeout: float) -> Any:
    """A function (path, body) -> Attempt."""
    if client is not None and hasattr(client, "chat"):
        return OpenAISender(client)
    try:
        import httpx
    except ImportError:
        raise InputError('an endpoint needs httpx: pip install "innerloop[lm]"') from None
    if client is None:
        secret = os.environ.get(key, "") if key else ""
        if key and not secret and not is_local(url):
            raise InputError(f"{url} needs a key: set the environment variable {key}, or give key='' if it needs none")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        try:
            client = httpx.Client(base_url=url, timeout=timeout, headers=headers)
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(
                f"{printable(url)} is not a valid URL ({error}): give one such as http://127.0.0.1:8080/v1"
            ) from None
    return HttpxSender(client, url)


def host_of(url: str) -> str:
    """The host of a URL, with its port where one is named."""
    return url.partition("://")[2].partition("/")[0]


def is_local(url: str) -> bool:
    """Whether a URL is of this machine, where a server rarely wants a key."""
    return host_of(url).startswith(("127.0.0.1", "localhost", "[::1]"))


class HttpxSender:
    """Sends by an httpx.Client."""

    def __init__(self, client: Any, url: str) -> None:
        self.client, self.url = client, url

    def __call__(self, path: str, body: dict[str, Any]) -> Attempt:
        return tried(lambda: self.whole(self.client.post(self.url + path, json=body)))

    def stream(self, path: str, body: dict[str, Any], chunks: Chunks, watch: Watch, first: int) -> Attempt:
        """The reply, of which the watch gets every piece. Raises Cancelled where it was."""
        given = [False]

        def give(added: Sequence[tuple[int, str]]) -> None:
            for index, text in added:
                given[0] = True
                if watch.piece is not None:
                    watch.piece(Piece(first + index, (text,), (0.0,)))

        def read() -> Attempt:
            with self.client.stream("POST", self.url + path, json=body | STREAM) as answer, ended_by(watch, answer):
                if answer.status_code != 200 or "event-stream" not in answer.headers.get("Content-Type", ""):
                    answer.read()  # a refusal, or a server that knows no streams
                    return self.whole(answer)
                for value in data_of(answer.iter_lines()):
                    give(chunks.add(value))
                    if watch.cancelled:
                        break
            return Attempt(chunks.whole(), 200)

        try:
            attempt = tried(read)
        except ValueError as error:
            said = str(error) if isinstance(error, BadReply) else "a chunk of the reply is not JSON"
            attempt = Attempt(None, 200, said, may_have_run=True)
        if watch.cancelled:
            raise Cancelled("the call was cancelled while it ran")
        return replace(attempt, begun=given[0])

    def whole(self, answer: Any) -> Attempt:
        """A reply that has come as a whole."""
        try:
            value = answer.json()
        except ValueError:
            ran = answer.status_code == 200
            return Attempt(
                None, answer.status_code, f"the reply is not JSON (HTTP {answer.status_code})", may_have_run=ran
            )
        if answer.status_code != 200:
            said = printable(said_by(value), 200)
            wait = seconds(answer.headers.get("Retry-After", ""))
            return Attempt(None, answer.status_code, f"HTTP {answer.status_code}, {said}", wait)
        return Attempt(value, 200)


def tried(send: Callable[[], Attempt]) -> Attempt:
    """send(), or what of the network went wrong."""
    import httpx

    try:
        return send()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Attempt(problem=f"the server cannot be reached ({error})")
    except httpx.UnsupportedProtocol:
        return Attempt(status=400, problem="the URL has no http:// or https://")
    except (httpx.TimeoutException, httpx.TransportError) as error:
        return Attempt(problem=f"the reply did not arrive ({type(error).__name__})", may_have_run=True)


@contextmanager
def ended_by(watch: Watch, answer: Any) -> Iterator[None]:
    """Context of reading a reply, whose connection is closed when the watch is cancelled."""
    network = answer.extensions.get("network_stream")
    connection: Any = network.get_extra_info("socket") if network is not None else None

    def hang_up() -> None:
        with suppress(OSError, AttributeError):  # it is closed already, or there is none
            connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads, as close() would not

    with watch.ended_by(hang_up):
        yield


def data_of(lines: Iterator[str]) -> Iterator[Any]:
    """The JSON values of server-sent events, up to the last, [DONE]. Raises ValueError."""
    for line in lines:
        name, _, data = line.partition(":")
        if name == "data" and data.strip():
            if data.strip() == "[DONE]":
                return
            yield json.loads(data)


class OpenAISender:
    """Sends by a client object of the package openai, whose own retries are turned off."""

    def __init__(self, client: Any) -> None:
        self.client = client.with_options(max_retries=0) if hasattr(client, "with_options") else client

    def __call__(self, path: str, body: dict[str, Any]) -> Attempt:
        resource = {
            "/chat/completions": lambda: self.client.chat.completions,
            "/completions": lambda: self.client.completions,
        }
        create = resource.get(path, lambda: self.client.responses)().create
        known = {k: v for k, v in body.items() if k in CLIENT_FIELDS}
        rest = {k: v for k, v in body.items() if k not in CLIENT_FIELDS}
        try:
            return Attempt(create(**known, extra_body=rest).model_dump(), 200)
        except Exception as error:  # the package's own kinds; a status where the server answered
            status = getattr(error, "status_code", 0)
            ran = not status and "connect" not in type(error).__name__.lower()
            return Attempt(None, status, printable(f"{type(error).__name__}: {error}", 200), may_have_run=ran)


CLIENT_FIELDS = {
    "model", "messages", "prompt", "input", "max_tokens", "max_completion_tokens", "max_output_tokens", "stop",
    "temperature", "top_p", "n", "seed", "logprobs",
}  # fmt: skip


def said_by(value: Any) -> str:
    """The message of an error in the protocol's form, or what there is."""
    error = value.get("error", value) if isinstance(value, dict) else value
    return str(error.get("message", error) if isinstance(error, dict) else error)


def seconds(text: str) -> float:
    """Seconds of a Retry-After header; 0 for a date or anything else."""
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
