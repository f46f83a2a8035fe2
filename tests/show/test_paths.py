"""Paths of states that mean something, within the room there is."""

import numpy as np
import pytest
import torch

from innerloop.show import paths
from innerloop.show.paths import CountSketch, StatePaths, flatten_state, project_paths


def rows_of(table):
    return [v.astype(np.float32) for v in np.asarray(table)]


def test_components_are_those_of_an_exact_decomposition_of_the_later_steps():
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(60, 3)) * [9, 4, 0.5] @ rng.normal(size=(3, 200)) + 7).astype(np.float32)
    drawn, explained = project_paths([rows_of(table[:25]), rows_of(table[25:])])
    assert [len(p) for p in drawn] == [25, 35]
    late = np.delete(table, [0, 25], 0)
    _, s, v = np.linalg.svd(late - late.mean(0), full_matrices=False)
    found, wanted = np.array(drawn[0] + drawn[1]), (table - late.mean(0)) @ v[:2].T
    assert np.allclose(np.abs(found), np.abs(wanted), rtol=2e-3, atol=0.002 * np.abs(wanted).max())
    assert np.allclose(explained, (s**2 / (s**2).sum())[:2], atol=1e-3)
    assert (found[np.abs(found).argmax(0), [0, 1]] > 0).all()


def test_a_long_first_step_does_not_hide_the_others():
    turn = np.linspace(0, 6, 30)
    table = np.zeros((31, 50))
    table[1:, 0], table[1:, 1] = np.cos(turn), np.sin(turn)
    table[0, 2] = 1000
    drawn, explained = project_paths([rows_of(table)])
    radius = np.linalg.norm(np.array(drawn[0])[1:] - np.mean(drawn[0][1:], 0), axis=1)
    assert sum(explained) > 0.999 and radius.min() > 0.5


def test_trajectories_that_are_apart_are_drawn_from_where_they_begin():
    rng = np.random.default_rng(1)
    way = rng.normal(size=(12, 40)).cumsum(0)
    places = 1000 * rng.normal(size=(3, 40))
    tables = [rows_of(way + p) for p in places]
    together, apart = project_paths(tables)[0], project_paths(tables, apart=True)[0]
    assert np.ptp(np.array(together)[:, 0], axis=0).max() > 500
    assert np.allclose(apart[0], apart[1], atol=0.01) and np.allclose(apart[0], apart[2], atol=0.01)
    assert np.ptp(np.array(apart[0]), axis=0).min() > 1


@pytest.mark.parametrize("rows", [[], [[]], [[np.ones(3, np.float32)]], [[np.ones(3, np.float32)] * 4]], ids=str)
@pytest.mark.parametrize("apart", [False, True])
def test_components_of_nearly_nothing(rows, apart):
    drawn, explained = project_paths(rows, apart)
    assert [len(p) for p in drawn] == [len(r) for r in rows] and explained == [0.0, 0.0]


def test_two_steps_have_a_line():
    drawn, explained = project_paths([[np.zeros(5, np.float32), np.ones(5, np.float32)]])
    assert explained == [1.0, 0.0] and drawn[0][0] != drawn[0][1]


def test_components_of_states_that_are_no_numbers():
    drawn, explained = project_paths([[np.full(4, np.nan, np.float32), np.ones(4, np.float32)]])
    assert drawn == [[[0.0, 0.0], [0.0, 0.0]]] and explained == [0.0, 0.0]


@pytest.mark.slow
def test_a_sketch_keeps_distances_in_less_room():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 50_000)).astype(np.float32) * np.linspace(0.1, 3, 40)[:, None].astype(np.float32)
    sketch = CountSketch(50_000, 2_000)
    small = np.stack([sketch(r) for r in rows])
    assert small.shape == (40, 2_000)
    exact = np.linalg.norm(rows[:, None] - rows[None], axis=-1)[np.triu_indices(40, 1)]
    rough = np.linalg.norm(small[:, None] - small[None], axis=-1)[np.triu_indices(40, 1)]
    assert np.abs(rough / exact - 1).max() < 0.12  # several times the standard error, sqrt(1 / 2000)
    assert CountSketch(100, 2_000)(rows[0, :100]) is not None and CountSketch(100, 2_000).fits


def test_states_of_views_are_turned_back():
    """A slot with a row for each cell, after two of a prefix: row c stands for cell c, whatever view it was seen in."""
    cells = np.array([2, 0, 1])
    seen = torch.arange(10.0).reshape(5, 2)  # rows 2, 3, 4 are cells 0, 1, 2 of the view: puzzle's 2, 0, 1
    flat = flatten_state((seen, torch.tensor(3), torch.ones(4)), 3, cells)
    assert flat.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 1, 1, 1, 1]


def test_paths_stay_within_their_room(monkeypatch):
    monkeypatch.setattr(paths, "MAX_BYTES", 4 * 64 * 40)  # 64 numbers for each of 40 moments
    kept = StatePaths(2, 40, 9)
    for t in range(20):
        for k in range(2):
            kept.add(k, (torch.randn(9, 100) + t, torch.zeros(3)))
    assert all(len(v) == 64 for rows in kept.rows for v in rows)
    drawn, _ = kept.drawn()
    assert [len(p) for p in drawn] == [20, 20]
