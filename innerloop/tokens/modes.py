"""mode: one model, two formats of its turn, with and without a thought (Qwen3, GLM), and a budget for the thought.

no thought:  the turn begins with an empty thought;      thought: it begins with an open one
at the budget:  a hand-over text and the closing mark are put in, and the model answers from what it has
                                                                               Qwen3 report, arXiv 2505.09388
"""

from __future__ import annotations

from typing import Any

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable
from innerloop.tokens.forcing import Budgeted, ThinkingFormat

__all__ = ["FORMATS", "Mode"]

HAND_OVER = "\n\nTime is short. I have to answer now, from what I have thought so far.\n"
FORMATS = {
    "think": ThinkingFormat("<think>\n", "\n</think>\n\n", "<think>\n\n</think>\n\n", HAND_OVER, ("</think>",)),
}


class Mode(Budgeted):
    """A thinking model with its thought on, for at most `tokens` tokens, or off."""

    def __init__(
        self, model: Any, *, thinking: bool = True, tokens: int = 1024, format: str = "think", answer_tokens: int = 256,
        temperature: float = 0.0,
    ) -> None:  # fmt: skip
        if format not in FORMATS:
            raise InputError(f'no thinking format is called "{printable(format, 60)}": {did_you_mean(format, FORMATS)}')
        known = FORMATS[format]
        if not thinking:
            known = ThinkingFormat(known.empty, "", known.empty, "", known.stop)
        super().__init__(model, tokens, answer_tokens=answer_tokens, temperature=temperature, thinking=known)
        self.thinks = thinking
        if not thinking:
            self.depth = 1
