"""NGram: Shannon's language model over characters (1948), the floor that any other has to beat.

    model = NGram.fit(texts, order=3)        # a character depends on the 3 before it
    model.bits_per_character(held_out)
    entropy_ladder(text, 5)                  # F_0, F_1, ..., bits per character with so many before it

    p(c | h) = max(count(h c) - d, 0) / count(h) + d kinds(h) / count(h) p(c | shorter h)       interpolated Kneser-Ney

Lower orders count in how many contexts a character occurs (Kneser and Ney 1995); the lowest is uniform. A token is a
character, or the end of a text.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from innerloop.errors import InputError
from innerloop.lm.backend import Backend
from innerloop.lm.protocol import CAPABILITIES, Completion, Prompt, Reply, Sampling

__all__ = ["NGram", "entropy_ladder"]

END = "\x03"  # the end of a text
DISCOUNT = 0.75
LARGEST_ORDER = 16

Counts = Mapping[str, Counter[str]]  # context -> how often each character follows


class NGram(Backend):
    """See the module docstring. Made by `fit`."""

    def __init__(
        self, counts: Sequence[Counts], alphabet: Sequence[str], *, name: str = "", context: int = 1 << 16
    ) -> None:
        self.counts, self.alphabet, self.order = list(counts), tuple(alphabet), len(counts) - 1
        self.name, self.context = name or f"{self.order}-gram", context
        self.capabilities = frozenset(CAPABILITIES) - {"chat"}

    @staticmethod
    def fit(texts: Sequence[str], order: int = 3) -> NGram:
        """Count the texts. order: how many characters before one it may depend on, 0 to 16. Raises InputError."""
        if not 0 <= order <= LARGEST_ORDER:
            raise InputError(f"order is {order}: give 0 to {LARGEST_ORDER}")
        if not texts or isinstance(texts, str):
            raise InputError("an n-gram model is counted on a list of texts, with at least one")
        highest: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            padded = END * order + text + END
            for i in range(order, len(padded)):
                highest[padded[i - order : i]][padded[i]] += 1
        counts: list[Counts] = [dict(highest)]
        for n in range(order - 1, -1, -1):  # in how many longer contexts a character follows the shorter one
            lower: dict[str, Counter[str]] = defaultdict(Counter)
            for context, following in counts[0].items():
                lower[context[len(context) - n :]].update(following.keys())
            counts.insert(0, dict(lower))
        return NGram(counts, sorted({c for text in texts for c in text} | {END}))

    # -- probabilities ------------------------------------------------------------------------------------------------
    def probability(self, character: str, before: str) -> float:
        """Of a character after a text; 0 for one that no text of the training held."""
        p = 1 / len(self.alphabet) if character in self.alphabet else 0.0
        padded = END * self.order + before
        for n, level in enumerate(self.counts):
            following = level.get(padded[len(padded) - n :])
            if following:
                total = following.total()
                p = max(following[character] - DISCOUNT, 0.0) / total + DISCOUNT * len(following) / total * p
        return p

    def bits_per_character(self, texts: Sequence[str]) -> float:
        """Mean -log2 p of the characters of texts and their ends; infinite for characters that were never seen."""
        bits, count = 0.0, 0
        for text in texts:
            for i, c in enumerate(text + END):
                p = self.probability(c, text[max(0, i - self.order) : i])
                bits, count = bits - (math.log2(p) if p else -math.inf), count + 1
        return bits / count

    # -- a language model ---------------------------------------------------------------------------------------------
    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text: its code points."""
        return tuple(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(map(chr, ids))

    def text_of(self, prompt: Prompt) -> str:
        return prompt if isinstance(prompt, str) else self.decode(prompt)  # type: ignore[arg-type]

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.text_of(prompt))

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, prefix: str | Sequence[int]) -> list[Reply]:
        begun = self.text_of(prefix) if len(prefix) else ""
        replies = []
        for prompt in prompts:
            text = self.text_of(prompt) + begun
            seeds = range(sampling.seed or 0, (sampling.seed or 0) + sampling.n)
            replies.append(Reply(tuple(self._write(text, sampling, seed) for seed in seeds), len(text)))
        return replies

    def _write(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        """One completion."""
        rng, text, finish, tokens = random.Random(seed), "", "length", 0
        logprobs: list[float] = []
        while finish == "length" and tokens < sampling.max_new_tokens:
            c, logprob = self._next(prompt + text, sampling, rng)
            tokens += 1
            if c == END:
                finish = "stop"
                continue
            text, logprobs = text + c, [*logprobs, logprob]
            if ended := [s for s in sampling.stop if text.endswith(s)]:
                text, finish = text[: -len(ended[0])], "stop"
        kept = tuple(logprobs[: len(text)]) if sampling.logprobs else None
        return Completion(text, finish, tokens, self.encode(text), kept)

    def _next(self, before: str, sampling: Sampling, rng: random.Random) -> tuple[str, float]:
        """(the next character, its log probability before temperature and nucleus)."""
        before = before[max(0, len(before) - self.order) :]
        ranked = sorted(((self.probability(c, before), c) for c in self.alphabet), reverse=True)
        if sampling.temperature == 0:
            p, c = ranked[0]
            return c, math.log(p)
        weights = [p ** (1 / sampling.temperature) for p, _ in ranked]
        total, mass, kept = sum(weights), 0.0, 0
        while kept < len(weights) and (kept == 0 or mass < sampling.top_p * total):
            mass, kept = mass + weights[kept], kept + 1
        drawn = rng.random() * mass
        for (p, c), weight in zip(ranked[:kept], weights[:kept], strict=True):
            drawn -= weight
            if drawn <= 0:
                return c, math.log(p)
        p, c = ranked[kept - 1]
        return c, math.log(p)

    def score_each(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        scores = []
        for prompt, text in zip(prompts, continuations, strict=True):
            before = self.text_of(prompt)
            ps = [self.probability(c, before + text[:i]) for i, c in enumerate(text)]
            scores.append(tuple(math.log(p) if p else -math.inf for p in ps))
        return scores


def entropy_ladder(text: str, orders: int) -> list[float]:
    """F_0 ... F_orders of a text, in bits: log2 of its alphabet, then a character's entropy given 0, 1, ... before it.

    By counting, so that large orders are too low for a short text; they never rise (Shannon 1951).
    """
    if len(text) <= orders:
        raise InputError(f"a text of {len(text)} characters is too short for {orders} before each: give a longer one")
    ladder = [math.log2(len(set(text)))]
    for n in range(orders):
        grams = Counter(text[i - n : i + 1] for i in range(orders, len(text)))
        contexts: Counter[str] = Counter()
        for gram, count in grams.items():
            contexts[gram[:-1]] += count
        total = grams.total()
        ladder.append(-sum(c / total * math.log2(c / contexts[g[:-1]]) for g, c in grams.items()))
    return ladder
