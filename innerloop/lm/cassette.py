"""Recorded: a language model whose calls are kept in a file, so that no call is paid twice.

    model = Recorded(Endpoint(...), "runs/mine/calls.jsonl")     # asks the endpoint for what the file does not hold
    model = Recorded.offline("runs/mine/calls.jsonl")            # asks nobody; a call that is not there is an error

A call is found by the model's name and all that was asked: prompt, begin, sampling, seed. Recorded calls are charged to
the ledgers like the first time; `paid` counts what was really asked. Every line is appended whole: after a kill the
file ends with the last call that was recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.budget import reserve
from innerloop.errors import InputError
from innerloop.ledger import Ledger
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import CAPABILITIES, Prompt, Reply, Sampling

__all__ = ["Recorded"]


class Recorded(Backend):
    """See the module docstring. Safe for several threads; one process at a time may write a file."""

    forms: dict[str, str]
    cue: str
    counts_flops: bool

    def __init__(self, model: Any, path: Path | str) -> None:
        self.path, self.paid = Path(path), Ledger()
        self._replies: dict[str, Reply] = {}
        self._counts: dict[str, int] = {}
        self._ids: dict[str, tuple[int, ...]] = {}
        self._texts: dict[tuple[int, ...], str] = {}
        self._lock, self._read_model = threading.Lock(), {}  # type: tuple[threading.Lock, dict[str, Any]]
        self._load()
        self.model = model
        if model is not None:
            self.name, self.context = model.name, model.context
            self.capabilities = frozenset(model.capabilities) - {"scoring"}  # scores are not recorded
            self.forms, self.cue = dict(getattr(model, "forms", {})), getattr(model, "cue", "")
            self.prices, self.counts_flops = getattr(model, "prices", None), getattr(model, "counts_flops", False)
            line = {"model": self.name, "context": self.context, "capabilities": sorted(self.capabilities)}
            line |= {"forms": self.forms, "cue": self.cue} if self.forms else {}
            self._append(line | ({"counts_flops": True} if self.counts_flops else {}))

    @staticmethod
    def offline(path: Path | str) -> Recorded:
        """The model of a file, without the model. Raises InputError for a file that records no calls."""
        if not Path(path).exists():
            raise InputError(f"there is no record of calls at {files.shown(path)}")
        made = Recorded(None, path)
        if not made._read_model:
            raise InputError(f"{files.shown(path)} records no calls of a language model")
        made.name, made.context = made._read_model["model"], made._read_model["context"]
        made.capabilities = frozenset(made._read_model["capabilities"])
        made.forms, made.cue = dict(made._read_model.get("forms", {})), made._read_model.get("cue", "")
        made.counts_flops = made._read_model.get("counts_flops", False)
        return made

    # -- the file -----------------------------------------------------------------------------------------------------
    def _load(self) -> None:
        """Read the file; a last line that was cut off is dropped from it."""
        if not self.path.exists():
            return
        text = files.read_text(self.path, limit=1 << 30)
        whole = text[: text.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._read_line(files.parse_json(line, f"{files.shown(self.path)}, line {number}"))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{files.shown(self.path)}, line {number} is no recorded call: {error}") from None
        if whole != text:
            files.write_text(self.path, whole)

    def _read_line(self, line: Any) -> None:
        if "model" in line:
            if unknown := set(line["capabilities"]) - set(CAPABILITIES):
                raise ValueError(f"there is no capability {sorted(unknown)[0]}")
            self._read_model = line
        elif "text" in line:
            self._ids[line["text"]] = tuple(line["ids"])
        elif "decoded" in line:
            self._texts[tuple(line["ids"])] = line["decoded"]
        else:
            self._replies[line["call"]] = Reply.from_json(line["reply"])
            self._counts |= {str(k): int(v) for k, v in line["counts"].items()}

    def _append(self, line: dict[str, Any]) -> None:
        if line.get("model") and line == self._read_model:
            return
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                with os.fdopen(handle, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise files.unwritable(self.path, error) from None
            self._read_line(line)

    # -- calls --------------------------------------------------------------------------------------------------------
    def generate_each(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """Recorded replies, and the model's to all other prompts, in one call."""
        lengths, sampling = self.fitted(prompts, sampling, prefix)
        calls = [self.call_key(p, sampling, prefix) for p in prompts]
        missing: dict[str, int] = {}  # each call once, with its first place
        for i, call in enumerate(calls):
            if call not in self._replies:
                missing.setdefault(call, i)
        if missing:
            self._ask([prompts[i] for i in missing.values()], [*missing], sampling, prefix)
        replies = []
        for i, (call, length) in enumerate(zip(calls, lengths, strict=True)):
            reply = self._replies[call]
            if missing.get(call) == i:  # the model has charged it
                replies.append(reply)
                continue
            with reserve(**self.most_spent([length], sampling)) as held:
                held.settle(**self.spent_on([reply]))
            replies.append(reply)
        return replies

    def _ask(
        self, prompts: Sequence[Prompt], calls: Sequence[str], sampling: Sampling, prefix: str | Sequence[int]
    ) -> None:
        """Ask the model, and record what it says."""
        if self.model is None:
            raise self._unknown("reply to this call")
        made = self.model.generate(list(prompts), prefix=prefix, **asdict(sampling))
        for prompt, call, reply in zip(prompts, calls, made, strict=True):
            self.paid.charge(**self.spent_on([reply]))
            counts = {prompt_key(part): self.count_tokens(part) for part in (prompt, prefix) if len(part)}
            self._append({"call": call, "counts": counts, "reply": reply.to_json()})

    def _unknown(self, what: str) -> InputError:
        return InputError(
            f"{files.shown(self.path)} holds no {what}, and there is no model to ask: give the model, or the same "
            "questions, ways and budget as when it was recorded"
        )

    def encode(self, text: str) -> list[int]:
        """The ids of a text, by the model that is recorded; only where it has "ids"."""
        if text not in self._ids:
            if self.model is None:
                raise self._unknown("token ids of this text")
            self._append({"text": text, "ids": list(self.model.encode(text))})
        return list(self._ids[text])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, likewise."""
        if tuple(ids) not in self._texts:
            if self.model is None:
                raise self._unknown("text of these ids")
            self._append({"decoded": self.model.decode(ids), "ids": list(ids)})
        return self._texts[tuple(ids)]

    def call_key(self, prompt: Prompt, sampling: Sampling, prefix: str | Sequence[int]) -> str:
        """What a call is found by."""
        begun = prefix if isinstance(prefix, str) else list(prefix)
        asked = [self.name, prompt_key(prompt), begun, asdict(sampling)]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]

    def count_tokens(self, prompt: Prompt) -> int:
        if self.model is not None:
            return int(self.model.count_tokens(prompt))
        return self._counts.get(prompt_key(prompt), 0)  # 0: the call is not recorded, which `_ask` says


def prompt_key(prompt: Prompt) -> str:
    """A prompt in 32 characters."""
    plain: Any = prompt if isinstance(prompt, str) else [dict(p) if isinstance(p, dict) else p for p in prompt]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]
