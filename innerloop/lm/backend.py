"""Backend: what all language models share: checks of a call, and the cost that is reserved before and settled after.

A backend implements `complete` (and `score_each` where it has "scoring"), on arguments that are checked. One that runs
on this machine gets the whole batch; one behind a network overrides `generate_each`, since its calls fail one by one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from innerloop.budget import OverBudget, affordable, open_budgets, reserve
from innerloop.errors import InputError
from innerloop.lm.prices import Prices
from innerloop.lm.protocol import LOOP_UNITS, Prompt, Reply, Sampling, kind_of, need
from innerloop.lm.watch import Cancelled, is_cancelled

__all__ = ["Backend", "digest_of_weights", "most_new_tokens", "most_spent", "spent_on"]


class Backend:
    """Base of the backends; see LanguageModel for the meaning of its methods."""

    name: str
    context: int
    capabilities: frozenset[str]
    prices: Prices | None = None  # of its tokens; None: a call costs no money
    counts_flops = False  # whether its calls charge FLOPs, so that a budget of them can hold

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        n: int = 1,
        seed: int | None = None,
        logprobs: bool = False,
        prefix: str | Sequence[int] = "",
    ) -> list[Reply]:
        if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not len(prompts):
            raise InputError("generate() takes a list of prompts, with at least one")
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        sampling = Sampling(max_new_tokens, stop, temperature, top_p, n, seed, logprobs)
        self.check_call(prompts, sampling, prefix)
        if is_cancelled():
            raise Cancelled("this call was cancelled before it began")
        return self.generate_each(prompts, sampling, prefix)

    def check_call(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> None:
        """Raise MissingCapability or InputError unless this backend can do what is asked."""
        for prompt in prompts:
            need(self, kind_of(prompt), purpose=f"a prompt of {type(prompt).__name__}")
        asked = {"stop": bool(sampling.stop), "logprobs": sampling.logprobs, "n": sampling.n > 1}
        asked |= {"prefill": len(prefix) > 0, "ids": len(prefix) > 0 and not isinstance(prefix, str)}
        for name, is_asked in asked.items():
            if is_asked:
                need(self, name, purpose=f"this call ({name})")
        for i, prompt in enumerate(prompts, 1):
            length = self.count_tokens(prompt) + self.count_prefix(prefix)
            if length >= self.context:
                raise InputError(
                    f"prompt {i} takes {length} tokens, and the context of {self.name} is {self.context}: shorten it"
                )

    def count_prefix(self, prefix: str | Sequence[int]) -> int:
        """Tokens of the begin of a completion, at most."""
        return self.count_tokens(prefix) if len(prefix) else 0

    def generate_each(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """All prompts as one batch, under one reservation."""
        lengths, sampling = self.fitted(prompts, sampling, prefix)
        with reserve(**self.most_spent(lengths, sampling)) as held:
            replies = self.complete(prompts, sampling, prefix)
            held.settle(**self.spent_on(replies))
        return replies

    def fitted(
        self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]
    ) -> tuple[list[int], Sampling]:
        """(tokens of each prompt with its begun answer, the sampling with as many new tokens as context and budgets
        allow to every completion). Money, and what a loop costs, grow evenly with what is written.

        Raises OverBudget if they allow none, and InputError for a budget that would limit nothing.
        """
        limited = {limit for budget in open_budgets() for limit in budget.limits}
        if self.prices is None and "money" in limited:
            raise InputError(f"{self.name} has no prices, so a budget of money limits nothing: give its prices")
        if not self.counts_flops and "flops" in limited:
            raise InputError(f"{self.name} counts no FLOPs, so a budget of them limits nothing: give one of tokens")
        lengths = [self.count_tokens(p) + self.count_prefix(prefix) for p in prompts]
        longest = min(sampling.max_new_tokens, self.context - max(lengths))
        longest = most_new_tokens(longest, sum(lengths), len(prompts) * sampling.n)
        one, two = (self.most_spent(lengths, replace(sampling, max_new_tokens=n)) for n in (1, 2))
        for unit in one.keys() & {*LOOP_UNITS, "money"}:
            each, left = two[unit] - one[unit], affordable(unit, math.inf) - one[unit]
            if left < 0:
                raise OverBudget(f"a call needs at least {one[unit]:g} {unit}, and less is left: give a larger budget")
            if each and left < each * (longest - 1):
                longest = 1 + int(left // each)
        return lengths, replace(sampling, max_new_tokens=longest)

    def most_spent(self, lengths: Sequence[int], sampling: Sampling) -> dict[str, float]:
        """What completions of prompts of these lengths may cost at most, by unit of the ledger."""
        return self.priced(most_spent(lengths, sampling))

    def spent_on(self, replies: Sequence[Reply]) -> dict[str, float]:
        """What replies cost, by unit of the ledger."""
        return self.priced(spent_on(replies))

    def priced(self, units: dict[str, float]) -> dict[str, float]:
        """These units, and the money they cost where there are prices."""
        return units if self.prices is None else units | {"money": self.prices.of(units)}

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        """The replies to these prompts: arguments are checked, and costs are reserved."""
        raise NotImplementedError

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """See LanguageModel; what is read is charged. Raises OverBudget, MissingCapability and InputError."""
        need(self, "scoring", purpose="score()")
        if len(prompts) != len(continuations):
            raise InputError(f"score() takes a text for each prompt, and not {len(continuations)} for {len(prompts)}")
        read = sum(self.count_tokens(p) + self.count_tokens(c) for p, c in zip(prompts, continuations, strict=True))
        units = self.priced({"tokens_in": read})
        with reserve(**units) as held:
            scores = self.score_each(prompts, continuations)
            held.settle(**units)
        return scores

    def score_each(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """The scores of these texts: costs are reserved."""
        raise NotImplementedError

    def count_tokens(self, prompt: Prompt) -> int:
        raise NotImplementedError


def most_spent(lengths: Sequence[int], sampling: Sampling) -> dict[str, float]:
    """What completions of prompts of these lengths may cost at most, by unit of the ledger."""
    completions = len(lengths) * sampling.n
    tokens_out = sampling.max_new_tokens * completions
    return {"tokens_in": sum(lengths), "tokens_out": tokens_out, "completions": completions}


def spent_on(replies: Sequence[Reply]) -> dict[str, float]:
    """What replies cost, by unit of the ledger."""
    loop_units = {unit: sum(getattr(r, unit) for r in replies) for unit in LOOP_UNITS}
    return {unit: spent for unit, spent in loop_units.items() if spent} | {
        "tokens_in": sum(r.tokens_in for r in replies),
        "tokens_cached": sum(r.tokens_cached for r in replies),
        "tokens_out": sum(r.tokens_out for r in replies),
        "completions": sum(len(r.completions) for r in replies),
    }


def most_new_tokens(asked: int, tokens_in: int, completions: int) -> int:
    """New tokens of each of `completions` that all open budgets allow, up to `asked`. Raises OverBudget if not one."""
    total = affordable("tokens_out", asked * completions, tokens_in=tokens_in)
    if total < completions:
        raise OverBudget(
            f"a call with a prompt of {tokens_in} tokens needs at least {tokens_in + completions} tokens, and only "
            f"{max(0, int(total) + tokens_in)} are left: give a larger budget"
        )
    return int(total // completions)


def digest_of_weights(weights: Iterable[Tensor], *texts: str) -> str:
    """12 characters of a hash of tensors, and of texts that belong to them: two models of one name are the same."""
    total = hashlib.sha256()
    for tensor in weights:
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for text in texts:
        total.update(text.encode())
    return total.hexdigest()[:12]
