"""NetConfig: the configuration that all parts of a net are built from."""

from __future__ import annotations

from dataclasses import dataclass

from innerloop.errors import InputError
from innerloop.parts.layers import NORMS
from innerloop.schema import Count, Layers, Many, Positive, Sets, Whole, check


@dataclass(frozen=True)
class NetConfig:
    """Defaults are those of HRM and TRM for 9x9 Sudoku, but HRM has layers=4 and TRM prefix=16."""

    vocab: Count = 11  # token kinds, 0 = padding
    seq: Count = 81  # tokens of a puzzle
    rows: Count = 9  # of the grid the tokens form, row by row; 1 for plain sequences
    hidden_size: Count = 512  # D, channels of a position, over all its nodes
    heads: Count = 8  # of attention
    layers: Layers = 2  # blocks in one net
    expansion: Positive = 4.0  # of SwiGLU, before its factor 2/3
    multiple_of: Count = 256  # SwiGLU's inner width is rounded up to this
    block: str = "attention"  # block type, which mixes between positions: a name from parts.mixers.BLOCKS
    norm: str = "post"  # placement of the norms: a name from parts.layers.NORMS
    positions: str = "rope"  # "rope", "learned" or "none"
    rope_base: Positive = 10_000.0  # of "rope": the longest wavelength is about 2 pi times this
    mask: str = "none"  # what attention masks: "none"; "causal" later positions; "prefix" later ones outside the prompt
    separator: Whole = 0  # of "prefix": the first such token ends the prompt; 0: the whole question is prompt
    end: Whole = 0  # of a mask: token that ends a text, of which several may stand in a row; 0: a row is one text
    puzzles: Many = 1  # rows of the puzzle-embedding table
    prefix: Whole = 1  # positions before the tokens, which hold the puzzle embedding
    puzzle_emb_size: Whole = 512  # numbers in a row of that table; 0: no table, the prefix is zeros
    pool: str = "first"  # what the halting head reads: the "first" position, or the "mean" of all (without gradient)
    units: Sets = ()  # sets of positions that constrain each other, for block "units"
    orbits: tuple[Sets, ...] = ()  # for block "orbit": for each kind, sets of positions that symmetries exchange
    symbols: Sets = ()  # likewise: interchangeable tokens, in forms of N symbols each
    local: bool = False  # likewise: whether the rules depend on neighbouring cells
    along: bool = False  # likewise, where `local`: whether they depend on the order along a row and a column
    most_views: Whole = (
        0  # of system "orbit": at most so many views of the puzzle are thought about side by side; 0: one
    )
    views: Sets = ()  # these views: for each, the cell of the puzzle that each of its cells shows
    view_tokens: Sets = ()  # likewise: what each token is called there

    def __post_init__(self) -> None:
        check(self)
        if self.positions not in ("rope", "learned", "none"):
            raise InputError(f'positions is "{self.positions}": use "rope", "learned" or "none"')
        if self.norm not in NORMS:
            raise InputError(f'norm is "{self.norm}": use one of {", ".join(NORMS)}')
        if self.mask not in ("none", "causal", "prefix"):
            raise InputError(f'mask is "{self.mask}": use "none", "causal" or "prefix"')
        if max(self.separator, self.end) >= self.vocab or self.rope_base <= 1:
            raise InputError(
                f"separator {self.separator} or end {self.end} is no token of {self.vocab}, or rope_base is not above 1"
            )
        if self.pool not in ("first", "mean"):
            raise InputError(f'pool is "{self.pool}": use "first" or "mean"')
        if self.hidden_size % self.heads or (self.positions == "rope" and (self.hidden_size // self.heads) % 2):
            raise InputError(f"hidden_size {self.hidden_size} does not split into {self.heads} heads of an even size")
        if self.hidden_size % self.nodes:
            raise InputError(f"hidden_size {self.hidden_size} does not split into {self.nodes} nodes, one a symbol")
        if self.seq % self.rows:
            raise InputError(f"{self.seq} tokens do not form {self.rows} rows")
        self._check_sets()
        self._check_views()
        if self.puzzle_emb_size > self.prefix * self.hidden_size:
            raise InputError(
                f"a puzzle embedding of {self.puzzle_emb_size} does not fit into {self.prefix} x {self.hidden_size}"
            )

    def _check_sets(self) -> None:
        """Raise InputError for positions or tokens out of range."""
        sets = [*self.units, *(places for kind in self.orbits for places in kind)]
        for known, most, word in ((sets, self.seq, "place"), (self.symbols, self.vocab, "token")):
            if any(min(some) < 0 or max(some) >= most for some in known):
                raise InputError(f"units, orbits or symbols name a {word} beyond the {most} there are")
        if any(len(form) != self.nodes for form in self.symbols):
            raise InputError("the forms in symbols have not the same number of tokens each")

    def _check_views(self) -> None:
        """Raise InputError for views that are no views of such a puzzle."""
        for maps, size, word in ((self.views, self.seq, "cells"), (self.view_tokens, self.vocab, "tokens")):
            if any(sorted(one) != [*range(size)] for one in maps):
                raise InputError(f"views or view_tokens do not each name all {size} {word} once")
        if len(self.views) != len(self.view_tokens) or (self.views and self.prefix):
            raise InputError("views need as many view_tokens, and a prefix of 0")
        tied = [token for form in self.symbols for token in form]
        if any(one[token] != token for one in self.view_tokens for token in tied):
            raise InputError("view_tokens rename symbols that are interchangeable, which have nodes of their own")

    @property
    def length(self) -> int:
        """L, positions of a state: the prefix, then the tokens."""
        return self.prefix + self.seq

    @property
    def nodes(self) -> int:
        """N, nodes of a position: one for each interchangeable symbol, with width / N channels; else one."""
        return len(self.symbols[0]) if self.symbols else 1

    @property
    def node(self) -> int:
        """Channels of a node."""
        return self.hidden_size // self.nodes

    @property
    def causal(self) -> bool:
        """Whether positions of the answer are hidden from earlier ones, as autoregressive tasks need."""
        return self.mask == "causal" or (self.mask == "prefix" and self.separator > 0)
