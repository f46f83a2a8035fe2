"""Binairo (Unruly): as many "a" as "b" in each row and column, and no three alike next to each other."""

from math import isqrt


def lines(size: int) -> list[list[int]]:
    rows = [[r * size + c for c in range(size)] for r in range(size)]
    return [*rows, *map(list, zip(*rows, strict=True))]


def rule(question: str, answer: str) -> bool:
    size = isqrt(len(question))
    texts = ["".join(answer[cell] for cell in line) for line in lines(size)]
    return all(2 * text.count("a") == size and "aaa" not in text and "bbb" not in text for text in texts)


def constrain(model, has, question: str) -> None:
    size = isqrt(len(question))
    for line in lines(size):
        model.add(sum(has(cell, "a") for cell in line) == size // 2)
        for three in zip(line, line[1:], line[2:], strict=False):
            for symbol in "ab":
                model.add_bool_or([~has(cell, symbol) for cell in three])
