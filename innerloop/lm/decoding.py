"""Decoding: any causal loop writes text, token after token; rows at different places are one batch, refilled at once.

    state:  tokens, length, log probabilities, cache
    a step: logits = the loop at the last token, `depth` steps of its own;   append a token drawn from them

A token is a step of a loop (TokenLoop), a text is a job of innerloop.rows, and what that field calls continuous
batching is what the solver of puzzles does. A text does not depend on the other rows: what is drawn is a function of
its own key and place. Shapes: B rows, S places of a row, V tokens; token 0 is padding and is never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innerloop.core import Question, think
from innerloop.halt import Halt, never
from innerloop.noise import scramble, uniform
from innerloop.parts import fused_decode
from innerloop.parts.cache import Cache
from innerloop.rows import Rows
from innerloop.tree import take

__all__ = ["TextJob", "TextReader", "TokenLoop", "Written", "draw", "key_of", "sizes_of"]

SEED_STEP = 0x9E3779B9  # between the seeds of completions


class Texts(NamedTuple):
    """Prompts, and how to go on."""

    tokens: Tensor  # (B, S) int64
    length: Tensor  # (B,) int64 tokens of the prompt
    u: Tensor  # (B, S) float32 uniform in (0, 1), with which the token at each place is drawn
    temperature: Tensor  # (B,) float32; 0: the likeliest token
    top_p: Tensor  # (B,) float32; nucleus: the likeliest tokens of this total probability


class Writing(NamedTuple):
    """Texts that are being written."""

    tokens: Tensor  # (B, S) int64
    length: Tensor  # (B,) int64 tokens so far, the prompt's included
    logprobs: Tensor  # (B, S) float32 natural, of the tokens that were written
    steps: Tensor  # (B,) int64 steps of the loop so far, over all tokens; those that read the prompt count once
    cache: Cache | None


class Written(NamedTuple):
    """What a job has written."""

    ids: tuple[int, ...]  # the end mark or stop text included
    logprobs: tuple[float, ...]  # of each, before temperature and nucleus
    steps: int  # of the loop, over all tokens


@dataclass(eq=False)
class TextJob:
    """One continuation of one prompt."""

    prompt: tuple[int, ...]
    depth: int  # most tokens to write
    key: int = 0  # of what is drawn
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[tuple[int, ...], ...] = ()  # ids that end the text
    owner: Any = None  # any value of the caller
    watch: Callable[[int, float], None] | None = None  # called with every token that does not end the text
    halting: bool = False
    wants_residual: bool = False
    salt: int = 0
    priority: float = 0.0
    deadline: float = math.inf


class CachedPass:
    """A loop whose attention reads from and writes to a cache: one pass over the places at hand."""

    def __init__(self, loop: Any, cache: Cache) -> None:
        self.loop, self.cache = loop, cache

    def init(self, x: Question) -> Any:
        self.cache.phase("init")
        return self.loop.init(x)

    def step(self, s: Any, x: Question) -> Any:
        self.cache.phase("step")
        return self.loop.step(s, x)

    def read(self, s: Any) -> Any:
        self.cache.phase("read")
        return self.loop.read(s)


class TokenLoop:
    """A causal loop as a loop over tokens.

    model   the loop; places must not see later ones
    depth   its steps at every token, at most; halt: ends them token by token
    policy  of the cache (parts.cache); None: no cache, the whole row is read again for every token, which is slow
    """

    def __init__(self, model: Any, depth: int, *, halt: Halt = never, policy: str | None = "full") -> None:
        self.model, self.depth, self.halt, self.policy = model, depth, halt, policy

    def init(self, x: Texts) -> Writing:
        """Read the prompts, equal ones once, at the full depth."""
        logprobs = torch.zeros(x.tokens.shape, device=x.tokens.device)
        if self.policy is None:
            return Writing(x.tokens, x.length, logprobs, torch.zeros_like(x.length), None)
        prompts, which = torch.unique(x.tokens, dim=0, return_inverse=True)
        if len(prompts) == len(x.tokens):
            prompts, which = x.tokens, torch.arange(len(prompts), device=x.tokens.device)
        width = int(x.length.max())
        cache = Cache(len(prompts), x.tokens.shape[1], self.policy, x.tokens.device)
        cache.at(torch.arange(width, device=x.tokens.device).expand(len(prompts), -1), width)
        self.think(prompts, cache, never)
        in_order = len(prompts) == len(x.tokens) and bool((which[1:] > which[:-1]).all())
        cache = cache if in_order else cache.take_rows(which)
        return Writing(x.tokens, x.length, logprobs, torch.full_like(x.length, self.depth), cache)

    def step(self, s: Writing, x: Texts) -> Writing:
        """Append a token to every row; one that is full overwrites its last, for rows that nobody reads."""
        last = s.length - 1
        logits_BV, steps = self.logits(s, last)
        place = s.length.clamp(max=s.tokens.shape[1] - 1)[:, None]
        token, logprob = draw(logits_BV, x.temperature, x.top_p, x.u.gather(1, place)[:, 0])
        return Writing(
            s.tokens.scatter(1, place, token[:, None]),
            place[:, 0] + 1,
            s.logprobs.scatter(1, place, logprob[:, None]),
            s.steps + steps,
            s.cache,
        )

    def read(self, s: Writing) -> Tensor:
        return s.tokens

    def logits(self, s: Writing, place: Tensor) -> tuple[Tensor, Any]:
        """((B, V) logits of the token after `place` (B,), steps taken)."""
        if s.cache is None:
            logits_BSV, steps = self.think(s.tokens, None, self.halt)
            return logits_BSV[torch.arange(len(place), device=place.device), place], steps
        full = s.tokens.shape[1]
        s.cache.at(place[:, None], full if place.is_cuda else int(place.max()) + 1)  # no synchronisation on a GPU
        logits_BPV, steps = self.think(s.tokens, s.cache, self.halt)
        return logits_BPV[:, 0], steps

    def think(self, tokens: Tensor, cache: Cache | None, halt: Halt) -> tuple[Tensor, Any]:
        """((B, P, V) logits of the places at hand, steps taken: (B,) or an int)."""
        x = Question(tokens, tokens.new_zeros(len(tokens)), cache=cache)
        loop = self.model if cache is None else CachedPass(self.model, cache)
        thought = think(loop, x, self.depth, halt=halt)
        if cache is not None:
            cache.done(thought.steps)
        return thought.answer.logits, thought.steps


def uniform_of(key: Tensor, places: int) -> Tensor:
    """(B, S) float32 in (0, 1) from (B,) keys: a function of key and place."""
    return uniform(scramble(key[:, None] + torch.arange(places)).flatten(), 1).view(-1, places)


def draw(logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, u_B: Tensor) -> tuple[Tensor, Tensor]:
    """((B,) int64 token, (B,) float32 its log probability before temperature and nucleus); u is uniform in (0, 1)."""
    nuclear = bool((top_p_B < 1).any())
    if not nuclear and (found := fused_decode.draw(logits_BV, temperature_B, u_B)):
        return found
    logits_BV = logits_BV.float().index_fill(1, torch.zeros(1, dtype=torch.long, device=u_B.device), -torch.inf)
    token = logits_BV.argmax(-1)
    hot = temperature_B > 0
    if bool(hot.any()):
        p_BV = torch.softmax(logits_BV / torch.where(hot, temperature_B, 1.0)[:, None], -1)
        if nuclear:
            p_BV = nucleus(p_BV, top_p_B)
        mass_BV = p_BV.cumsum(-1)
        drawn = (mass_BV < u_B[:, None] * mass_BV[:, -1:]).sum(-1).clamp(max=p_BV.shape[1] - 1)
        token = torch.where(hot, drawn, token)
    return token, torch.log_softmax(logits_BV, -1).gather(1, token[:, None])[:, 0]


def nucleus(p_BV: Tensor, top_p_B: Tensor) -> Tensor:
    """The likeliest tokens whose total probability reaches top_p, at least one; others get 0."""
    ranked, order = p_BV.sort(-1, descending=True)
    kept = ranked.cumsum(-1) - ranked < top_p_B[:, None]
    kept[:, 0] = True
    return torch.zeros_like(p_BV).scatter(1, order, ranked * kept)


class TextReader:
    """The Reader for texts (innerloop.rows): a row ends at the end mark, or at ids of its own.

    places  of a row; end: the token that ends a text
    """

    def __init__(self, places: int, end: int) -> None:
        self.places, self.end = places, end

    def question(self, jobs: Sequence[TextJob], device: torch.device) -> Texts:
        tokens = torch.zeros(len(jobs), self.places, dtype=torch.long)
        for row, job in zip(tokens, jobs, strict=True):
            row[: len(job.prompt)] = torch.tensor(job.prompt)
        return Texts(
            tokens.to(device),
            torch.tensor([len(job.prompt) for job in jobs], device=device),
            uniform_of(torch.tensor([job.key for job in jobs]), self.places).to(device),
            torch.tensor([job.temperature for job in jobs], device=device),
            torch.tensor([job.top_p for job in jobs], device=device),
        )

    def ended(self, rows: Rows, old: Any) -> dict[int, str]:
        """Rows whose last tokens end them."""
        s: Writing = rows.state
        last = s.tokens.gather(1, s.length[:, None] - 1)[:, 0].tolist()
        ends = {i: "stop" for i, job in enumerate(rows.jobs) if job is not None and last[i] == self.end}
        for i, job in enumerate(rows.jobs):
            if job is not None and job.stop and i not in ends and any(last[i] == ids[-1] for ids in job.stop):
                written = self.written(rows, i)
                if any(written[-len(ids) :] == ids for ids in job.stop):
                    ends[i] = "stop"
        self.show(rows, [i for i, job in enumerate(rows.jobs) if job is not None and job.watch and i not in ends], last)
        return ends

    def show(self, rows: Rows, which: Sequence[int], last: Sequence[int]) -> None:
        """Give the last tokens of these rows to those who watch."""
        if which:
            s: Writing = rows.state
            logprobs = s.logprobs.gather(1, s.length[:, None] - 1)[:, 0].tolist()
            for i in which:
                rows.jobs[i].watch(last[i], logprobs[i])

    def written(self, rows: Rows, i: int) -> tuple[int, ...]:
        """The ids that a row has written."""
        first = len(rows.jobs[i].prompt)
        return tuple(rows.state.tokens[i, first : first + rows.steps[i]].tolist())

    def result(self, rows: Rows, which: Sequence[int]) -> list[Written]:
        found = []
        s: Writing = rows.state
        at = torch.tensor(which, device=rows.device)
        lists = (t.tolist() for t in take((s.tokens, s.logprobs, s.steps), at))
        for row, row_logprobs, steps, i in zip(*lists, which, strict=True):
            part = slice(first := len(rows.jobs[i].prompt), first + rows.steps[i])
            found.append(Written(tuple(row[part]), tuple(row_logprobs[part]), steps))
        return found


def sizes_of(rows: int) -> list[int]:
    """Batch sizes for a Rows of texts: halves of `rows`, since a change of size copies the cache."""
    sizes = {rows}
    while min(sizes) > 1:
        sizes.add(-(-min(sizes) // 2))
    return sorted(sizes)


def key_of(seed: int | None, i: int) -> int:
    """The key of completion i of a call."""
    return int(scramble(torch.tensor(((seed or 0) + i * SEED_STEP) & ((1 << 62) - 1))))
