"""Graph colouring against brute force, and N-Queens' exact search against published lists."""

from __future__ import annotations

import gzip
import json
from itertools import permutations, product

import numpy as np
import pytest

from innerloop.data.opening import open_set
from innerloop.errors import InputError
from innerloop.tasks import get
from innerloop.tasks.colouring import FIRST, JOINED, Colouring, read_graphs
from innerloop.tasks.queens import Queens


def edges_of(task: Colouring, question: np.ndarray) -> list[tuple[int, int]]:
    board = question.reshape(task.shape)
    return [(a, b) for a in range(task.size) for b in range(a) if board[a, b] == JOINED]


def brute(task: Colouring, question: np.ndarray) -> set[tuple[int, ...]]:
    """Every colouring of all k^n that keeps the givens and parts every edge."""
    given, edges = question[task.diagonal], edges_of(task, question)
    return {
        colours
        for colours in product(range(FIRST, FIRST + task.colours), repeat=task.size)
        if all(g in (task.blank, c) for g, c in zip(given, colours, strict=True))
        and all(colours[a] != colours[b] for a, b in edges)
    }


@pytest.mark.parametrize("options", [{"size": 5}, {"size": 7}, {"size": 5, "colours": 2}, {"size": 5, "colours": 4}])
def test_exact_search_finds_what_brute_force_finds(options: dict) -> None:
    task = Colouring(**options)
    s = task.make(12, seed=3)
    several = 0
    for question, label in zip(s.inputs, s.labels, strict=True):
        every = task.every(question, 10**6)
        assert {tuple(a) for a in every[:, task.diagonal]} == brute(task, question)
        assert task.valid_batch(np.repeat(question[None], len(every), 0), every).all()
        assert any((a == label).all() for a in every) and task.solutions(question, 10**6) == len(every)
        assert len(task.every(question, 2)) == min(2, len(every)) == task.solutions(question)
        several += len(every) > 1
    assert several > 4


def test_valid_is_exactly_what_the_rules_allow() -> None:
    task = Colouring(4, givens=(1, 1))
    for question in task.make(6, seed=0).inputs:
        answers = np.repeat(question[None], 3**4, 0)
        answers[:, task.diagonal] = np.array(list(product(range(FIRST, FIRST + 3), repeat=4)))
        valid = task.valid_batch(np.repeat(question[None], 3**4, 0), answers)
        assert {tuple(a) for a in answers[valid][:, task.diagonal]} == brute(task, question)


def test_generated_graphs_are_colourable_and_of_the_density_asked_for() -> None:
    task = Colouring(10, density=0.5)
    s = task.make(300, seed=0)
    board = s.labels.reshape(-1, 10, 10)
    assert (board == board.transpose(0, 2, 1)).all()
    colour = s.labels[:, task.diagonal]
    apart = colour[:, :, None] != colour[:, None]
    joined = (board == JOINED) & ~np.eye(10, dtype=bool)
    assert not (joined & ~apart).any() and abs(joined.sum() / apart.sum() - 0.5) < 0.02
    blanks = (s.inputs == task.blank).sum(1)
    assert np.array_equal(blanks, s.rating) and set(blanks) == {7, 8}


def test_the_first_two_givens_tell_the_colours_apart() -> None:
    """With three colours and two joined givens no two solutions differ by names alone."""
    task = Colouring(6, density=0.7, givens=(2, 2))
    for question in task.make(20, seed=1).inputs:
        partitions = {
            tuple(tuple(np.flatnonzero(a == c)) for c in dict.fromkeys(a.tolist()))
            for a in task.every(question, 10**4)[:, task.diagonal]
        }
        assert len(partitions) == task.solutions(question, 10**4)


@pytest.mark.slow
def test_keys_and_exact_comparison_agree_with_trying_every_order() -> None:
    task = Colouring(5, givens=(0, 3), density=0.6)
    s = task.make(60, seed=2)
    keys = task.canonical_batch(s.inputs)
    relations = task._relations(s.inputs)
    alike = unlike = 0
    for i in range(0, 60, 2):
        for j in range(i + 1, min(i + 12, 60)):
            images = (relations[j][np.ix_(p, p)] for p in permutations(range(5)))
            isomorphic = any(np.array_equal(relations[i], image) for image in images)
            assert task.same(s.inputs[i], s.inputs[j]) == isomorphic
            assert keys[i] == keys[j] or not isomorphic
            alike, unlike = alike + isomorphic, unlike + (not isomorphic)
    assert alike > 3 and unlike > 50


def asked(task: Colouring, edges: list[tuple[int, int]]) -> np.ndarray:
    """A question without givens."""
    joined = np.zeros(task.shape, bool)
    for a, b in edges:
        joined[a, b] = joined[b, a] = True
    return task.example(joined, np.full(task.size, FIRST), np.array([], int)).question


def test_two_regular_graphs_that_look_alike_are_told_apart() -> None:
    """A ring of six and two triangles: the same for every vertex that only counts its neighbours."""
    task = Colouring(6)
    ring = asked(task, [(i, (i + 1) % 6) for i in range(6)])
    triangles = asked(task, [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)])
    turned = asked(task, [(i * 5 % 6, (i + 1) * 5 % 6) for i in range(6)])
    assert not task.same(ring, triangles) and task.same(ring, turned) and task.canonical(ring) == task.canonical(turned)


def test_where_keys_cannot_tell_the_exact_comparison_does() -> None:
    """The rook's graph and Shrikhande's: strongly regular alike, so that colour refinement sees no difference."""
    task, cells = Colouring(16), list(product(range(4), repeat=2))

    def cayley(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(4 * r + c, 4 * ((r + a) % 4) + (c + b) % 4) for r, c in cells for a, b in steps]

    rook = asked(task, cayley([(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]))
    shrikhande = asked(task, cayley([(0, 1), (1, 0), (1, 1), (0, 3), (3, 0), (3, 3)]))
    assert task.canonical(rook) == task.canonical(shrikhande) and not task.same(rook, shrikhande)
    assert task.same(rook, task.augment(rook[None], rook[None], np.random.default_rng(0))[0][0])


def test_pictures_mark_what_clashes() -> None:
    task = Colouring(4)
    s = task.make(1, seed=0)
    a, b = edges_of(task, s.inputs[0])[0]
    wrong = s.labels[0].copy()
    wrong[task.diagonal[a]] = wrong[task.diagonal[b]]
    marked = set(np.flatnonzero(task.wrong_cells(s.inputs[0], wrong)))
    assert {task.diagonal[a], task.diagonal[b]} <= marked and not task.wrong_cells(s.inputs[0], s.labels[0]).any()
    assert "●" in task.terminal(s.inputs[0], s.labels[0]).plain and "●" in task.svg(s.inputs[0], s.labels[0])


@pytest.mark.parametrize("wrong", [{"size": 2}, {"colours": 1}, {"density": 1.5}, {"givens": (5, 2)}])
def test_options_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(InputError):
        get("colouring", **wrong)


def test_files_of_graphs(tmp_path) -> None:
    good = {"n_vertices": 3, "edges": [[0, 1], [2, 1]], "n_colors": 3, "answer": [1, 2, 1]}
    path = tmp_path / "g.jsonl"

    def write(*records: dict) -> None:
        path.write_text("\n".join(json.dumps(r) for r in records) + "\n")

    write(good, good | {"edges": []})
    task, s = read_graphs(path)
    assert (task.size, task.colours, s.task) == (3, 3, "colouring") and s.rating.tolist() == [1.0, 2.0]
    assert task.decode(s.inputs[0]) == "1#.#2#.#?" and task.decode(s.inputs[1]) == "1...?...?"
    assert len(read_graphs(path, limit=1)[1]) == 1
    for bad, says in (
        ({"answer": [1, 1, 1]}, "row 2: the answer breaks"),
        ({"answer": [1, 2]}, "each of 3 vertices"),
        ({"answer": [1, 2, 4]}, "each of 3 vertices"),
        ({"edges": [[0, 3]]}, "leaves the vertices"),
        ({"edges": [[1, 1]]}, "no edge a loop"),
        ({"n_vertices": 4, "answer": [1, 1, 1, 1], "edges": []}, "split the file"),
        ({"edges": "none"}, "row 2: no graph"),
    ):
        write(good, good | bad)
        with pytest.raises(InputError, match=says):
            read_graphs(path)
    path.write_text("")
    with pytest.raises(InputError, match="holds no graph"):
        read_graphs(path)


def test_published_graphs_have_their_published_number_of_colourings(real_data) -> None:
    """Counted there over all names of three colours; two joined givens leave one of six."""
    for name in ("rg_graphcolor8.jsonl.gz", "rg_graphcolor10.jsonl.gz"):
        path = real_data / name
        if not path.exists():
            pytest.skip(f"{name} is not in shared/data")
        task, s = read_graphs(path, limit=150)
        with gzip.open(path, "rt") as handle:
            records = [json.loads(line) for line in handle][:150]
        for record, question in zip(records, s.inputs, strict=True):
            assert 6 * task.solutions(question, 10**6) == record["n_solutions"] and record["edges"]


def test_published_boards_of_queens_have_their_published_solutions(real_data) -> None:
    path = real_data / "rg_nqueens8.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    task, s = open_set(path)
    assert isinstance(task, Queens)
    with gzip.open(path, "rt") as handle:
        records = [json.loads(line) for line in handle]
    for record, question in zip(records, s.inputs, strict=True):
        assert sorted(map(task.decode, task.every(question, 1000))) == sorted(record["solutions"])


def test_an_empty_board_holds_the_known_numbers_of_queens() -> None:
    for size, number in ((4, 2), (5, 10), (6, 4), (8, 92)):
        task = Queens(size)
        board = np.ones(size * size, np.uint8)
        assert task.solutions(board, 1000) == number and task.solutions(board) == 2
        board[[0, 1]] = 2  # two queens in a row
        assert task.solutions(board, 1000) == 0
