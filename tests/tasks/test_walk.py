"""The walk: its simulation against one written cell by cell, its turns, and plans against breadth-first search."""

from collections import deque

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.tasks import get
from innerloop.tasks.walk import FLOOR, WALKER, WALL, plan_by_imagination

STEPS = {"^": (-1, 0), ">": (0, 1), "v": (1, 0), "<": (0, -1)}


def walked(grid: list[str], actions: str, edge: str) -> list[list[str]]:
    """What is seen after each action, written with characters."""
    n, seen = len(grid), []
    r, c = next((r, c) for r in range(n) for c in range(n) if grid[r][c] == "@")
    for a in actions:
        y, x = r + STEPS[a][0], c + STEPS[a][1]
        if edge == "wrap":
            y, x = y % n, x % n
        if 0 <= y < n and 0 <= x < n and grid[y][x] != "#":
            r, c = y, x
        rows = [line.replace("@", ".") for line in grid]
        rows[r] = rows[r][:c] + "@" + rows[r][c + 1 :]
        seen.append(rows)
    return seen


@pytest.mark.parametrize("edge", ["block", "wrap"])
def test_labels_are_what_happens(edge: str) -> None:
    task = get("walk", size=4, walls=5, actions=6, edge=edge)
    s = task.make(40, seed=1)
    for question, label in zip(s.inputs, s.labels, strict=True):
        text, seen = task.decode(question), task.decode(label)
        first = [text[4 * r : 4 * r + 4] for r in range(4)]
        actions = "".join(text[16 * k] for k in range(1, 7))
        want = ["".join(first)] + ["".join(rows) for rows in walked(first, actions, edge)]
        assert seen == "".join(want)
        assert set(text.replace("_", "")) <= set("#.@^>v<") and text.count("_") == 6 * 15
    stood = [sum(a == b for a, b in zip(*pairs, strict=True)) for pairs in _pairs(task, s.labels)]
    assert s.rating.tolist() == stood and max(stood) > 0


def _pairs(task, labels):
    for grid in labels.reshape(-1, *task.shape):
        rows = [row.tobytes() for row in grid]
        yield rows[:-1], rows[1:]


def test_walls_and_walkers_are_as_many_as_asked_for() -> None:
    s = get("walk", size=5, walls=6, actions=2).make(300, seed=0)
    world = s.inputs[:, :25]
    walls = (world == WALL).sum(1)
    assert ((world == WALKER).sum(1) == 1).all() and set(walls.tolist()) == set(range(7))
    actions = np.unique(s.inputs[:, 25::25], return_counts=True)
    assert actions[0].tolist() == [4, 5, 6, 7] and actions[1].min() > 100


def test_only_rows_with_an_action_are_told_and_judged() -> None:
    task = get("walk", size=3, walls=0, actions=3)
    world = task.encode("....@...." + "_" * 27)[None, :9]
    question = task.question(world, np.array([[1]]))
    label = task.told(question)
    assert task.decode(label[0]) == "....@.........@..." + "_" * 18
    answer = label.copy()
    answer[0, 18:] = FLOOR
    assert task.score(question[0], answer[0], label[0]) == (True, 1.0, True)
    answer[0, 9] = WALKER
    assert not task.score(question[0], answer[0], label[0]).valid
    two = np.where(np.arange(36) == 0, WALKER, question)
    assert not task.valid_batch(two, task.told(two))[0]  # no world has two walkers


@pytest.mark.parametrize("edge", ["block", "wrap"])
def test_turning_a_question_turns_what_happens(edge: str) -> None:
    task = get("walk", size=4, walls=4, actions=5, edge=edge)
    s = task.make(64, seed=2)
    turned, labels = task.augment(s.inputs, s.labels, np.random.default_rng(3))
    assert np.array_equal(task.told(turned), labels)
    images = {task.augment(s.inputs[:1], s.labels[:1], np.random.default_rng(k))[0].tobytes() for k in range(200)}
    assert len(images) == 8


def bfs(task, world: np.ndarray, goal: int) -> int:
    """Fewest actions, by simulating questions of one action: -1 for none."""
    seen, queue = {world.tobytes(): 0}, deque([world])
    while queue:
        here = queue.popleft()
        if here[goal] == WALKER:
            return seen[here.tobytes()]
        told = task.told(task.question(np.repeat(here[None], 4, 0), np.arange(4)[:, None]))
        for following in told.reshape(4, *task.shape)[:, 1]:
            if following.tobytes() not in seen:
                seen[following.tobytes()] = seen[here.tobytes()] + 1
                queue.append(following)
    return -1


@pytest.mark.parametrize("edge", ["block", "wrap"])
def test_distances_and_best_actions_are_those_of_a_search(edge: str) -> None:
    task = get("walk", size=3, walls=4, actions=1, edge=edge)
    for world in task.make(25, seed=3).inputs[:, :9]:
        at = int((world == WALKER).argmax())
        for goal in range(9):
            far = task.distances(world, goal)
            assert far[at] == bfs(task, world, goal)
            begins = [
                far[at] > 0 and bfs(task, task.told(task.question(world[None], np.array([[a]])))[0, 9:], goal) == far[at] - 1  # noqa: E501
                for a in range(4)
            ]  # fmt: skip
            assert task.best(world, goal).tolist() == begins


@pytest.mark.parametrize("edge", ["block", "wrap"])
def test_a_plan_in_the_true_world_is_a_shortest_way(edge: str) -> None:
    task = get("walk", size=4, walls=5, actions=4, edge=edge)
    worlds = task.make(40, seed=4).inputs[:, :16]
    goals = np.random.default_rng(0).integers(16, size=40)
    found = plan_by_imagination(task, task.told, worlds, goals, horizon=4)
    reached = 0
    for world, goal, actions, steps in zip(worlds, goals, found.actions, found.steps, strict=True):
        far = task.distances(world, goal)[(world == WALKER).argmax()]
        if not 1 <= far <= 4:  # a wall, too far, or there already: then a plan may only come back
            assert steps == 0 or (far == 0 and steps <= 2)
            continue
        reached += 1
        seen = task.told(task.question(world[None], actions[None])).reshape(task.shape)
        assert steps == far and task.best(world, goal)[actions[0]] and seen[steps, goal] == WALKER
    assert reached > 15


def test_a_planner_that_imagines_wrongly_plans_wrongly() -> None:
    """So the check above can fail: up and down exchanged in imagination."""
    task = get("walk", size=4, walls=0, actions=2)
    exchanged = np.array([0, 1, 2, 3, 6, 5, 4, 7], np.uint8)

    def mirrored(questions: np.ndarray) -> np.ndarray:
        grid = questions.reshape(-1, *task.shape).copy()
        grid[:, 1:, 0] = exchanged[grid[:, 1:, 0]]
        return task.told(grid.reshape(questions.shape))

    world = task.encode(".....@.........." + "_" * 32)[None, :16]
    found = plan_by_imagination(task, mirrored, world, np.array([1]), horizon=2)
    assert found.steps[0] == 1 and not task.best(world[0], 1)[found.actions[0, 0]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 1}, "choose a size"),
        ({"size": 3, "walls": 8}, "no room"),
        ({"actions": 0}, "cannot have 0 actions"),
        ({"edge": "fall"}, "no edge"),
    ],
)
def test_impossible_worlds_fail_at_the_door(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        get("walk", **options)


def test_a_horizon_beyond_the_actions_says_so() -> None:
    task = get("walk", size=3, walls=0, actions=2)
    with pytest.raises(InputError, match="out of reach"):
        plan_by_imagination(task, task.told, np.full((1, 9), FLOOR, np.uint8), np.array([0]), horizon=3)
