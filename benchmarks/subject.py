"""What a result is about, as hashes: a model that comes along, or a recipe. tests/test_results.py compares what ships.

A subject is {"model" or "recipe": its name, "sha256": of the model's file, "run": hash of its run, "parameters"}.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from innerloop import recipes
from innerloop.pretrained import FOLDER, names
from innerloop.runs.run import Run, to_json
from innerloop.runs.single import SUFFIX


def run_hash(run: Run) -> str:
    """A hash of everything a run says, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(to_json(run), sort_keys=True).encode()).hexdigest()[:16]


def of_model(opened: Any) -> dict[str, Any]:
    """The subject of a result about an opened model: of a run of one's own its run, of a bundled one its file too."""
    said = {"run": run_hash(opened.run), "parameters": sum(p.numel() for p in opened.loop.parameters())}
    path = Path(opened.folder)
    if path.is_file() and path.parent.resolve() == FOLDER.resolve():
        return {"model": path.name.removesuffix(SUFFIX), "sha256": file_hash(path)} | said
    return {"recipe": opened.run.name} | said


def of_recipe(name: str, parameters: int, **given: str) -> dict[str, Any]:
    """The subject of a result about what a recipe trains: the recipe as it stands, before any data or change."""
    how = {"given": given} if given else {}
    return {"recipe": name, "run": run_hash(recipes.get(name, **given)), "parameters": parameters} | how


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stale(subject: dict[str, Any]) -> str:
    """Why this is not what ships today; "" where it is."""
    if "model" in subject:
        name = subject["model"]
        if name not in names():
            return f"no model called {name} comes along"
        same = file_hash(FOLDER / f"{name}{SUFFIX}") == subject["sha256"]
        return "" if same else f"{name} is another model now"
    name, given = subject["recipe"], subject.get("given", {})
    if name not in recipes.found():
        return f"there is no recipe {name}"
    return (
        "" if run_hash(recipes.get(name, **given)) == subject["run"] else f"the recipe {name} says something else now"
    )
