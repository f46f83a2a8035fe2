"""Othello on an n x n board, many games at once: data for probing what a model of move sequences knows of the board.

    games(count, size, seed)    random legal games as cells played
    replay(moves, size)         after every move: the board, who moves next, and where he may

Black is 1, white -1, empty 0; black begins. A player who cannot move is passed over without a word, as in the games of
arXiv 2210.13382, so the colour of a move is more than its parity. Many games are played at once on boards that are
64-bit words. Shapes: N games, T plies, S = n * n cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from innerloop.errors import InputError

__all__ = [
    "Flips",
    "GameRecord",
    "absolute",
    "flips",
    "games",
    "legal_moves",
    "picture",
    "relative",
    "replay",
    "tokens",
]

CHUNK = 1000  # games drawn together, each chunk from a seed of its own
Words = NDArray[np.uint64]
Cells = NDArray[np.int8]
EMPTY, MINE, THEIRS = 0, 1, 2


class GameRecord(NamedTuple):
    """What is known after each ply of N games; where a game is over, its last board and nobody to move."""

    board: Cells  # (N, T, S) 1 black, -1 white, 0 empty
    side: Cells  # (N, T) who moves next: 1, -1; 0: the game is over
    legal: NDArray[np.bool_]  # (N, T, S) where he may


@lru_cache
def directions(size: int) -> tuple[tuple[np.uint64, bool, np.uint64], ...]:
    """(by how many bits, upwards?, cells that do not wrap round an edge) of the eight shifts by one cell."""
    if size not in (4, 6, 8):
        raise InputError(f"Othello is not played on {size} x {size} here: give a size of 4, 6 or 8")
    column = np.arange(size * size) % size
    found = []
    for dr, dc in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
        fits = (column + dc >= 0) & (column + dc < size)
        step = dr * size + dc
        found.append((np.uint64(abs(step)), step > 0, pack_bits(fits[None])[0]))
    return tuple(found)


def pack_bits(cells: NDArray[np.bool_]) -> Words:
    """(N, S) bools -> (N,) words."""
    bits = np.uint64(1) << np.arange(cells.shape[1], dtype=np.uint64)
    found: Words = (cells * bits).sum(1, dtype=np.uint64)
    return found


def unpack_bits(word: Words, size: int) -> NDArray[np.bool_]:
    """(N,) words -> (N, S) bools."""
    return (word[..., None] >> np.arange(size * size, dtype=np.uint64) & np.uint64(1)).astype(bool)


def shift(word: Words, way: tuple[np.uint64, bool, np.uint64], size: int) -> Words:
    """Every disc one cell on; those that would leave the board are gone."""
    by, up, fits = way
    kept = word & fits
    shifted: Words = (kept << by if up else kept >> by) & np.uint64((1 << size * size) - 1)
    return shifted


def run(start: Words, theirs: Words, way: tuple[np.uint64, bool, np.uint64], size: int) -> Words:
    """Their discs that lie in one unbroken line from `start`."""
    found = shift(start, way, size) & theirs
    for _ in range(size - 3):
        found = found | (shift(found, way, size) & theirs)
    return found


def legal_mask(mine: Words, theirs: Words, size: int) -> Words:
    """Where "mine" may move: empty cells behind a run of theirs."""
    found = np.zeros_like(mine)
    for way in directions(size):
        found |= shift(run(mine, theirs, way, size), way, size)
    legal: Words = found & ~(mine | theirs)
    return legal


def play(mine: Words, theirs: Words, at: Words, size: int) -> tuple[Words, Words]:
    """(mine, theirs) after a move at the one cell of `at`."""
    turned = np.zeros_like(mine)
    for way in directions(size):
        line = run(at, theirs, way, size)
        closed = (shift(line, way, size) & mine) != 0
        turned |= np.where(closed, line, np.uint64(0))
    return mine | at | turned, theirs & ~turned


class Game:
    """N games at once: who moves next, his discs, the other's, and where he may."""

    def __init__(self, count: int, size: int) -> None:
        directions(size)
        middle, self.size = size // 2, size
        corner = [[m * size + n for m, n in pairs] for pairs in _first(middle)]
        black, white = (np.uint64(sum(1 << c for c in cells)) for cells in corner)
        self.mine, self.theirs = np.full(count, black), np.full(count, white)
        self.side = np.ones(count, np.int8)
        self.legal = legal_mask(self.mine, self.theirs, size)

    def move(self, live: NDArray[np.int64], cell: NDArray[np.int64]) -> None:
        """Games `live` go on with a move at `cell`, one each; a player who cannot answer is passed over."""
        at = np.uint64(1) << cell.astype(np.uint64)
        theirs, mine = play(self.mine[live], self.theirs[live], at, self.size)
        side = -self.side[live]
        legal = legal_mask(mine, theirs, self.size)
        again = legal == 0
        back = legal_mask(theirs, mine, self.size)
        mine, theirs = np.where(again, theirs, mine), np.where(again, mine, theirs)
        side, legal = np.where(again, -side, side), np.where(again, back, legal)
        self.mine[live], self.theirs[live], self.legal[live] = mine, theirs, legal
        self.side[live] = np.where(legal == 0, 0, side)

    def board(self, side: Cells) -> Cells:
        """(N, S) colours, where `mine` are the discs of `side` (N,)."""
        seen = unpack_bits(self.mine, self.size).astype(np.int8) - unpack_bits(self.theirs, self.size).astype(np.int8)
        return seen * side[:, None]


def _first(m: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells of the first four discs, black's and white's."""
    return [(m - 1, m), (m, m - 1)], [(m - 1, m - 1), (m, m)]


def games(count: int, size: int = 6, seed: int = 0, first: int = 0) -> Cells:
    """(count, S - 4) cells played in random legal games, -1 after the end; game i is a function of (seed, i // CHUNK).

    first   number of the first game, a multiple of CHUNK: lists that do not overlap
    """
    if first % CHUNK or count < 1:
        raise InputError(f"games come in lists that begin at a multiple of {CHUNK}, and hold 1 or more")
    parts = [_chunk(size, np.random.default_rng([seed, first // CHUNK + i])) for i in range(-(-count // CHUNK))]
    return np.concatenate(parts)[:count]


def _chunk(size: int, rng: np.random.Generator) -> Cells:
    game = Game(CHUNK, size)
    moves = np.full((CHUNK, size * size - 4), -1, np.int8)
    for ply in range(moves.shape[1]):
        draw = rng.random((CHUNK, size * size))
        live = np.flatnonzero(game.side)
        cell = (draw[live] * unpack_bits(game.legal[live], size)).argmax(1)
        moves[live, ply] = cell
        game.move(live, cell)
    return moves


def replay(moves: Cells, size: int = 6) -> GameRecord:
    """What stands on the board after each ply of (N, T) moves. Raises InputError for a move that is not legal."""
    count, plies = moves.shape
    game = Game(count, size)
    boards = np.zeros((count, plies, size * size), np.int8)
    sides, legal = np.zeros((count, plies), np.int8), np.zeros((count, plies, size * size), bool)
    owner = game.side.copy()  # whose discs `mine` are; as `side`, but kept when a game is over
    for ply in range(plies):
        live = np.flatnonzero(moves[:, ply] >= 0)
        cell = moves[live, ply].astype(np.int64)
        wrong = ~unpack_bits(game.legal[live], size)[np.arange(len(live)), np.minimum(cell, size * size - 1)]
        if wrong.any():
            bad = int(live[wrong][0])
            raise InputError(f"game {bad}, ply {ply + 1}: cell {moves[bad, ply]} is no legal move; check the list")
        before = owner[live]
        game.move(live, cell)
        owner[live] = np.where(game.side[live] == 0, before, game.side[live])
        boards[:, ply], sides[:, ply], legal[:, ply] = game.board(owner), game.side, unpack_bits(game.legal, size)
    return GameRecord(boards, sides, legal)


def legal_moves(board: Cells, side: Cells, size: int) -> NDArray[np.bool_]:
    """(N, S) where `side` (N,) may move on boards (N, S)."""
    seen = board * side[:, None]
    return unpack_bits(legal_mask(pack_bits(seen == 1), pack_bits(seen == -1), size), size)


class Flips(NamedTuple):
    """One disc of each game to turn over: the target of a steering intervention."""

    game: NDArray[np.int64]  # (M,)
    ply: NDArray[np.int64]  # (M,)
    cell: NDArray[np.int64]  # (M,)
    target: NDArray[np.int64]  # (M,) its class in that other board: MINE or THEIRS
    now: NDArray[np.bool_]  # (M, S) legal moves of the board as it is
    then: NDArray[np.bool_]  # (M, S) legal moves of the other board


def flips(played: GameRecord, size: int, seed: int = 0) -> Flips:
    """A random ply and disc of every game whose other colour would change what is legal, leaving something so."""
    rng = np.random.default_rng(seed)
    count, plies = played.side.shape
    ply = rng.integers(2, plies - 4, count)
    rows = np.arange(count)
    board, side, now = played.board[rows, ply], played.side[rows, ply], played.legal[rows, ply]
    cell = ((board != 0) * rng.random(board.shape)).argmax(1)
    other = board.copy()
    other[rows, cell] *= -1
    then = legal_moves(other, side, size)
    kept = np.flatnonzero((side != 0) & then.any(1) & (then != now).any(1))
    target = np.where(other[rows, cell] == side, MINE, THEIRS)
    return Flips(kept, ply[kept], cell[kept], target[kept], now[kept], then[kept])


def tokens(moves: Cells) -> NDArray[np.int64]:
    """Cells as tokens 1 .. S; 0 after the end."""
    return moves.astype(np.int64) + 1


def relative(played: GameRecord) -> NDArray[np.int64]:
    """(N, T, S) classes seen by who moves next: EMPTY, MINE, THEIRS."""
    seen = played.board * played.side[..., None]
    return np.where(seen == 0, EMPTY, np.where(seen == 1, MINE, THEIRS))


def absolute(played: GameRecord) -> NDArray[np.int64]:
    """(N, T, S) classes by colour: 0 empty, 1 black, 2 white."""
    return np.where(played.board == 0, 0, np.where(played.board == 1, 1, 2))


def picture(board: Cells, size: int) -> str:
    """A board in lines of text: x black, o white."""
    symbols = np.array([".", "x", "o"])[np.asarray(board).reshape(size, size)]
    return "\n".join("".join(row) for row in symbols)
