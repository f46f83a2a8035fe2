"""Whether two answers in LaTeX are the same: our own rules (tokens.equality) and, where it is installed, math-verify.

Our own rules decide first that two are equal; what they hold for different, or do not read, goes to math-verify, in a
process of its own (tokens.child). Without it, what they do not read counts as different.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from importlib.metadata import version

from innerloop.tokens.child import Child, Failed, TookTooLong
from innerloop.tokens.equality import equal
from innerloop.tokens.latex import LONGEST, read

__all__ = ["NEEDS", "can_judge", "has_math_verify", "judge_in_words", "same_math"]

NEEDS = "pip install 'innerloop[math]'"
PROCESS = Child()


def has_math_verify() -> bool:
    return importlib.util.find_spec("math_verify") is not None


def can_judge(right: str) -> bool:
    """Whether there is a judge for what is said to a question with this right answer."""
    return len(right) <= LONGEST and (has_math_verify() or read(right) is not None)


def judge_in_words() -> str:
    if has_math_verify():
        return f"Innerloop's rules and math-verify {version('math-verify')}"
    return f"Innerloop's rules, by which an expression that they do not read is wrong ({NEEDS} adds math-verify)"


def same_math(said: str, right: str) -> bool:
    """Whether two answers in LaTeX are the same."""
    return equal(said, right) or (has_math_verify() and by_math_verify(said, right))


@lru_cache(maxsize=100_000)
def by_math_verify(said: str, right: str) -> bool:
    """What math-verify says; False where it does not end in time or fails."""
    if max(len(said), len(right)) > LONGEST:
        return False
    try:
        return bool(PROCESS.ask("verify", right, said))
    except (TookTooLong, Failed):
        return False
