"""The part of `serve` for a language model: its options, and the server over it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from innerloop.cli.thinking import ModelFlags, read_shots
from innerloop.errors import InputError
from innerloop.tokens.answers import kind_named
from innerloop.tokens.marks import ORACLE, verifier
from innerloop.tokens.prompts import Shot
from innerloop.tokens.way import Item
from innerloop.tokens.ways import way_of

__all__ = ["NO_LM", "LMFlags", "check_flags", "serve_lm"]


class LMFlags(NamedTuple):
    """A language model to serve in place of runs."""

    lm: str = ""  # A language model in place of runs: a model of innerloop get, a run, a file.gguf, or MODEL@URL.
    think: str = ""  # A way to think by which --lm answers, such as "vote(8)"; without one it writes as it is asked.
    tokens: int = 2000  # Most tokens of a completion of --lm; with --think, most that a request reads and writes.
    kind: str = "number"  # Of the answers of --think: number, choice, yesno, valid, math or text.
    verify: str = ""  # For --think, a Python file with check(question, answer): True, False or what is wrong.
    shots: str = ""  # For --think, a file of worked examples: question, chain, answer.
    api: str = "chat"  # Of an endpoint: chat, completions or responses.
    key: str = "OPENAI_API_KEY"  # Environment variable that holds an endpoint's key.
    context: int = 0  # Most tokens of prompt and answer; 0: 2048 of a local model, 131072 of an endpoint.
    workers: int = 8  # Requests to --lm that run at once.


NO_LM = LMFlags()


def check_flags(flags: LMFlags, others: Mapping[str, Any]) -> None:
    """Raise InputError for a language model beside what is of puzzles (`others`), or options of none."""
    changed = [f"--{name}" for name, value in flags._asdict().items() if value != NO_LM._asdict()[name]]
    if not flags.lm:
        if changed:
            raise InputError(f"{changed[0]} is of a language model: give one by --lm, or leave {changed[0]} out")
        return
    if beside := [name for name, value in others.items() if value]:
        raise InputError(f"{beside[0]} is given beside --lm: serve puzzles and a language model by two servers")
    if not flags.think and (of_ways := {"--kind", "--verify", "--shots"} & set(changed)):
        raise InputError(f"{min(of_ways)} is of a way to think: give one by --think, or leave it out")
    if not 1 <= flags.tokens <= 1 << 20:
        raise InputError(f"--tokens is {flags.tokens}: give 1 to {1 << 20:,}")
    if flags.verify == ORACLE:
        raise InputError("questions of clients come without answers: give --verify a Python file")
    kind_named(flags.kind)


def serve_lm(flags: LMFlags, common: Any, url: str, sock: Any, grace: float, hosts: Any) -> None:
    """Open the model and serve it on `sock` until the server ends. common: the limits that puzzles have too."""
    from innerloop.serve.access import AccessState
    from innerloop.serve.metrics import Metrics
    from innerloop.serve.openai import create_text_app
    from innerloop.serve.server import Server
    from innerloop.serve.text_page import offers
    from innerloop.serve.text_work import TextLimits, TextService

    metrics, access, name = Metrics(), AccessState(hosts), name_of(flags.lm)
    limits = TextLimits(
        tokens=flags.tokens, seconds=common.seconds, workers=flags.workers, queue=common.queue, body=common.body,
        connections=common.connections,
    )  # fmt: skip
    model = ModelFlags(flags.api, flags.key, flags.context, flags.workers).open(flags.lm)
    shots, item = read_shots(flags.shots), questions_of(flags)
    service = TextService(
        model, name, limits, thinking_of(flags, model, shots, item), lambda cost: metrics.count_tokens(name, cost),
        offers(model, item, shots),
    )  # fmt: skip
    try:
        app = create_text_app(service, access, metrics)
        by = f" by {flags.think}" if flags.think else ""
        ready = f"serving {name}{by} as an OpenAI endpoint and a page at {url}"
        Server(app, service, access, grace, lambda: print(ready, flush=True)).run(sockets=[sock])
    finally:
        service.close()


def thinking_of(flags: LMFlags, model: Any, shots: Sequence[Shot], item: Callable[[str], Item]) -> Any:
    """The way to think of a server; None without --think. Raises InputError for one that is not known."""
    from innerloop.serve.text_work import Thinking

    return Thinking(flags.think, partial(way_of, flags.think, model, shots), item) if flags.think else None


def questions_of(flags: LMFlags) -> Callable[[str], Item]:
    """A function that makes a question of a text, with its verifier."""
    check_of = verifier(flags.verify) if flags.verify else None

    def item(question: str) -> Item:
        asked = Item("question", question, kind=flags.kind)
        return asked if check_of is None else replace(asked, check=check_of(asked))

    return item


def name_of(model: str) -> str:
    """What requests call a model: its name, that of its file or folder, or MODEL of MODEL@URL."""
    name, at, url = model.rpartition("@")
    if at and "://" in url:
        return name
    last = Path(model).resolve().name if Path(model).exists() else model
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last.removesuffix(".gguf")).strip("-") or "model"
