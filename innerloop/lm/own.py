"""Own: a causal loop that was trained here, as a language model over the characters of its task.

    model = Own(loop, charset="0123456789+=;", end=";", places=64, depth=8)
    model.generate(["12+30="], max_new_tokens=4)

Any loop of innerloop.weights that supports causal masks: a plain transformer (looped at depth 1), Huginn, HRM-Text, a
Universal Transformer, MoR, so that a loop in the weights runs inside a loop over tokens. A token is a character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from innerloop.core import Question, think
from innerloop.errors import InputError
from innerloop.halt import Halt, never
from innerloop.ledger import count_flops, counting, counts_flops
from innerloop.lm.backend import Backend
from innerloop.lm.decoding import TextJob, TextReader, TokenLoop, Written, key_of, sizes_of
from innerloop.lm.protocol import CAPABILITIES, Completion, Prompt, Reply, Sampling
from innerloop.lm.scheduler import Scheduler
from innerloop.lm.watch import Pieces, watched
from innerloop.rows import Done, Rows
from innerloop.text import printable

__all__ = ["Own"]


class Calls(NamedTuple):
    """Block calls at one token."""

    pass_: float  # without the steps: of a prelude and a coda
    step: float


class Own(Backend):
    """See the module docstring.

    charset  the characters of tokens 1, 2, ...; token 0 is padding
    end      the character that ends a text
    places   most tokens of prompt and completion together
    depth    steps of the loop at every token; halt: ends them token by token
    rows     texts written at once; policy: of the cache, see TokenLoop
    forms    what follows a question in a prompt, by mode, as it was trained; cue: what it writes before its answer
    expansions  the texts of characters that stand for several (tasks.compressed); a text holds what they stand for
    """

    counts_flops = True

    def __init__(
        self,
        loop: Any,
        *,
        charset: str,
        end: str,
        places: int,
        depth: int,
        halt: Halt = never,
        rows: int = 64,
        policy: str | None = "full",
        forms: Mapping[str, str] = MappingProxyType({}),
        cue: str = "",
        expansions: Mapping[str, str] = MappingProxyType({}),
        name: str = "own",
        device: torch.device | str = "cpu",
    ) -> None:
        if not getattr(loop, "causal", False):
            raise InputError(f"{type(loop).__name__} sees later places, so it cannot write: train a causal system")
        if depth < 1 or rows < 1 or len(end) != 1 or end not in charset:
            raise InputError(f"depth={depth}, rows={rows}, end={end!r}: give 1 or more, and a character of the charset")
        self.loop, self.name, self.context, self.rows, self.device = loop.eval(), name, places, rows, device
        self.charset, self.end = charset, charset.index(end) + 1
        self.forms, self.cue, self.expansions = dict(forms), cue, dict(expansions)
        self.ids = {c: i for i, c in enumerate(charset, 1)}
        self.tokens = TokenLoop(loop, depth, halt=halt, policy=policy)
        self.capabilities = frozenset(CAPABILITIES) - {"chat"}
        reader = TextReader(places, self.end)
        self.scheduler = Scheduler(Rows(self.tokens, rows, reader, ahead=rows, sizes=sizes_of(rows), device=device))

    # -- tokens -------------------------------------------------------------------------------------------------------
    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text. Raises InputError for a character that the model does not know."""
        if unknown := next((c for c in text if c not in self.ids), None):
            raise InputError(
                f"{self.name} does not know the character {unknown!r}: it reads {printable(repr(self.charset), 200)}"
            )
        return tuple(self.ids[c] for c in text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; padding is nothing, and what stands for several characters is spelled out."""
        symbols = (self.charset[i - 1] for i in ids if i)
        return "".join(self.expansions.get(symbol, symbol) for symbol in symbols)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return self.encode(prompt)
        if any(not 0 < int(i) <= len(self.charset) for i in prompt):  # type: ignore[call-overload, arg-type]
            raise InputError(f"a prompt holds an id that is none of {self.name}: give 1 to {len(self.charset)}")
        return tuple(prompt)  # type: ignore[arg-type]

    def count_tokens(self, prompt: Prompt) -> int:
        return len(prompt)

    # -- calls --------------------------------------------------------------------------------------------------------
    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        begun = self.prompt_ids(prefix)
        rows = [self.prompt_ids(p) + begun for p in prompts]
        if not all(rows):
            raise InputError("a prompt is empty: give at least one character")
        stop = tuple(self.encode(s) for s in sampling.stop if all(c in self.ids for c in s))
        jobs = [
            TextJob(
                row, sampling.max_new_tokens, key_of(sampling.seed, i), sampling.temperature, sampling.top_p, stop
            )
            for row in rows
            for i in range(sampling.n)
        ]  # fmt: skip
        done = self.write(jobs)
        replies = []
        for i, row in enumerate(rows):
            mine = done[i * sampling.n : (i + 1) * sampling.n]
            completions = tuple(self.completion(d, sampling) for d in mine)
            replies.append(Reply(completions, len(row), **self.spent(len(row), mine)))
        return replies

    def write(self, jobs: list[TextJob]) -> list[Done]:
        """The ends of these jobs, which the watch of this thread sees, and may cancel."""
        if (watch := watched()) is None:
            return self.scheduler.run(jobs)
        if watch.piece is not None:
            for i, job in enumerate(jobs):
                job.watch = Pieces(watch.piece, i, job.stop, self.decode)
        with watch.ended_by(partial(self.scheduler.cancel, jobs)):
            done = self.scheduler.run(jobs)
        nothing = Written((), (), self.tokens.depth)  # of a job that had no row yet
        return [d._replace(result=d.result or nothing) for d in done]

    # -- costs --------------------------------------------------------------------------------------------------------
    def spent(self, prompt: int, done: Sequence[Done]) -> dict[str, Any]:
        """What completions of a prompt of so many tokens cost in the loop's own units. The prompt is read once."""
        steps = sum(d.result.steps for d in done) - (len(done) - 1) * self.tokens.depth
        passes = 1 + sum(len(d.result.ids) for d in done)
        units = {"nfe": passes * self.calls.pass_ + steps * self.calls.step, "serial_steps": float(steps)}
        if counts_flops():
            read = prompt + sum(len(d.result.ids) for d in done)
            units["flops"] = self.flops_of_token * read
        return units

    def most_spent(self, lengths: Sequence[int], sampling: Sampling) -> dict[str, float]:
        written = len(lengths) * sampling.n * sampling.max_new_tokens
        passes = len(lengths) + written
        steps = float(passes * self.tokens.depth)
        units = super().most_spent(lengths, sampling)
        units |= {"nfe": passes * self.calls.pass_ + steps * self.calls.step, "serial_steps": steps}
        if counts_flops():
            units["flops"] = self.flops_of_token * (sum(lengths) + written)
        return units

    @cached_property
    def calls(self) -> Calls:
        """Block calls of the loop at one token."""
        one, two = (Context().run(self.calls_at, depth) for depth in (1, 2))  # charged to nobody
        return Calls(2 * one - two, two - one)

    def calls_at(self, depth: int) -> float:
        with counting() as cost, torch.no_grad():
            think(self.loop, self.blank(), depth)
        return cost.nfe

    @cached_property
    def flops_of_token(self) -> float:
        """FLOPs of a token at the full depth, averaged over the places of a full row."""
        with torch.no_grad():
            run = partial(think, self.loop, self.blank(), self.tokens.depth)
            return Context().run(count_flops, run) / self.context

    def blank(self) -> Question:
        """A row of one text."""
        tokens = torch.ones(1, self.context, dtype=torch.long, device=self.device)
        return Question(tokens, tokens[:, 0] * 0)

    def completion(self, done: Done, sampling: Sampling) -> Completion:
        written: Written = done.result
        kept = len(written.ids)
        if done.end == "stop":
            if written.ids[-1] == self.end:
                kept -= 1
            else:
                kept -= next(len(ids) for ids in done.job.stop if written.ids[-len(ids) :] == ids)
        ids = written.ids[:kept]
        logprobs = written.logprobs[:kept] if sampling.logprobs else None
        finish = "stop" if done.end == "stop" else "length"
        return Completion(self.decode(ids), finish, len(written.ids), ids, logprobs)

    @torch.no_grad()
    def score_each(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        rows = [(self.prompt_ids(p), self.encode(c)) for p, c in zip(prompts, continuations, strict=True)]
        tokens = torch.zeros(len(rows), self.context, dtype=torch.long)
        for i, (prompt, text) in enumerate(rows):
            if not prompt or len(prompt) + len(text) > self.context:
                raise InputError(
                    f"text {i + 1} has {len(prompt)} + {len(text)} tokens: give at least one, and {self.context} in all"
                )
            tokens[i, : len(prompt) + len(text)] = torch.tensor(prompt + text)
        tokens = tokens.to(self.device)
        x = Question(tokens, tokens.new_zeros(len(rows)))
        logits = think(self.loop, x, self.tokens.depth).answer.logits.float()
        logits[..., 0] = -torch.inf
        given = logits.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0].tolist()
        return [tuple(row[len(p) - 1 : len(p) - 1 + len(c)]) for row, (p, c) in zip(given, rows, strict=True)]
