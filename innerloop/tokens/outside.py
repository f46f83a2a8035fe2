"""The program of the process in which other packages judge answers; run by tokens.child, it imports nothing of ours.

Each line of standard input is a request and each line of standard output its reply, as JSON. What a model wrote is
given to math-verify and to reasoning-gym's scorers, some of which call eval() on it: here eval() and sympy's parse_expr
take numbers, operators, lists and names of mathematics alone, and refuse everything else.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import logging
import os
import sys
from typing import Any

MEMORY = 4 << 30  # bytes of address space, where the system can limit it
MOST_CHARACTERS = 20_000  # of a text that is evaluated
NODES = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.Load,
    ast.operator, ast.unaryop,
)  # fmt: skip
MATHEMATICS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln",
    "sqrt", "Abs", "pi", "E", "I", "C",
}  # fmt: skip
evaluate = builtins.eval
DATASETS: dict[tuple[Any, ...], Any] = {}


def check(text: str, names: bool) -> None:
    """Raise ValueError unless the text is made of numbers and operators, or of lists of them; names: and of letters."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError("too long")
    try:
        tree = ast.parse(text.strip().replace("^", "**") if names else text.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("no expression") from None
    for node in ast.walk(tree):
        plain = isinstance(node, ast.Name) and names and (len(node.id) == 1 or node.id in MATHEMATICS)
        call = isinstance(node, ast.Call) and names and isinstance(node.func, ast.Name) and not node.keywords
        text_in_names = names and isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if text_in_names or not (plain or call or isinstance(node, NODES)):
            raise ValueError("not mathematics")


def guarded_eval(source: Any, *scopes: Any) -> Any:
    """eval() as it is, but for reasoning-gym, which calls it on answers: a text that `check` takes."""
    caller = sys._getframe(1)
    if isinstance(source, str | bytes) and caller.f_globals.get("__name__", "").startswith("reasoning_gym"):
        check(source if isinstance(source, str) else source.decode(), names=False)
        return evaluate(source.strip(), {"__builtins__": {}})
    return evaluate(source, *(scopes or (caller.f_globals, caller.f_locals)))


def guard() -> None:
    """Put the guards in place, before any package is imported that takes the functions by name."""
    import sympy
    from sympy.parsing import sympy_parser

    parse = sympy_parser.parse_expr

    def guarded_parse(source: str, *args: Any, **options: Any) -> Any:
        check(source, names=True)
        return parse(source, *args, **options)

    sympy_parser.parse_expr = sympy.parse_expr = guarded_parse
    builtins.eval = guarded_eval  # type: ignore[assignment]


def verify(right: str, said: str) -> bool:
    """Whether math-verify holds two answers in LaTeX for equal. Time is limited from outside."""
    from math_verify import parse, verify

    sides = [parse(f"${text}$", parsing_timeout=None) for text in (right, said)]
    return bool(verify(*sides, timeout_seconds=None))


def dataset(name: str, size: int, seed: int) -> Any:
    """A dataset of reasoning-gym."""
    import reasoning_gym

    key = (name, size, seed)
    if key not in DATASETS:
        DATASETS[key] = reasoning_gym.create_dataset(name, size=size, seed=seed)
    return DATASETS[key]


def prepare(package: str) -> bool:
    """Import a package, which takes seconds."""
    importlib.import_module(package)
    return True


def gym_names() -> list[str]:
    """The names of reasoning-gym's datasets."""
    import reasoning_gym  # noqa: F401
    from reasoning_gym.factory import DATASETS as known

    return sorted(known)


def gym_entries(name: str, size: int, seed: int) -> list[list[Any]]:
    """[question, answer] of every entry of a dataset."""
    entries = [dataset(name, size, seed)[i] for i in range(size)]
    return [[e["question"], None if e.get("answer") is None else str(e["answer"])] for e in entries]


def gym_score(name: str, size: int, seed: int, index: int, said: str) -> float:
    """The score of an answer to an entry of a dataset."""
    made = dataset(name, size, seed)
    return float(made.score_answer(answer=said, entry=made[index]))


def gym_score_row(name: str, entry: dict[str, Any], said: str) -> float:
    """The score of an answer to an entry that a file holds."""
    return float(dataset(name, 1, 0).score_answer(answer=said, entry=entry))


ALL: tuple[Any, ...] = (prepare, verify, gym_names, gym_entries, gym_score, gym_score_row)
FUNCTIONS = {f.__name__: f for f in ALL}


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, OSError, ValueError):
        pass
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print is no reply
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(5000)
    guard()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            reply = {"value": FUNCTIONS[name](*arguments)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
