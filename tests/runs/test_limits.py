"""What a model costs is known before it is built; what is shown of foreign text is only text."""

import io
import json
import resource
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from innerloop import pretrained, weights
from innerloop.errors import InputError
from innerloop.export.hub import save_folder
from innerloop.parts.mixers import BLOCKS
from innerloop.runs import limits
from innerloop.runs.folder import open_run
from innerloop.text import markup

SMALL = {"vocab": 6, "seq": 16, "rows": 4, "hidden_size": 32, "heads": 2, "multiple_of": 32, "puzzle_emb_size": 0}
SETS = {"units": ((0, 1), (2, 3)), "orbits": (((0, 1), (2, 3)),), "symbols": ((2, 3, 4, 5),), "local": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs") / "four"
    save_folder(pretrained.open("demo-sudoku4"), made)
    return made


@pytest.mark.parametrize("system, mix", [*((s, "attention") for s in weights.names()), *(("trm", b) for b in BLOCKS)])
def test_a_model_counted_without_memory_is_the_one_that_is_built(system, mix):
    kind, config = weights.get(system)
    config = config()
    size = replace(config.net, **SMALL, block=mix, **(SETS if mix in ("orbit", "units") else {}))
    loop = kind(replace(config, net=size))
    built = sum(t.numel() for t in (*loop.parameters(), *loop.buffers()))
    counted = limits.count_numbers(kind, replace(config, net=size))
    # Indices that depend on values are counted as empty.
    assert counted == built if mix != "orbit" else 0.9 * built < counted <= built


@pytest.mark.parametrize(
    "change, said",
    [
        ({"width": 32_000}, "another configuration"),
        ({"width": 1_000_000}, "another configuration"),
        ({"width": 8_000, "layers": 512}, "another configuration"),
        ({"layers": 2}, "another configuration"),
        ({"vocab": 200}, "its task has 16 of 6"),
        ({"symbols": [[2, 3, 4, 99]]}, "beyond the 6 there are"),
        ({"orbits": [[[]]]}, "orbits[0][0] is an empty list"),
    ],
)
def test_a_run_that_its_weights_contradict_is_refused_before_it_costs(change, said, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "r")
    path = tmp_path / "r" / "run.json"
    value = json.loads(path.read_text())
    value["run"]["config"]["size"] |= change
    path.write_text(json.dumps(value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as error:
        open_run(tmp_path / "r")
    assert said in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10, "KiB"


def test_one_tensor_that_is_too_large_is_refused_without_a_count(monkeypatch):
    """torch takes seconds to get ready for counting."""
    monkeypatch.setattr(limits, "count_numbers", lambda *_: pytest.fail("the model was counted"))
    kind, config = weights.get("trm")
    with pytest.raises(InputError, match="smaller width"):
        limits.build(kind, replace(config(), net=replace(config().net, hidden_size=1_000_000, vocab=10_000)), 0)


@pytest.mark.parametrize(
    "name", ["x[/red]", "x[bold]y", "[link=http://a]b", "a\\", "a\\[b]", "\x1b[31mred", ":smile:", "a\nb"]
)
def test_foreign_text_is_only_text(name):
    out = io.StringIO()
    Console(file=out, emoji=False, highlight=False, width=200).print(f"[bold]{markup(name)}[/] end")
    shown = out.getvalue()
    assert "\x1b" not in shown and shown.endswith(" end\n") and len(shown.splitlines()) == 1
    assert shown.startswith(name.replace("\x1b", "\\x1b").replace("\n", "\\n"))
