"""Othello's rules against a slow twin; what a small model of a small world knows, and that it uses it."""

import numpy as np
import pytest
import torch

from innerloop.core import think
from innerloop.errors import InputError
from innerloop.parts.config import NetConfig
from innerloop.study import othello
from innerloop.study.player import (
    Player,
    legal_rate,
    loss,
    player_config,
    question,
    steering_interventions,
    wrong_moves,
)
from innerloop.study.probes import measure
from innerloop.study.record import record_updates

# -- the rules --------------------------------------------------------------------------------------------------------


def taken(board, side, row, column):
    """Discs turned by a move, cell by cell: the slow twin of othello.play."""
    n, found = len(board), []
    if board[row, column]:
        return found
    for dr, dc in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b):
        line, r, c = [], row + dr, column + dc
        while 0 <= r < n and 0 <= c < n and board[r, c] == -side:
            line.append((r, c))
            r, c = r + dr, c + dc
        if line and 0 <= r < n and 0 <= c < n and board[r, c] == side:
            found += line
    return found


def may(board, side):
    n = len(board)
    return {r * n + c for r in range(n) for c in range(n) if taken(board, side, r, c)}


@pytest.mark.parametrize("n", [4, 6, pytest.param(8, marks=pytest.mark.slow)])
def test_games_follow_the_rules(n):
    moves = othello.games(40, n, seed=n)
    played = othello.replay(moves, n)
    passes = 0
    for i in range(len(moves)):
        board, side, m = np.zeros((n, n), int), 1, n // 2
        board[m - 1, m - 1] = board[m, m] = -1
        board[m - 1, m] = board[m, m - 1] = 1
        for t, cell in enumerate(moves[i]):
            if cell < 0:
                assert side == 0 and (moves[i, t:] < 0).all()
                continue
            row, column = divmod(int(cell), n)
            turned = taken(board, side, row, column)
            assert turned, "every move takes something"
            board[row, column] = side
            for at in turned:
                board[at] = side
            if may(board, -side):
                side = -side
            else:
                side = side if may(board, side) else 0
                passes += side != 0
            assert (played.board[i, t] == board.reshape(-1)).all() and played.side[i, t] == side
            want = may(board, side) if side else set()
            assert set(np.flatnonzero(played.legal[i, t])) == want
    assert n == 8 or passes, "some player had to pass"


def test_black_opens_on_8x8_as_the_books_say():
    board = np.zeros((8, 8), np.int8)
    board[3, 3] = board[4, 4] = -1
    board[3, 4] = board[4, 3] = 1
    found = othello.legal_moves(board.reshape(1, -1), np.ones(1, np.int8), 8)
    assert {"abcdefgh"[c % 8] + str(c // 8 + 1) for c in np.flatnonzero(found)} == {"d3", "c4", "f5", "e6"}
    assert othello.picture(board, 8).splitlines()[3] == "...ox..."


def test_lists_of_games_are_repeatable_and_do_not_overlap():
    a, b, c = othello.games(1500, 6), othello.games(500, 6, first=1000), othello.games(100, 6, seed=1)
    assert (a[1000:] == b).all() and (a[:100] == othello.games(100, 6)).all() and not (a[:100] == c).all()
    assert len({tuple(g) for g in a}) == 1500
    assert othello.tokens(a).min() >= 0 and othello.tokens(a).max() == 36


def test_labels_by_colour_and_by_side():
    played = othello.replay(othello.games(50, 6), 6)
    mine, black = othello.relative(played), othello.absolute(played)
    for side, same in ((1, True), (-1, False)):
        rows = played.side == side
        assert (((mine == 1) == (black == 1))[rows].all()) == same
    assert ((mine == 0) == (black == 0))[played.side != 0].all()


def test_flips_change_what_is_legal():
    played = othello.replay(othello.games(200, 6), 6)
    aim = othello.flips(played, 6, seed=2)
    assert len(aim.game) > 100 and (aim.then != aim.now).any(1).all() and aim.then.any(1).all()
    board, side = played.board[aim.game, aim.ply], played.side[aim.game, aim.ply]
    rows = np.arange(len(board))
    held = board[rows, aim.cell] * side
    assert (held != 0).all() and (aim.target == np.where(held == 1, 2, 1)).all()
    board[rows, aim.cell] *= -1
    assert (othello.legal_moves(board, side, 6) == aim.then).all()


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: othello.games(5, 5), "4, 6 or 8"),
        (lambda: othello.games(5, 6, first=7), "multiple of 1000"),
        (lambda: othello.replay(np.zeros((1, 3), np.int8), 6), "no legal move"),
    ],
)
def test_bad_calls_are_one_sentence(call, why):
    with pytest.raises(InputError, match=why):
        call()


# -- the model --------------------------------------------------------------------------------------------------------


def test_a_player_is_causal_and_a_loop():
    player, x = Player(player_config(4, 32, 2), 2), question(othello.tokens(othello.games(6, 4)))
    other = x._replace(inputs=x.inputs.clone())
    other.inputs[:, 7:] = 3
    a, b = (think(player, q, 2).answer.logits for q in (x, other))
    assert torch.allclose(a[:, :7], b[:, :7], atol=1e-5) and not torch.allclose(a[:, 7:], b[:, 7:], atol=1e-3)
    thought, records = record_updates(player, x, 2)
    assert [(m.step, m.name) for m in records] == [(1, "1"), (1, "2"), (2, "1"), (2, "2")]
    assert torch.equal(records[-1].kept.z, thought.state.z)
    wide = Player(player_config(6), 4)
    assert sum(p.numel() for p in wide.blocks.parameters()) == 4 * sum(p.numel() for p in wide.blocks["1"].parameters())


CELLS, PLIES = 6, 10


def turns(count, seed):
    """A world in turns: six cells belong to one of two players, who take cells from each other. Legal: what is theirs.

    Returns cells played (N, T), and who owns each cell after every ply (N, T, S), 1 or -1; 1 begins.
    """
    rng = np.random.default_rng(seed)
    owner = np.tile([1, -1], (count, CELLS // 2))
    moves, owners = np.zeros((count, PLIES), np.int64), np.zeros((count, PLIES, CELLS), np.int64)
    for ply in range(PLIES):
        side = 1 - 2 * (ply % 2)
        moves[:, ply] = ((owner == -side) * rng.random(owner.shape)).argmax(1)
        owner[np.arange(count), moves[:, ply]] = side
        owners[:, ply] = owner
    return moves, owners


SIDE = np.where(np.arange(PLIES) % 2, 1, -1)  # who moves after each ply


@pytest.fixture(scope="module")
def taught():
    """Two blocks that learned to say what may be played, and the same untrained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = NetConfig(CELLS + 1, PLIES, 1, 32, 2, 1, multiple_of=32, norm="pre", positions="learned", mask="causal",
                     prefix=0,
                puzzle_emb_size=0)  # fmt: skip
    player, idle = Player(size, 2), Player(size, 2)
    moves = torch.from_numpy(turns(4000, 1)[0] + 1)
    optimizer = torch.optim.AdamW(player.parameters(), lr=5e-3, weight_decay=0.01)
    steps = 360
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, step / 30) * (1 - step / steps)
        value = loss(player, question(moves[torch.randint(len(moves), (64,))].numpy()), 1)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return player.eval(), idle.eval()


@pytest.mark.slow
def test_a_model_of_moves_knows_the_board_as_mine_and_theirs(taught):
    """Linear mine/theirs beats the commonest class by 20 points, the untrained net and black/white by 5 or more.

    An MLP reads black/white as well: the knowledge is there, in other coordinates.
    """
    moves, owners = turns(350, 0)
    x = question(moves + 1)
    mine = (owners == SIDE[:, None]).astype(np.int64)
    right, places = legal_rate(taught[0], x, mine == 0, 1)
    assert right / places > 0.92
    states = [record_updates(player, x, 1)[1][-1].kept.z[:, 1:].flatten(0, 1) for player in taught]
    relative, absolute = (torch.from_numpy(v)[:, 1:].flatten(0, 1) for v in (mine, (owners == 1).astype(np.int64)))
    groups = np.repeat(np.arange(len(moves)), PLIES - 1)
    theirs, _ = measure("ridge", states[0], relative, groups, 2)
    idle, _ = measure("ridge", states[1], relative, groups, 2)
    colour, _ = measure("ridge", states[0], absolute, groups, 2)
    bent, _ = measure("mlp", states[0], absolute, groups, 2)
    assert theirs.accuracy > theirs.majority + 0.2 and theirs.selectivity > 0.2
    assert theirs.accuracy > idle.accuracy + 0.1
    assert theirs.accuracy > colour.accuracy + 0.05 and theirs.low > colour.high
    assert bent.accuracy > colour.accuracy + 0.05


def test_the_model_uses_what_the_probe_reads(taught):
    """Push one cell to the other owner: predicted moves become those of that world; a random push does not do it."""
    moves, owners = turns(350, 2)
    x, player = question(moves + 1), taught[0]
    mine = (owners == SIDE[:, None]).astype(np.int64)
    groups = np.repeat(np.arange(len(moves)), PLIES)
    kept = {}
    for m in record_updates(player, x, 1)[1]:
        labels = torch.from_numpy(mine).flatten(0, 1)
        kept[m.step, m.update] = measure("ridge", m.kept.z.flatten(0, 1), labels, groups, 2, control=False)[1]
    moves, owners = turns(400, 3)
    x, mine = question(moves + 1), (owners == SIDE[:, None]).astype(np.int64)
    rng = np.random.default_rng(0)
    ply, cell = rng.integers(2, PLIES - 1, 400), rng.integers(0, CELLS, 400)
    rows = np.arange(400)
    now = mine[rows, ply] == 0
    then = now.copy()
    then[rows, cell] ^= True
    some = then.any(1)
    x, ply, cell, now, then = question(moves[some] + 1), ply[some], cell[some], now[some], then[some]
    target = torch.from_numpy(1 - then[np.arange(len(then)), cell].astype(np.int64))
    ply, cell = torch.from_numpy(ply), torch.from_numpy(cell)
    true, null = (wrong_moves(player, x, ply, legal, 1).mean() for legal in (now, then))
    pushes = [steering_interventions(kept, ply, cell, target, 2.0, g) for g in (None, torch.Generator().manual_seed(0))]
    steered, control = (wrong_moves(player, x, ply, then, 1, p).mean() for p in pushes)
    assert true < 0.6 and null > true + 0.7
    assert steered < 0.6 * null and control > 0.8 * null
