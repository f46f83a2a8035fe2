"""Ways to think by their names, nested as calls: "vote(8)", "vote(8, direct)", "vote(4, budget(512, wait=2))".

way = way_of("best(8, verify)", model)
answer(way, item)
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from innerloop.errors import InputError
from innerloop.text import did_you_mean, printable
from innerloop.tokens.acting import Acting
from innerloop.tokens.best import Best, Judge, Verified
from innerloop.tokens.chain import Chain
from innerloop.tokens.direct import Direct
from innerloop.tokens.forcing import Budgeted
from innerloop.tokens.judges import Pairwise, Scalar
from innerloop.tokens.modes import Mode
from innerloop.tokens.prompts import Shot
from innerloop.tokens.retry import Retry
from innerloop.tokens.samples import Samples
from innerloop.tokens.shorthand import Shorthand, read_macros
from innerloop.tokens.vote import Vote
from innerloop.tokens.way import Waves, Way
from innerloop.tokens.zero_shot import ZeroShot

__all__ = ["JUDGES", "WAYS", "about", "sure_of", "way_of"]

SAMPLED = 0.7  # temperature of ways of which several samples are taken


@dataclass(frozen=True)
class Setting:
    """What the ways of an expression share."""

    model: Any
    shots: tuple[Shot, ...] = ()
    temperature: float = 0.0
    judge_model: Any = None  # None: the model itself

    @property
    def sampled(self) -> Setting:
        """The same for a way of which several samples are taken."""
        return replace(self, temperature=self.temperature or SAMPLED)


def direct(to: Setting, tokens: int = 32) -> Way:
    """the answer alone, in one call"""
    return Direct(to.model, max_new_tokens=tokens, temperature=to.temperature)


def chain(to: Setting, tokens: int = 256) -> Way:
    """a chain of thought, then the answer, in one call"""
    return Chain(to.model, to.shots, max_new_tokens=tokens, temperature=to.temperature)


def equation(to: Setting, tokens: int = 256) -> Way:
    """a control of chain: worked examples with their equation alone"""
    return Chain(to.model, to.shots, style="equation", max_new_tokens=tokens, temperature=to.temperature)


def dots(to: Setting, tokens: int = 256) -> Way:
    """a control of chain: worked examples with dots in place of the chain"""
    return Chain(to.model, to.shots, style="dots", max_new_tokens=tokens, temperature=to.temperature)


def shorthand(to: Setting, file: str = "runs/macros.json", tokens: int = 256) -> Way:
    """a chain of thought in which steps have names, from a file of innerloop macros"""
    return Shorthand(to.model, read_macros(file), to.shots, max_new_tokens=tokens, temperature=to.temperature)


def zero_shot(to: Setting, tokens: int = 128) -> Way:
    """ "Let's think step by step", then a second call for the answer"""
    return ZeroShot(to.model, max_new_tokens=tokens, temperature=to.temperature)


def vote(to: Setting, n: int = 8, inner: Builder = chain, wave: int = 0, least: float = 0.0) -> Way:
    """the answer that most of n samples give"""
    return Vote(inner(to.sampled), n, wave=wave, least=least)


def best(to: Setting, n: int = 8, judge: str = "verify", inner: Builder = chain, wave: int = 0) -> Way:
    """the best of n samples by a judge: verify, score or pairs"""
    if judge not in JUDGES:
        raise InputError(f'no judge is called "{printable(str(judge), 60)}": {did_you_mean(str(judge), JUDGES)}')
    return Best(inner(to.sampled), n, JUDGES[judge](to.judge_model or to.model), wave=wave)


def retry(to: Setting, n: int = 4, tokens: int = 256) -> Way:
    """answer, verify, and answer again with the verifier's message"""
    return Retry(to.model, n, max_new_tokens=tokens, temperature=to.sampled.temperature)


def budget(to: Setting, tokens: int = 512, wait: int = 0, word: str = "Wait") -> Way:
    """a thought of at most so many tokens, made to go on `wait` times"""
    return Budgeted(to.model, tokens, wait=wait, word=word, temperature=to.temperature)


def think(to: Setting, tokens: int = 1024, format: str = "think") -> Way:
    """a thinking model with its thought on, up to a budget"""
    return Mode(to.model, tokens=tokens, format=format, temperature=to.temperature)


def no_think(to: Setting, format: str = "think") -> Way:
    """a thinking model with its thought off"""
    return Mode(to.model, thinking=False, format=format, temperature=to.temperature)


def act(to: Setting, n: int = 8, tokens: int = 128) -> Way:
    """a calculator that the model may call n times, then the answer"""
    return Acting(to.model, n, max_new_tokens=tokens, temperature=to.temperature)


def plan(to: Setting, n: int = 8, tokens: int = 128, words: int = 96) -> Way:
    """the same after a plan of so many tokens (reason before acting)"""
    return Acting(to.model, n, plan=words, max_new_tokens=tokens, temperature=to.temperature)


Builder = Callable[..., Way]
ALL = (
    direct, chain, equation, dots, shorthand, zero_shot, vote, best, retry, budget, think, no_think, act, plan,
)  # fmt: skip
WAYS: dict[str, Builder] = {f.__name__: f for f in ALL}
JUDGES: dict[str, Callable[[Any], Judge]] = {"verify": lambda model: Verified(), "score": Scalar, "pairs": Pairwise}


def way_of(text: str, model: Any, shots: Sequence[Shot] = (), temperature: float = 0.0, judge_model: Any = None) -> Way:
    """The way of an expression. Raises InputError for one that is not known, and MissingCapability."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise no_way(text) from None
    return builder_of(node, text)(Setting(model, tuple(shots), temperature, judge_model))


def about(text: str) -> str:
    """The outermost way of an expression that `way_of` takes, in one line."""
    return (WAYS[text.partition("(")[0].strip()].__doc__ or "").strip()


def sure_of(way: Way) -> str:
    """What the confidence of a way is, as the end of a phrase such as "90 % verified"; "" where it has none."""
    if isinstance(way, Retry) or (isinstance(way, Best) and isinstance(way.judge, Verified)):
        return "verified"
    if isinstance(way, Best):
        return "by the judge"
    return "of the votes" if isinstance(way, Waves | Samples) else ""


def no_way(text: str) -> InputError:
    return InputError(f'"{printable(text, 60)}" is no way to think: write one such as vote(8) or budget(512, wait=2)')


def builder_of(node: ast.expr, text: str) -> Builder:
    """A function of a Setting that makes the way of a node."""
    name, arguments, named = node, [], []
    if isinstance(node, ast.Call):
        name, arguments, named = node.func, node.args, node.keywords
    if not isinstance(name, ast.Name):
        raise no_way(text)
    if name.id not in WAYS:
        raise InputError(f'no way to think is called "{printable(name.id, 60)}": {did_you_mean(name.id, WAYS)}')
    make = WAYS[name.id]
    signature = inspect.signature(make)
    values, known = [value_of(a, text) for a in arguments], list(signature.parameters)[1:]
    keywords = {k.arg: value_of(k.value, text) for k in named if k.arg}
    if unknown := [k for k in keywords if k not in known]:
        raise InputError(f'{name.id} has no "{printable(unknown[0], 60)}": {did_you_mean(unknown[0], known)}')
    try:
        bound = signature.bind(None, *by_type(values, keywords, signature), **keywords)
    except TypeError as error:
        raise InputError(f"{printable(text, 100)}: {error}; {name.id} takes {', '.join(known)}") from None
    return lambda to: make(to, *bound.args[1:], **bound.kwargs)


def by_type(values: list[Any], keywords: dict[str, Any], signature: inspect.Signature) -> list[Any]:
    """Positional values; a way goes to the parameter `inner` and a judge to `judge`, wherever they stand."""
    rest = []
    for value in values:
        place = "inner" if callable(value) else "judge" if isinstance(value, str) and value in JUDGES else ""
        if place in signature.parameters and place not in keywords:
            keywords[place] = value
        else:
            rest.append(value)
    return rest


def value_of(node: ast.expr, text: str) -> Any:
    """A number, a text, the name of a judge, or another way."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    if isinstance(node, ast.Name) and node.id in JUDGES:
        return node.id
    if isinstance(node, ast.Name | ast.Call):
        return builder_of(node, text)
    raise InputError(f"{printable(text, 100)}: an argument is a number, a text, or another way to think")
