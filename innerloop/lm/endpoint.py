"""Endpoint: a language model behind an OpenAI-compatible server: Chat Completions, Completions or Responses.

    model = Endpoint("http://127.0.0.1:8080/v1", "qwen3", api="chat")

Prompts of a call are sent at once, `workers` at a time. A busy or broken server is asked again, later each time, and
after the time that it names (Retry-After). The key comes from the environment and is written nowhere.
"""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from innerloop.budget import reserve
from innerloop.errors import InputError
from innerloop.ledger import in_this_context
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import Prompt, Reply, Sampling, kind_of
from innerloop.lm.replies import BadReply, body_of, reply_of
from innerloop.text import printable

__all__ = ["APIS", "Endpoint", "EndpointError"]

APIS = {  # name: (path, capabilities)
    "chat": ("/chat/completions", {"chat", "stop", "n", "seed", "logprobs", "usage"}),
    "completions": ("/completions", {"raw", "prefill", "stop", "n", "seed", "logprobs", "usage"}),
    "responses": ("/responses", {"chat", "usage"}),
}
LIMITS = {"api.openai.com": "max_completion_tokens"}  # the field of the most new tokens of chats, by host
LIMIT = "max_tokens"  # of all others
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
        self._send = sender(client, self.url, key, timeout)
        if client is None:
            weakref.finalize(self, self._send.client.close)

    def generate_each(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """One request a prompt, `workers` at a time. The first error ends the call; replies that came are charged."""
        _, sampling = self.fitted(prompts, sampling, prefix)  # for all of them, so that none takes it all
        if len(prompts) == 1:
            return [self.ask(prompts[0], sampling, prefix)]
        with ThreadPoolExecutor(min(self.workers, len(prompts))) as pool:
            futures = [pool.submit(in_this_context(self.ask), p, sampling, prefix) for p in prompts]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def ask(self, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int]) -> Reply:
        """The reply to one prompt, after as many attempts as it takes and `retries` allow."""
        retries = 0 if self._unreachable else self.retries  # of calls that failed together, one waits
        for tried in range(retries + 1):
            lengths, fitted = self.fitted([prompt], sampling, prefix)
            with reserve(**self.most_spent(lengths, fitted)) as held:
                attempt = self.attempt(prompt, fitted, prefix)
                if attempt.reply is not None:
                    self._unreachable = False
                    held.settle(**self.spent_on([attempt.reply]))
                    return attempt.reply
                if not attempt.may_have_run:
                    held.settle()
            if attempt.status not in RETRIED and attempt.status not in (0, 200):
                break
            if tried < retries:
                time.sleep(min(LONGEST_WAIT, max(attempt.wait, random.uniform(0.5, 1.0) * self.backoff * 2**tried)))
        self._unreachable = attempt.status == 0 and not attempt.may_have_run
        raise EndpointError(f"{self.name}: {attempt.problem}{mend(attempt)}")

    def attempt(self, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int]) -> Attempt:
        """One request."""
        body = body_of(self.api, self.model, prompt, sampling, prefix, self.limit) | self.extra
        attempt: Attempt = self._send(APIS[self.api][0], body)
        if attempt.status != 200 or attempt.problem:
            return attempt
        try:
            return replace(attempt, reply=reply_of(self.api, attempt.value, sampling))
        except BadReply as error:
            return Attempt(None, 200, str(error), may_have_run=True)

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
        import httpx

        try:
            answer = self.client.post(self.url + path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Attempt(problem=f"the server cannot be reached ({error})")
        except httpx.UnsupportedProtocol:
            return Attempt(status=400, problem="the URL has no http:// or https://")
        except (httpx.TimeoutException, httpx.TransportError) as error:
            return Attempt(problem=f"the reply did not arrive ({type(error).__name__})", may_have_run=True)
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
