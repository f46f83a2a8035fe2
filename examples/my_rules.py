"""Both diagonals hold every digit."""

DIAGONALS = ([0, 5, 10, 15], [3, 6, 9, 12])


def rule(question: str, answer: str) -> bool:
    return all({answer[cell] for cell in line} == set("1234") for line in DIAGONALS)


def constrain(model, has, question: str) -> None:
    for line in DIAGONALS:
        for digit in "1234":
            model.add_exactly_one([has(cell, digit) for cell in line])
