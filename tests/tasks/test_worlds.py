"""Each world against an independent, slower way to know the truth."""

from __future__ import annotations

import time
from collections import deque
from itertools import permutations

import numpy as np
import pytest

from innerloop.data.arc_files import augmented
from innerloop.data.leakage import leakage
from innerloop.errors import InputError
from innerloop.rules.bounds import SearchBound, Undecided
from innerloop.study.arc_vote import input_key, pass_at, rank_candidates
from innerloop.tasks import get
from innerloop.tasks.arc import ARC, crop, dihedral_image, frame, undo_dihedral, undo_variant, variant_name
from innerloop.tasks.grid import Grid
from innerloop.tasks.maze import GOAL, START, WALL, WAY, Maze
from innerloop.tasks.queens import Queens
from innerloop.tasks.sudoku import Sudoku


# --- Sudoku -----------------------------------------------------------------------------------------------------------
def brute_count(tokens: np.ndarray, n: int, br: int, bc: int, limit: int = 2) -> int:
    """Plain backtracking with sets, no propagation: shares nothing with the library's search."""
    grid = [int(t) - 1 for t in tokens]
    rows, columns, boxes = ([set() for _ in range(n)] for _ in range(3))
    for c, d in enumerate(grid):
        if d:
            for place in (rows[c // n], columns[c % n], boxes[c // n // br * (n // bc) + c % n // bc]):
                assert d not in place
                place.add(d)

    def options(c: int) -> set[int]:
        return set(range(1, n + 1)) - rows[c // n] - columns[c % n] - boxes[c // n // br * (n // bc) + c % n // bc]

    def go() -> int:
        open_ = [c for c, d in enumerate(grid) if not d]
        if not open_:
            return 1
        c = min(open_, key=lambda c: len(options(c)))
        total = 0
        for d in options(c):
            places = rows[c // n], columns[c % n], boxes[c // n // br * (n // bc) + c % n // bc]
            grid[c] = d
            [p.add(d) for p in places]
            total += go()
            grid[c] = 0
            [p.remove(d) for p in places]
            if total >= limit:
                break
        return total

    return min(go(), limit)


@pytest.mark.parametrize(("size", "br", "bc"), [(4, 2, 2), (6, 2, 3), (9, 3, 3)])
def test_sudoku_solutions_are_unique(size: int, br: int, bc: int) -> None:
    task = Sudoku(size)
    s = task.make(5, seed=11)
    for question in s.inputs:
        assert brute_count(question, size, br, bc) == 1 == task.solutions(question)
        assert task.givens[0] <= (question > 1).sum() <= task.givens[1]
    removed = 0
    for question in s.inputs:  # and where a given is missing the two counts still agree
        for c in np.flatnonzero(question > 1)[:6]:
            fewer = question.copy()
            fewer[c] = 1
            many = brute_count(fewer, size, br, bc)
            assert many == task.solutions(fewer)
            removed += many > 1
    assert size == 9 or removed > 0


def test_sudoku_hard_givens_range_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Sudoku(givens=(24, 27)).make(20, seed=0)
    givens = (s.inputs > 1).sum(1)
    assert givens.min() >= 24 and givens.max() <= 27 and s.rating.max() > 0
    start = time.process_time()
    Sudoku().make(60, seed=0)
    assert (time.process_time() - start) / 60 < 0.010  # 2000 puzzles in 20 s
    monkeypatch.setattr("innerloop.tasks.sudoku.TRIES", 5)
    with pytest.raises(InputError, match="allow more givens"):
        Sudoku(givens=(17, 17)).sample(0, 0)


def test_sudoku_solve_and_ratings() -> None:
    task = Sudoku()
    s = task.make(3, seed=1)
    for question, label in zip(s.inputs, s.labels, strict=True):
        assert np.array_equal(task.solve(question), label)
    broken = s.inputs[0].copy()
    row = np.flatnonzero(broken[:9] > 1)
    broken[np.flatnonzero(broken[:9] == 1)[0]] = broken[row[0]]
    assert task.solve(broken) is None and task.solutions(broken) == 0
    assert task.wrong_cells(broken, broken).sum() >= 2


def test_empty_cells_of_an_answer_are_not_at_fault() -> None:
    task = get("sudoku", size=4)
    question = task.encode("1...............")
    answer = task.encode("12..2...........")
    assert not task.wrong_cells(question, question).any() and not task.wrong_cells(question, answer)[2:4].any()


NO_ANSWER = "." * 5 + "5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."  # hours of search


def test_a_search_ends_at_its_bound_and_says_that_nothing_is_decided() -> None:
    question = Sudoku().encode(NO_ANSWER)
    with pytest.raises(Undecided, match="after 300 nodes"):
        Sudoku().solutions(question, bound=SearchBound(nodes=300))
    start = time.monotonic()
    with pytest.raises(Undecided):
        Sudoku().solve(question, bound=SearchBound(seconds=0.05))
    assert time.monotonic() - start < 2
    one = Sudoku().make(1, seed=1).inputs[0]
    assert Sudoku().solutions(one, bound=SearchBound(nodes=10_000)) == 1


@pytest.mark.parametrize("name", ["queens", "colouring", "roster", "timetable"])
def test_every_search_has_a_bound(name: str) -> None:
    task = get(name)
    with pytest.raises(Undecided):
        task.every(task.make(1, seed=0).inputs[0], 10**6, SearchBound(nodes=1))


def test_sudoku_augment_is_fast() -> None:
    task, rng = Sudoku(), np.random.default_rng(0)
    s = task.make(64, seed=0)
    task.augment(s.inputs, s.labels, rng)
    start = time.process_time()
    for _ in range(20):
        task.augment(s.inputs, s.labels, rng)
    assert (time.process_time() - start) / 20 < 0.004  # 2 ms on a quiet core


def test_sudoku_augment_reaches_both_orientations_and_every_place() -> None:
    task = Sudoku()
    s = task.make(1, seed=4)
    turned_in, _ = task.augment(np.repeat(s.inputs, 400, 0), np.repeat(s.labels, 400, 0), np.random.default_rng(0))
    given = turned_in.reshape(-1, 9, 9) > 1
    first = s.inputs.reshape(9, 9) > 1
    rows = np.sort(first.sum(1)).tolist()
    assert rows != np.sort(first.sum(0)).tolist()
    upright = [np.sort(g.sum(1)).tolist() == rows for g in given]
    assert 0.4 < np.mean(upright) < 0.6
    share = given.mean(0)
    assert abs(share - first.mean()).max() < 0.12 and len(np.unique(turned_in, axis=0)) == 400


def test_sudoku_oblong_boxes_are_not_transposed() -> None:
    task, rng = Sudoku(6), np.random.default_rng(0)
    s = task.make(2, seed=0)
    transposed = s.inputs.reshape(-1, 6, 6).transpose(0, 2, 1).reshape(-1, 36)
    assert not task.same(s.inputs[0], transposed[0])
    big = np.repeat(s.inputs[:1], 200, 0)
    turned_in, turned_out = task.augment(big, np.repeat(s.labels[:1], 200, 0), rng)
    assert task.valid_batch(turned_in, turned_out).all()


def test_sudoku_exact_comparison_sees_what_keys_cannot() -> None:
    """Full grids are so regular that refinement cannot tell them apart; the exact check must.

    The 288 full 4x4 grids fall into two classes, one of each below.
    """
    task = Sudoku(4)
    a, b = task.encode("1234341221434321"), task.encode("1234341223414123")
    assert task.valid_batch(np.ones((2, 16), np.uint8), np.stack([a, b])).all()
    assert task.canonical(a) == task.canonical(b) and not task.same(a, b)
    twin, _ = task.augment(b[None], b[None], np.random.default_rng(1))
    assert task.same(b, twin[0])
    assert leakage(task.as_set(a[None], a[None]), task.as_set(b[None], b[None]), task).count == 0


# --- mazes ------------------------------------------------------------------------------------------------------------
def slow_distance(free: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> int:
    seen, queue = {start: 0}, deque([start])
    while queue:
        r, c = queue.popleft()
        for y, x in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            if 0 <= y < free.shape[0] and 0 <= x < free.shape[1] and free[y, x] and (y, x) not in seen:
                seen[y, x] = seen[r, c] + 1
                queue.append((y, x))
    return seen.get(goal, -1)


@pytest.mark.parametrize("options", [{"size": 12}, {"size": 15, "kind": "perfect"}])
def test_maze_labels_are_shortest(options: dict) -> None:
    task = Maze(**options)
    s = task.make(10, seed=2)
    for question, label, rating in zip(s.inputs, s.labels, s.rating, strict=True):
        board, n = question.reshape(task.shape), task.shape[0]
        start, goal = (tuple(int(v) for v in np.argwhere(board == t)[0]) for t in (START, GOAL))
        moves = slow_distance(board != WALL, start, goal)
        assert moves >= task.distance and rating == moves + 1
        assert (label == WAY).sum() == moves - 1
        assert slow_distance(np.isin(label.reshape(n, n), (WAY, START, GOAL)), start, goal) == moves


def test_maze_accepts_any_shortest_way_and_nothing_else() -> None:
    task = Maze(4, distance=4)
    question = task.encode("S    #    G     ")
    over, under = task.encode("Soo  #o   G     "), task.encode("S   o#  ooG     ")
    assert task.score(question, over, under) == (False, pytest.approx(10 / 16), True)
    wrong = {
        "a stray mark": "Soo  #o   G    o",
        "a longer way": "Sooo #oo  G     ",
        "a detour": "Sooo # o  Go    ",
        "a gap": "So   #o   G     ",
        "through a wall": "So   oo   G     ",
        "no way": "S    #    G     ",
        "a lost wall": "Soo   o   G     ",
        "a lost goal": "Soo  #o   o     ",
        "broken in two": "So   #   oGo    ",
    }
    for what, text in wrong.items():
        assert not task.score(question, task.encode(text), under).valid, what


def test_maze_does_not_wrap_around_the_edge() -> None:
    task = Maze(3, distance=1)
    question = task.encode("  SG#####")
    assert not task.valid_batch(question[None], task.encode("  SG#####")[None]).any()
    assert task.valid_batch(question[None], task.encode("ooSG#####")[None]).all()


def test_hard_mazes_are_like_the_published_ones() -> None:
    s = Maze(30, distance=109).make(2, seed=0)
    assert (s.rating >= 110).all()


# --- queens -----------------------------------------------------------------------------------------------------------
def test_queens_validity_equals_enumeration() -> None:
    task, n = Queens(5), 5
    empty = np.ones((1, 25), np.uint8)
    found = 0
    for columns in permutations(range(n)):
        board = np.ones((n, n), np.uint8)
        board[np.arange(n), columns] = 2
        free = all(abs(columns[i] - columns[j]) != j - i for i in range(n) for j in range(i + 1, n))
        assert task.valid_batch(empty, board.reshape(1, -1))[0] == free
        found += free
    assert found == 10


def test_queens_accept_another_solution_than_the_label() -> None:
    task = Queens(4)
    a, b = task.encode(".Q.....QQ.....Q."), task.encode("..Q.Q......Q.Q..")
    score = task.score(np.ones(16, np.uint8), a, b)
    assert score.valid and not score.exact
    assert not task.score(b, a, b).valid  # other queens were given
    assert not task.valid_batch(np.ones((1, 16), np.uint8), task.encode("Q....Q....Q....Q")[None])[0]
    assert not task.valid_batch(np.ones((1, 16), np.uint8), np.ones((1, 16), np.uint8))[0]


# --- ARC --------------------------------------------------------------------------------------------------------------
def test_arc_frame_crop_and_turns() -> None:
    rng = np.random.default_rng(0)
    for h, w, at in ((1, 1, (0, 0)), (30, 30, (0, 0)), (3, 7, (5, 20)), (30, 2, (0, 3)), (4, 5, (26, 25))):
        grid = rng.integers(0, 10, (h, w)).astype(np.uint8)
        assert np.array_equal(crop(frame(grid, at), at), grid)
        for k in range(8):
            assert np.array_equal(undo_dihedral(dihedral_image(grid, k), k), grid)
    board = frame(np.zeros((2, 3), int)).reshape(30, 30)
    assert board[:2, :3].tolist() == [[2, 2, 2], [2, 2, 2]]
    assert board[2, :4].tolist() == [1, 1, 1, 0] and board[:3, 3].tolist() == [1, 1, 0]
    assert crop(np.zeros(900, np.uint8)).size == 0
    with pytest.raises(InputError, match="does not fit"):
        frame(np.zeros((31, 2), int))


def test_arc_turns_are_the_official_numbering() -> None:
    g = np.arange(6).reshape(2, 3)
    official = [g, np.rot90(g), np.rot90(g, 2), np.rot90(g, 3), np.fliplr(g), np.flipud(g), g.T, np.fliplr(np.rot90(g))]
    assert all(np.array_equal(dihedral_image(g, k), image) for k, image in enumerate(official))


def test_arc_augment_moves_input_and_output_together() -> None:
    task = ARC()
    s = task.make(64, seed=0)
    moved_in, moved_out = task.augment(s.inputs, s.labels, np.random.default_rng(0))
    places = set()
    for old, new, old_label, new_label in zip(s.inputs, moved_in, s.labels, moved_out, strict=True):
        r, c = (int(v) for v in np.argwhere(new.reshape(30, 30) >= 2)[0])
        places.add((r, c))
        assert np.array_equal(crop(new, (r, c)), crop(old))
        assert np.array_equal(crop(new_label, (r, c)), crop(old_label))
        assert np.array_equal(frame(crop(old), (r, c)), new)
    assert len(places) > 40
    full = frame(np.full((30, 30), 3))[None]
    assert np.array_equal(task.augment(full, full, np.random.default_rng(0))[0], full)


def test_arc_expand_restore_vote_and_pass() -> None:
    s = ARC().make(6, seed=1)
    s = s.take(np.unique(s.puzzle, return_index=True)[1])
    e = augmented(s, count=5, seed=0)
    assert len(e) > 4 * len(s) and len(set(e.identifiers)) == len(e.identifiers)
    for row in range(len(e)):
        name, grid = undo_variant(e.identifiers[e.puzzle[row]], crop(e.inputs[row]))
        source = int(np.flatnonzero(s.group == e.group[row])[0])
        assert name == s.identifiers[s.puzzle[source]]
        assert np.array_equal(grid, crop(s.inputs[source]))
        assert np.array_equal(
            undo_variant(e.identifiers[e.puzzle[row]], crop(e.labels[row]))[1], crop(s.labels[source])
        )
    names = [e.identifiers[p] for p in e.puzzle]
    truth = {input_key(n, q): undo_variant(n, crop(a))[1] for n, q, a in zip(names, e.inputs, e.labels, strict=True)}
    assert len(truth) == len(s)
    ranked = rank_candidates(names, e.inputs, e.labels, np.full(len(e), 0.5))
    assert pass_at(ranked, truth, (1,)) == {1: 1.0}
    with pytest.raises(InputError, match="no name of an ARC puzzle"):
        undo_variant("x|||t1|||0123", np.zeros((1, 1)))


def test_arc_votes_rank_by_count_then_confidence() -> None:
    question, grids = frame(np.zeros((2, 2), int)), [frame(np.full((1, 1), c)) for c in (1, 2, 3)]
    answers = np.stack([grids[0], grids[1], grids[1], grids[2], grids[2]])
    ranked = rank_candidates(["p"] * 5, np.repeat(question[None], 5, 0), answers, np.array([0.99, 0.2, 0.4, 0.3, 0.5]))
    place = input_key("p", question)
    assert [int(c.grid[0, 0]) for c in ranked[place]] == [3, 2, 1]
    assert [c.votes for c in ranked[place]] == [2, 2, 1] and ranked[place][0].confidence == pytest.approx(0.4)
    truth = {place: np.array([[2]]), input_key("q", question): np.array([[9]])}
    assert pass_at(ranked, truth, (1, 2)) == {1: 0.0, 2: 0.5}
    assert variant_name("p", 3, np.arange(10)) == "p|||t3|||0123456789"


# --- grid -------------------------------------------------------------------------------------------------------------
def test_grid_infers_alphabet_shape_and_blank() -> None:
    task = Grid.infer(["a.b.", "..b."], ["aabb", "cabb"])
    assert (task.charset, task.shape, task.decode(np.array([task.blank]))) == (".abc", (2, 2), ".")
    assert not task.verifies and Grid.infer(["abc"], ["cba"]).blank == 0
    assert Grid.infer(["abc"], ["cba"]).shape == (1, 3)
    assert Grid.infer(["0120", "1..0"], ["1121", "1..0"]).blank == 0  # '.' stays in an answer, '0' too


def test_one_typo_does_not_change_how_a_small_file_is_read() -> None:
    rows = [("a.b.", "aabb"), ("..b.", "abba"), (".ab.", "bab" + "a"), ("b..a", "bbaa")]
    for typo in (("ba..", "abab"), ("aa..", "aa.b")):  # a given that changes; a cell that stays empty
        assert Grid.infer(*zip(*rows, typo, strict=True)).blank
    assert not Grid.infer(*zip(*rows[:2], ("ba..", "abab"), strict=True)).blank, "of three rows one is a third"


def test_grid_answers_must_keep_givens_and_fill_blanks() -> None:
    task = Grid("ab.", (1, 3), ".")
    question = task.encode("a..")[None]
    for text, good in (("abb", True), ("ab.", False), ("bbb", False), ("ab_", False)):
        assert task.valid_batch(question, task.encode(text)[None])[0] == good, text


def test_grid_rule_decides_validity() -> None:
    task = Grid("ab", (1, 2), rule=lambda q, a: bool(a[0] != a[1]))
    q = task.encode("aa")
    assert task.verifies and task.score(q, task.encode("ab"), task.encode("ba")).valid
    assert not task.score(q, task.encode("aa"), task.encode("ba")).valid


# --- leakage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "task", [Sudoku(6), Sudoku(9), Maze(12), Queens(8, givens=(4, 6)), ARC()], ids=lambda t: t.name
)
def test_leakage_finds_every_disguised_row_and_no_other(task) -> None:
    train, fresh = task.make(20, seed=0), task.make(20, seed=1)
    rows = np.array([3, 7, 12])
    hidden, labels = task.augment(train.inputs[rows], train.labels[rows], np.random.default_rng(0))
    if not isinstance(task, Queens):
        clean = leakage(train, fresh, task)
        assert clean.count == 0 and "No test puzzle" in str(clean)
    mixed = task.as_set(np.r_[fresh.inputs[:5], hidden], np.r_[fresh.labels[:5], labels])
    leak = leakage(train, mixed, task)
    assert set(leak.rows) >= {5, 6, 7}
    if not isinstance(task, Queens):
        assert leak.rows.tolist() == [5, 6, 7] and leak.twins.tolist() == rows.tolist()
        assert leak.count == 3 and leak.share == 3 / 8 and "test row 6" in str(leak)


def test_leakage_needs_sets_of_one_size() -> None:
    with pytest.raises(InputError, match="one size"):
        leakage(Sudoku(4).make(1, 0), Sudoku(6).make(1, 0), Sudoku(4))


def test_a_twin_of_the_first_training_row_is_a_leak_too() -> None:
    task = Sudoku(4)
    train = task.make(3, seed=0)
    assert leakage(train, train, task).twins.tolist() == [0, 1, 2]


def test_a_sudoku_that_differs_in_one_given_is_no_leak() -> None:
    task = Sudoku()
    s = task.make(30, seed=3)
    near = s.inputs.copy()
    for row in near:
        row[np.flatnonzero(row > 1)[0]] = 1
    assert leakage(s, task.as_set(near, s.labels), task).count == 0
