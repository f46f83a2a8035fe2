"""Probing: does a language model hold what it declares? A few small calls, one sentence for each capability.

    for finding in probe(model):
        print(finding.name, finding.holds, finding.said)

An endpoint declares what its API has; servers behind it differ. Calls are charged like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from innerloop.errors import InputError
from innerloop.lm.protocol import Prompt, Reply

__all__ = ["Finding", "probe"]

QUESTION = "Count from one to twenty in words, with a space after each: one two three"
SHORT, LONG = 8, 24  # tokens of a call
SEEDS = (11, 12, 13)
COMPARED = 8  # characters of a continuation


class Finding(NamedTuple):
    """What a probe says about one capability."""

    name: str  # in protocol.CAPABILITIES
    holds: bool | None  # None: it cannot be told
    said: str  # one sentence without a full stop


def probe(model: Any) -> list[Finding]:
    """Findings on the capabilities that a model declares, in the order of CHECKS.

    Raises InputError if it answers no prompt at all, and OverBudget.
    """
    prompt: Prompt = QUESTION if "raw" in model.capabilities else [{"role": "user", "content": QUESTION}]
    probed = Probed(model, prompt, call(model, prompt, LONG))
    return [found(name, check, probed) for name, check in CHECKS.items() if name in model.capabilities]


class Probed(NamedTuple):
    """A model, a prompt, and its likeliest answer."""

    model: Any
    prompt: Prompt
    first: Reply

    @property
    def text(self) -> str:
        return self.first.completions[0].text


def found(name: str, check: Callable[[Probed], tuple[bool | None, str]], probed: Probed) -> Finding:
    """The finding of one check; a refusal is one too."""
    try:
        return Finding(name, *check(probed))
    except InputError as error:
        return Finding(name, False, f"it was refused: {error}")


def call(model: Any, prompt: Prompt, tokens: int, **how: Any) -> Reply:
    """The reply to one prompt."""
    (reply,) = model.generate([prompt], max_new_tokens=tokens, **how)
    return reply


# -- checks: (whether it holds, the sentence) -------------------------------------------------------------------------


def check_raw(p: Probed) -> tuple[bool | None, str]:
    return True, "a text was continued"


def check_chat(p: Probed) -> tuple[bool | None, str]:
    call(p.model, [{"role": "user", "content": QUESTION}], SHORT)
    return True, "a message was answered"


def check_usage(p: Probed) -> tuple[bool | None, str]:
    """Counts are within the limit, and grow with the prompt."""
    longer: Any = QUESTION + " " + QUESTION
    longer = longer if isinstance(p.prompt, str) else [{"role": "user", "content": longer}]
    small, large = call(p.model, p.prompt, SHORT), call(p.model, longer, SHORT)
    if not 0 < small.tokens_in < large.tokens_in:
        return False, f"it counted {small.tokens_in} tokens of a prompt, and {large.tokens_in} of one twice as long"
    if not 0 < small.tokens_out <= SHORT:
        return False, f"it counted {small.tokens_out} tokens of an answer of {SHORT} at most"
    return True, f"it counted {small.tokens_in} tokens of a prompt, and {large.tokens_in} of one twice as long"


def check_stop(p: Probed) -> tuple[bool | None, str]:
    """A word of the likeliest answer as the stop text."""
    words = p.text.split()
    if len(words) < 2:
        return None, "its answer is too short to be stopped within"
    stop = max(words[1:], key=len)
    completion = call(p.model, p.prompt, LONG, stop=(stop,)).completions[0]
    if stop in completion.text:
        return False, f"it did not end at the text {stop!r}"
    if completion.finish != "stop":
        return None, f"it did not write {stop!r} again"
    return True, f"it ended before {stop!r}"


def check_logprobs(p: Probed) -> tuple[bool | None, str]:
    completion = call(p.model, p.prompt, SHORT, logprobs=True).completions[0]
    return judged(completion.logprobs or (), completion.tokens)


def judged(logprobs: Sequence[float], tokens: int) -> tuple[bool, str]:
    """Whether these can be log probabilities of so many tokens, or of fewer."""
    if not 0 < len(logprobs) <= tokens:
        return False, f"it gave {len(logprobs)} log probabilities of {tokens} tokens"
    if not all(p <= 0 for p in logprobs):
        return False, f"it gave {max(logprobs):g} as a log probability"
    return True, f"it gave {len(logprobs)} log probabilities of {tokens} tokens"


def check_n(p: Probed) -> tuple[bool | None, str]:
    """Completions that all are equal are suspect, but no proof."""
    completions = call(p.model, p.prompt, LONG, n=3, temperature=1.0, seed=SEEDS[0]).completions
    if len(completions) != 3:
        return False, f"it gave {len(completions)} completions where 3 were asked for"
    different = len({c.text for c in completions})
    if different == 1:
        return None, "it gave 3 completions, all of them equal"
    return True, f"it gave 3 completions, {different} of them different"


def check_seed(p: Probed) -> tuple[bool | None, str]:
    """The same seed twice, then others."""
    texts = [call(p.model, p.prompt, LONG, temperature=1.0, seed=s).completions[0].text for s in (SEEDS[0], *SEEDS)]
    if texts[0] != texts[1]:
        return False, "it gave two samples for one seed"
    if len(set(texts)) == 1:
        return None, f"it gave one sample for all of {len(SEEDS)} seeds"
    return True, f"it gave one sample for one seed, and {len(set(texts))} for {len(SEEDS)} seeds"


def check_prefill(p: Probed) -> tuple[bool | None, str]:
    """The first words of the likeliest answer as its begin: the others must follow."""
    cut = p.text.rfind(" ", 1, len(p.text) // 2 + 1)
    begun, rest = p.text[: max(cut, 0)], p.text[max(cut, 0) :].strip()
    if not begun.strip() or len(rest) < COMPARED:
        return None, "its answer is too short to be begun for it"
    went_on = call(p.model, p.prompt, LONG, prefix=begun).completions[0].text.strip()
    if went_on[:COMPARED] == rest[:COMPARED]:
        return True, "it went on with an answer that was begun for it"
    return False, f"begun with its own words it went on with {went_on[:40]!r}, not with {rest[:40]!r}"


def check_ids(p: Probed) -> tuple[bool | None, str]:
    """The same prompt as ids; the text of the ids that it gives."""
    ids = p.model.prompt_ids(p.prompt) if hasattr(p.model, "prompt_ids") else p.model.encode(QUESTION)
    completion = call(p.model, ids, LONG).completions[0]
    if completion.ids is None:
        return False, "it gave no ids"
    if completion.text != p.text:
        return False, "it answered the ids of a prompt otherwise than the prompt"
    return True, "it answered the ids of a prompt as the prompt"


def check_scoring(p: Probed) -> tuple[bool | None, str]:
    return judged(p.model.score([p.prompt], [p.text])[0], len(p.text.encode()))  # it may spell its own text otherwise


CHECKS: dict[str, Callable[[Probed], tuple[bool | None, str]]] = {
    "raw": check_raw, "chat": check_chat, "usage": check_usage, "stop": check_stop, "logprobs": check_logprobs,
    "n": check_n, "seed": check_seed, "prefill": check_prefill, "ids": check_ids, "scoring": check_scoring,
}  # fmt: skip
