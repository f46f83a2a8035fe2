"""What a result is about, as hashes: a model that comes along, or a recipe. tests/test_results.py compares what ships.

A subject is {"model" or "recipe": its name, "sha256": of a model's weights, "run": hash of its run, "parameters"},
with "given", the parameters of a recipe that has any. A result holds one as "subject", or several as "subjects".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from innerloop import recipes
from innerloop.pretrained import FOLDER, names
from innerloop.runs.run import Run, to_json
from innerloop.runs.single import CHECKSUM_KEY, SUFFIX, read_texts


def run_hash(run: Run) -> str:
    """A hash of everything a run says, whatever the order of its keys."""
    said = to_json(run)
    later = {"plan": ("patience", "reveal"), "size": ("along", "end", "most_views", "views", "view_tokens")}
    for part, names_of in ((said["plan"], later["plan"]), (said["config"]["size"], later["size"])):
        for name in names_of:
            if not part.get(name):  # fields that came later: nothing says what was so before
                part.pop(name, None)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def of_model(opened: Any) -> dict[str, Any]:
    """The subject of a result about an opened model: a bundled one, a recipe's as it stands, or one of nobody's."""
    parameters = sum(p.numel() for p in opened.loop.parameters())
    path, name = Path(opened.folder), opened.run.name
    if path.is_file() and path.parent.resolve() == FOLDER.resolve():
        known = {"model": path.name.removesuffix(SUFFIX), "sha256": weights_hash(path), "run": run_hash(opened.run)}
        return known | {"parameters": parameters}
    if name in recipes.all_recipes() and taught(opened.run) == taught(recipes.get(name)):
        return of_recipe(name, parameters)
    return {"own": name, "run": run_hash(opened.run), "parameters": parameters}


def taught(run: Run) -> dict[str, Any]:
    """What a run says without what its data give it: their files and options, and the sizes fitted to them."""
    said = to_json(run)
    return {k: said[k] for k in ("system", "plan", "seed")} | {"config": said["config"] | {"size": 0}}


def of_recipe(name: str, parameters: int, **given: str) -> dict[str, Any]:
    """The subject of a result about what a recipe trains: the recipe as it stands, before any data or change."""
    how = {"given": given} if given else {}
    return {"recipe": name, "run": run_hash(recipes.get(name, **given)), "parameters": parameters} | how


def of_run(run: Run, parameters: int) -> dict[str, Any]:
    """The subject of a result about a run: the recipe of that name, or a run of its own where there is none."""
    if run.name in recipes.all_recipes():
        return of_recipe(run.name, parameters)
    return {"own": run.name, "run": run_hash(run), "parameters": parameters}


def weights_hash(path: Path) -> str:
    """Of names, shapes and bytes of all tensors, as the file says and as opening it checks; its card may change."""
    return read_texts(path)[CHECKSUM_KEY]


def stale(subject: dict[str, Any]) -> str:
    """Why this is not what ships today; "" where it is."""
    if "model" in subject:
        name = subject["model"]
        if name not in names():
            return f"no model called {name} comes along"
        same = weights_hash(FOLDER / f"{name}{SUFFIX}") == subject["sha256"]
        return "" if same else f"{name} is another model now"
    if "recipe" not in subject:
        return f"{subject.get('own', 'it')} is neither a model that comes along nor what a recipe trains"
    name, given = subject["recipe"], subject.get("given", {})
    if name not in recipes.all_recipes():
        return f"there is no recipe {name}"
    same = run_hash(recipes.get(name, **given)) == subject["run"]
    return "" if same else f"the recipe {name} says something else now"
