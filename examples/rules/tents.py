"""Tents: one tent for each tree, beside it; no tent touches another; a clue counts the tents of its row or column.

The clues stand above and before the board, "0" in the corner. "T" is a tree, "." an open cell; in the answer "^" is a
tent and "-" none.
"""

from math import isqrt


def board(question: str) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """((clue, cells) of every row and column, all cells of the board)."""
    side = isqrt(len(question))
    rows = [[r * side + c for c in range(side)] for r in range(side)]
    lines = [*rows[1:], *map(list, list(zip(*rows, strict=True))[1:])]
    return [(int(question[clue]), cells) for clue, *cells in lines], [cell for row in rows[1:] for cell in row[1:]]


def close(side: int, cell: int, corners: bool) -> list[int]:
    """The cells of the board beside a cell; with `corners` all eight around it."""
    row, column = divmod(cell, side)
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0) and (corners or not r * c)]
    return [(row + r) * side + column + c for r, c in steps if 0 < row + r < side and 0 < column + c < side]


def paired(trees: dict[int, list[int]]) -> bool:
    """Whether every tree can have a tent of its own, of those beside it (augmenting paths)."""
    owner: dict[int, int] = {}

    def find(tree: int, tried: set[int]) -> bool:
        for tent in trees[tree]:
            if tent not in tried:
                tried.add(tent)
                if tent not in owner or find(owner[tent], tried):
                    owner[tent] = tree
                    return True
        return False

    return all(find(tree, set()) for tree in trees)


def rule(question: str, answer: str) -> bool:
    side, (lines, cells) = isqrt(len(question)), board(question)
    tents = {cell for cell in cells if answer[cell] == "^"}
    trees = {
        cell: [near for near in close(side, cell, False) if near in tents] for cell in cells if question[cell] == "T"
    }
    apart = not any(near in tents for tent in tents for near in close(side, tent, True))
    counts = all(sum(cell in tents for cell in line) == clue for clue, line in lines)
    return apart and counts and len(tents) == len(trees) and paired(trees)


def constrain(model, has, question: str) -> None:
    side, (lines, cells) = isqrt(len(question)), board(question)
    takes = {cell: [] for cell in cells}  # of every cell: whether the tent there is that of a tree beside it
    for tree in cells:
        if question[tree] == "T":
            chosen = {near: model.new_bool_var("") for near in close(side, tree, False) if question[near] != "T"}
            model.add_exactly_one(chosen.values())
            for near, tent in chosen.items():
                takes[near].append(tent)
    for cell in cells:
        if question[cell] != "T":
            model.add(sum(takes[cell]) == has(cell, "^"))
            for near in close(side, cell, True):
                if near > cell and question[near] != "T":
                    model.add_bool_or([~has(cell, "^"), ~has(near, "^")])
    for clue, line in lines:
        model.add(sum(has(cell, "^") for cell in line if question[cell] != "T") == clue)
