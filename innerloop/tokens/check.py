"""Verifiers in the ways to think: the item's own check, timed in the ledger, with its answer cached for a thought."""

from __future__ import annotations

import time

from innerloop.errors import InputError
from innerloop.ledger import charge
from innerloop.tokens.way import Item, Said, Verdict

__all__ = ["need_check", "verdict"]


def need_check(item: Item, purpose: str) -> None:
    """Raise InputError unless the item has a verifier that does not know its answer."""
    if item.check is None:
        raise InputError(
            f"{purpose} needs a verifier, and the question {item.id} has none: give --verify check.py with a function "
            "check(question, answer) that returns True, False or what is wrong"
        )


def verdict(item: Item, said: Said) -> Verdict:
    """What the item's verifier says of an answer; no answer is wrong. Charges its time."""
    assert item.check is not None
    if said.answer is None:
        return Verdict(False, "there is no answer in the text")
    began = time.perf_counter()
    try:
        return item.check(said.answer)
    finally:
        charge(verifier_seconds=time.perf_counter() - began)
