"""Local: a GGUF file on this machine, run by llama.cpp (the package xllamacpp), which needs neither key nor network.

    model = Local("SmolLM2-135M-Instruct.Q4_1.gguf")

llama.cpp's own server runs in this process, on loopback, with continuous batching over `slots` rows. Prompts are sent
as token ids, chat messages after the file's own template, so that tokens are counted exactly and what was written is
never tokenised anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.budget import reserve
from innerloop.errors import InputError
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import CAPABILITIES, Completion, Prompt, Reply, Sampling, kind_of
from innerloop.lm.watch import Piece, Watch, watched

__all__ = ["Local"]

SLOTS, CONTEXT = 8, 2048
KEPT = 4096  # texts whose ids are kept
MAGIC = b"GGUF"
READ_SIZE = 1 << 20
QUIET = -1  # of llama.cpp's log


class Local(Backend):
    """See the module docstring.

    slots    completions at once
    context  most tokens of a prompt and its completion
    threads  of the CPU; 0: all
    Raises InputError for a file that is not there or no GGUF, and where xllamacpp is not installed.
    """

    def __init__(self, path: Path | str, *, slots: int = SLOTS, context: int = CONTEXT, threads: int = 0) -> None:
        if slots < 1 or context < 16:
            raise InputError(f"slots={slots}, context={context}: give 1 or more slots and at least 16 tokens")
        self.path = Path(path)
        self.name = f"{self.path.name} ({digest_of(self.path)[:12]})"
        self.context, self.slots = context, slots
        self.capabilities = frozenset(CAPABILITIES) - {"scoring"}
        self._tokenize = lru_cache(KEPT)(self._tokenize_once)
        self._template = lru_cache(KEPT)(self._template_once)
        self._server, self._http = serve(self.path, slots, context, threads)
        import httpx  # there, since `serve` took it

        self._ended = httpx.RemoteProtocolError

    def close(self) -> None:
        """End the server and free the weights."""
        self._http.close()
        self._server = None

    # -- tokens -------------------------------------------------------------------------------------------------------
    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        """The ids of a text. special: names of special tokens in it, such as <|im_start|>, are those tokens."""
        return self._tokenize(text, special)

    def _tokenize_once(self, text: str, special: bool) -> tuple[int, ...]:
        body = {"content": text, "add_special": special, "parse_special": special}
        return tuple(self._post("/tokenize", body)["tokens"])

    def _template_once(self, messages: str) -> str:
        """Messages, as JSON, by the file's chat template."""
        return str(self._post("/apply-template", {"messages": json.loads(messages)})["prompt"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self._post("/detokenize", {"tokens": list(ids)})["content"])

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt: messages by the file's chat template, a text as it is."""
        kind = kind_of(prompt)
        if kind == "ids":
            return tuple(prompt)  # type: ignore[arg-type]
        if kind == "raw":
            return self.encode(prompt)  # type: ignore[arg-type]
        messages = [dict(m) for m in prompt]  # type: ignore[arg-type, call-overload]
        return self.encode(self._template(json.dumps(messages)), special=True)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.prompt_ids(prompt))

    # -- calls --------------------------------------------------------------------------------------------------------
    def generate_each(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """Every completion is a request of its own, `slots` at a time; the prompt of a reply is counted once."""
        begun = self.encode(prefix) if isinstance(prefix, str) else tuple(prefix)
        rows = [self.prompt_ids(p) + begun for p in prompts]
        lengths, sampling = self.fitted(rows, sampling, "")
        with reserve(**self.most_spent(lengths, sampling)) as held:
            wanted = [(row, (sampling.seed or 0) + i) for row in rows for i in range(sampling.n)]
            watch = watched()  # here, as the threads of the pool have no context
            with ThreadPoolExecutor(min(self.slots, len(wanted))) as pool:
                made = list(pool.map(lambda i: self._complete(*wanted[i], sampling, i, watch), range(len(wanted))))
            replies = []
            for i, length in enumerate(lengths):
                part = made[i * sampling.n : (i + 1) * sampling.n]
                replies.append(Reply(tuple(c for c, _ in part), length, min(cached for _, cached in part)))
            held.settle(**self.spent_on(replies))
        return replies

    def _complete(
        self, row: Sequence[int], seed: int, sampling: Sampling, number: int, watch: Watch | None
    ) -> tuple[Completion, int]:
        """(one completion, tokens of the prompt that were cached); number: of the completion in its call."""
        body: dict[str, Any] = {
            "prompt": list(row), "n_predict": sampling.max_new_tokens, "temperature": sampling.temperature,
            "top_p": sampling.top_p, "top_k": 0, "min_p": 0.0, "seed": seed % (1 << 32), "stop": list(sampling.stop),
            "return_tokens": True, "cache_prompt": True, "repeat_penalty": 1.0,
        }  # fmt: skip
        if sampling.logprobs:
            body["n_probs"] = 1
        value = self._post("/completion", body) if watch is None else self._stream(body, number, watch)
        finish = "length" if value["stop_type"] == "limit" else "stop"
        ids = self._without_end(value["tokens"], value["content"]) if finish == "stop" else tuple(value["tokens"])
        logprobs = None
        if sampling.logprobs:
            logprobs = tuple(float(p["logprob"]) for p in value["completion_probabilities"][: len(ids)])
        completion = Completion(value["content"], finish, int(value["tokens_predicted"]), ids, logprobs)
        return completion, max(0, len(row) - int(value["timings"]["prompt_n"]))

    def _stream(self, body: dict[str, Any], number: int, watch: Watch) -> dict[str, Any]:
        """The value of /completion, which a watch sees part by part, but where log probabilities are asked for, since
        texts that are held back do not fit their tokens. Cancelled, with what there is.
        """
        value: dict[str, Any] = {"content": "", "tokens": [], "completion_probabilities": []}
        lists, value["stop_type"] = tuple(value), "limit"
        value |= {"tokens_predicted": 0, "timings": {"prompt_n": len(body["prompt"])}}
        with self._http.stream("POST", "/completion", json=body | {"stream": True}) as answer:
            if answer.status_code != 200:
                answer.read()
                raise self._refused(answer)
            for line in answer.iter_lines():
                if watch.cancelled:
                    break
                if not line.startswith("data: "):
                    continue
                part = json.loads(line.removeprefix("data: "))
                if "content" not in part:
                    raise InputError(f"{self.name}: llama.cpp broke a call off: {line[:200]}")
                value = part | {name: value[name] + part.get(name, type(value[name])()) for name in lists} | {
                    name: part.get(name, value[name]) for name in ("stop_type", "timings")
                }  # fmt: skip
                if watch.piece is not None and part["content"] and "n_probs" not in body:
                    watch.piece(Piece(number, (part["content"],), (0.0,)))
        return value

    def _without_end(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """The ids that spell a text, or its longest begin: without the end mark or the stop text that followed."""
        kept = list(ids)
        while kept and not text.startswith(self.decode(kept)):
            kept.pop()
        return tuple(kept)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            answer = self._http.post(path, json=body)
        except self._ended:  # a kept connection that the server ended just now: nothing was begun
            answer = self._http.post(path, json=body)
        if answer.status_code != 200:
            raise self._refused(answer)
        return answer.json()

    def _refused(self, answer: Any) -> InputError:
        return InputError(f"{self.name}: llama.cpp refused a call ({answer.status_code}): {answer.text[:200]}")


def digest_of(path: Path) -> str:
    """sha256 of a GGUF file, computed once for its size and time. Raises InputError for one that is none."""
    files.check_regular(path)
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(16)
def _digest(path: Path, size: int, time: int) -> str:
    total = hashlib.sha256()
    with files.open_regular(path) as file:
        first = file.read(READ_SIZE)
        if first[:4] != MAGIC:
            raise InputError(f"{files.shown(path)} is no GGUF file: give the weights of a model in llama.cpp's format")
        total.update(first)
        while part := file.read(READ_SIZE):
            total.update(part)
    return total.hexdigest()


def serve(path: Path, slots: int, context: int, threads: int) -> tuple[Any, Any]:
    """(llama.cpp's server in this process, a client of it)."""
    try:
        import httpx
        import xllamacpp
    except ImportError as error:
        raise InputError(f'a local model needs {error.name}: pip install "innerloop[local]"') from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = slots, slots * context
    params.verbosity = QUIET
    if threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        raise InputError(f"{files.shown(path)} cannot be loaded by llama.cpp: {error}") from None
    # llama.cpp closes a connection that is idle for 5 s: ours are closed before, or a call may meet one that just was.
    limits = httpx.Limits(keepalive_expiry=2.0)
    return server, httpx.Client(base_url=server.listening_address, timeout=600.0, limits=limits)
