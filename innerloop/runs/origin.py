"""The data of a run: paths that survive a move, fingerprints, names of puzzle identifiers, and the validation split.

run.json holds, beside the run, a block "data": the relative paths as seen from the run's folder, and a fingerprint of
the puzzles it learned from and of those it was validated on. identifiers.json lists the names of the puzzle identifiers
in the order of the embedding's rows, as an official folder does. Older runs have neither, and open as before.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np

from innerloop import files, schema
from innerloop.data.arc_files import has_tests, is_arc, read_arc
from innerloop.data.official import is_official
from innerloop.data.opening import open_set
from innerloop.data.sets import MOST_HELD, PuzzleSet, count_held_out, fingerprint
from innerloop.errors import InputError
from innerloop.learn import checkpoint
from innerloop.schema import Length
from innerloop.text import did_you_mean, printable

if TYPE_CHECKING:
    from innerloop.runs.run import Data

__all__ = [
    "IDENTIFIERS",
    "changed_set",
    "data_block",
    "fingerprint",
    "hold_out",
    "keep_names",
    "known",
    "refuse_changed",
    "renumber_identifiers",
    "resolve_paths",
    "same_puzzles",
    "same_source",
]

IDENTIFIERS = "identifiers.json"
SPLITS = ("train", "test", "all")
MAX_NAMES_SEARCHED = 2000  # names among which the nearest is looked for


class DataBlock(TypedDict, total=False):
    """The block "data" of run.json."""

    paths: dict[str, Annotated[str, Length(0, 4096)]]
    train: str
    validation: str
    alphabet: str  # of the task: which symbol each token was in training


# -- paths ------------------------------------------------------------------------------------------------------------


def data_block(folder: Path | str, data: Data, train: PuzzleSet, validation: PuzzleSet | None) -> dict[str, Any]:
    """The block "data" of run.json. Paths in it are seen from `folder`, so that both can be moved together."""
    home, paths = os.path.realpath(folder), {}
    for key in ("train", "test"):
        given = getattr(data, key)
        if given and not os.path.isabs(given) and path_exists(given):
            paths[key] = os.path.relpath(real_path(given), home)
    sets = {"train": train, "validation": validation}
    return {"paths": paths, **{which: fingerprint(s) for which, s in sets.items() if s is not None}}


def resolve_paths(data: Data, folder: Path | str) -> Data:
    """`data` of the run in `folder`, with paths valid from the current folder."""
    paths = read_data_block(folder).get("paths", {})
    found: dict[str, Any] = {
        k: resolve_path(getattr(data, k), folder, v) for k, v in paths.items() if k in ("train", "test")
    }
    return replace(data, **found)


def resolve_path(given: str, folder: Path | str, kept: str) -> str:
    """`given` where that still leads to the same file; else the path at which it was when the run began."""
    there = os.path.normpath(os.path.join(os.path.realpath(folder), kept))
    if real_path(given) == there or (path_exists(given) and not path_exists(there)):
        return given
    return there


def path_exists(path: str) -> bool:
    """Whether a path, which may end in a split, leads to something."""
    try:
        return os.path.exists(path) or (os.path.basename(path) in SPLITS and os.path.exists(os.path.dirname(path)))
    except ValueError:  # a null byte
        return False


def real_path(path: str) -> str:
    """Absolute, with the links of its folder resolved."""
    return os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)))


def read_data_block(folder: Path | str) -> dict[str, Any]:
    """The block "data" of a run, in a folder or a single file; empty for runs that were written without."""
    path = Path(folder) / "run.json"
    if Path(folder).is_file():
        path = Path(folder)
        text = checkpoint.read_header(path)[0].get("__metadata__", {}).get("run.json", "{}")
        value = files.parse_json(text, f"the run.json of {files.shown(path)}")
    else:
        value = files.read_json(path) if path.is_file() else {}
    if not isinstance(value, dict) or "data" not in value:
        return {}
    return dict(schema.read(DataBlock, value["data"], files.shown(path), "data"))


def kept_alphabet(value: Any) -> str:
    """The alphabet that the model of a run learned, of its run.json; "" where none was kept."""
    block = value.get("data") if isinstance(value, dict) else None
    kept = block.get("alphabet") if isinstance(block, dict) else None
    if not isinstance(kept, str):  # older runs: a grid's options hold it
        data = value["run"].get("data") if isinstance(value, dict) and isinstance(value.get("run"), dict) else None
        options = data.get("options") if isinstance(data, dict) else None
        kept = options.get("alphabet") if isinstance(options, dict) else None
    return kept if isinstance(kept, str) else ""


def predates_data_block(folder: Path | str) -> bool:
    """Whether a run is older than the block "data": its puzzles are then split as they were then."""
    path = Path(folder) / "run.json"
    value = files.read_json(path) if path.is_file() else None
    return isinstance(value, dict) and "data" not in value


# -- fingerprints -----------------------------------------------------------------------------------------------------


def changed_set(folder: Path | str, **sets: PuzzleSet | None) -> str:
    """Which of `sets` (train, validation) is not what it was when the run in `folder` began; "" if none is."""
    kept = read_data_block(folder)
    both = {k: s for k, s in sets.items() if s is not None and isinstance(kept.get(k), str)}
    return next((k for k, s in both.items() if kept[k] != fingerprint(s)), "")


def known(folder: Path | str, which: str) -> bool:
    """Whether the fingerprint of a run's puzzles (train or validation) was kept when it began."""
    return isinstance(read_data_block(folder).get(which), str)


def same_puzzles(folder: Path | str, **sets: PuzzleSet | None) -> bool:
    """Whether `sets` (train, validation) are known to be the puzzles with which the run in `folder` began."""
    return all(known(folder, k) for k, s in sets.items() if s is not None) and not changed_set(folder, **sets)


def same_source(old: Any, new: Any) -> bool:
    """Whether two runs, as JSON, name the same data; what was read off the data does not count."""
    sources = [v.get("data") if isinstance(v, dict) else None for v in (old, new)]
    read_off = ("task", "options")
    first, second = ({k: v for k, v in s.items() if k not in read_off} if isinstance(s, dict) else s for s in sources)
    return first == second


def refuse_changed(folder: Path | str, data: Data, **sets: PuzzleSet | None) -> None:
    """Raise InputError where the puzzles of a run are not those it began with."""
    if which := changed_set(folder, **sets):
        words = {"train": "learned from", "validation": "was validated on"}[which]
        where = (data.test if which == "validation" and data.test else data.train) or f"the task {data.task}"
        raise InputError(
            f"the data changed: the puzzles of {printable(where)} are not those that the run in "
            f"{printable(str(folder))} {words}; restore them, or train anew with --fresh or in another folder"
        )


# -- names of puzzle identifiers --------------------------------------------------------------------------------------


def keep_names(folder: Path, names: tuple[str, ...]) -> None:
    """Write the names of a run's puzzle identifiers, where it has any but the blank one."""
    if len(names) > 1:
        files.write_text(folder / IDENTIFIERS, json.dumps(list(names), ensure_ascii=False) + "\n")


def renumber_identifiers(s: PuzzleSet, names: tuple[str, ...], strict: bool = True) -> PuzzleSet:
    """The same rows, with puzzle identifiers renumbered to the order of `names`.

    Unknown names raise InputError, or are appended if not `strict`.
    """
    used = np.unique(s.puzzle)
    if s.identifiers[: len(names)] == names[: len(s.identifiers)] and (not strict or int(used[-1]) < len(names)):
        return s
    place = {name: i for i, name in enumerate(names)}
    unknown = [s.identifiers[i] for i in used if s.identifiers[i] not in place]
    if unknown and strict:
        near = (
            did_you_mean(unknown[0], names[1:])
            if 1 < len(names) <= MAX_NAMES_SEARCHED
            else f"it has learned {len(names) - 1:,} others"
        )
        others = f" (nor are {len(unknown) - 1:,} others)" if len(unknown) > 1 else ""
        raise InputError(
            f"{printable(s.source)}: the puzzle {printable(unknown[0], 80)} is none that this model has learned"
            f"{others}: {near}"
        )
    place |= {name: len(names) + i for i, name in enumerate(unknown)}
    table = np.zeros(len(s.identifiers), np.int32)
    table[used] = [place[s.identifiers[i]] for i in used]
    return replace(s, puzzle=table[s.puzzle], identifiers=(*names, *unknown))


# -- what is held out -------------------------------------------------------------------------------------------------


def hold_out(task: Any, train: PuzzleSet, data: Data) -> tuple[PuzzleSet, PuzzleSet]:
    """(training set, validation set) where no file is given to validate on. Both are functions of `data.seed`.

    A share of the *groups* is held out, so that no original is on both sides; of few puzzles a small one, unless the
    run says how many. ARC tells what to do by the puzzle's
    identifier, which has to be learned: there every validated identifier trains as well. As the official build does,
    the test pairs of the training puzzles are held out, where the source has them with their outputs; else one pair of
    a puzzle with several, which is then in training neither as it stands nor as a variant of its group.
    """
    if not data.holdout:
        count = MOST_HELD if task.name == "arc" else count_held_out(len(np.unique(train.group)))
        data = replace(data, holdout=count)
    if task.name == "arc" and int(train.puzzle.max()) > 0:
        test = official_test_pairs(task, train, data)
        if test is not None:
            return train, test
        parts = hold_out_pairs(train, min(data.holdout, len(train) // 2), data.seed)
        if parts is not None:
            return parts
    return train.split(min(0.5, data.holdout / len(train)), data.seed)


def official_test_pairs(task: Any, train: PuzzleSet, data: Data) -> PuzzleSet | None:
    """Up to `data.holdout` test pairs of the puzzles of `train`, from the same source; None where it has none."""
    path = Path(data.train)
    if path.name == "train" and (is_official(path) or not path.exists()):
        path = path.parent
    official = path.is_dir() and is_official(path)
    if official and not (path / "test" / "dataset.json").is_file():
        return None
    if not official and not (is_arc(path) and has_tests(path)):
        return None
    found = open_set(path, task, split="test")[1] if official else read_arc(path, "test", hidden=True)
    found = renumber_identifiers(found, train.identifiers, strict=False)
    rows = np.flatnonzero(np.isin(found.puzzle, train.puzzle) & (found.labels != 0).any(1))
    if len(rows) > data.holdout:
        rows = np.sort(np.random.default_rng(data.seed).permutation(rows)[: data.holdout])
    return replace(found.take(rows), identifiers=train.identifiers) if len(rows) else None


def hold_out_pairs(train: PuzzleSet, count: int, seed: int) -> tuple[PuzzleSet, PuzzleSet] | None:
    """Up to `count` puzzles lose one pair to validation, and their groups its variants; None where no puzzle can.

    Variants are turned and recoloured: equal counts of colours in a group, up to the names of all but colour 0, are
    taken for the same pair.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    _, first, sizes = np.unique(train.puzzle[order], return_index=True, return_counts=True)
    rows = rng.permutation(order[first[sizes > 1]])
    _, one_a_group = np.unique(train.group[rows], return_index=True)
    rows = rows[np.sort(one_a_group)][:count]
    counts = np.stack([(train.inputs == token).sum(1) for token in range(train.vocab)], 1)
    counts[:, 3:] = np.sort(counts[:, 3:], 1)  # all but padding, border and colour 0
    keys = np.concatenate([train.group[:, None], counts[:, 2:]], 1)
    held_keys = {key.tobytes() for key in keys[rows]}
    kept = np.flatnonzero([key.tobytes() not in held_keys for key in keys])
    held = rows[np.isin(train.puzzle[rows], train.puzzle[kept])]
    return (train.take(kept), train.take(np.sort(held))) if len(held) else None
