"""`innerloop study` on a tiny run, its figures, and what it refuses."""

import json
import math
import shutil

import pytest
import torch

from innerloop import cli
from innerloop.cli.studying import Row, means, spread
from innerloop.core import Question
from innerloop.show import plots
from innerloop.study import survey
from innerloop.study.convergence import STAGES

TINY = ["plan.steps=6", "plan.batch=8", "plan.check_every=3", "plan.save_every=3", "plan.compile=off"]
TINY += ["data.count=12", "data.holdout=24", "config.dtype=float32", "config.net.hidden_size=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert cli.main(["train", "sudoku4_trm", "--out", str(folder), "--device", "cpu", "--set", *TINY]) == 0
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_study_writes_figures_and_one_json(run, tmp_path, capsys):
    out = tmp_path / "seen"
    words = ["study", str(run), "--depth", "6", "--limit", "20", "--device", "cpu", "--control", str(run)]
    assert cli.main([*words, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "dimension of z, untrained" in told and "solved boards" in told and "open cells read from y" in told
    names = {"residuals", "ends", "blanks", "dimension", "cells"}
    assert {p.name for p in (out / "figures").iterdir()} == {f"{n}.{k}" for n in names for k in ("png", "svg", "pdf")}
    found = json.loads((out / "study.json").read_text())
    assert found["puzzles"] == 20 and found["depth"] == 6 and found["born"]["command"]
    assert found["residuals"]["names"] == ["z", "z", "z", "y"] * 6
    assert found["residuals"]["slots"]["y"]["median"][0] is None, "y does not move when z is updated"
    assert set(found["stages"]) == set(STAGES)
    assert all(math.isclose(sum(s[t] for s in found["stages"].values()), 1, abs_tol=1e-6) for t in range(6))
    assert sum(f["value"] for f in found["fates"].values()) == pytest.approx(1)
    assert set(found["dimension"]) == {"trained", "untrained", "tiny"}
    assert found["dimension"]["trained"] == found["dimension"]["tiny"] != found["dimension"]["untrained"]
    assert {len(v) for by in found["dimension"].values() for v in by.values()} == {6}
    assert [r["blanks"] for r in found["filled"]] == [0, 1, 2, 4, 8], "no more than a puzzle leaves open"
    assert found["cells"]["steps"] == [1, 2, 3, 4, 5, 6] and set(found["cells"]["slots"]) == {"y", "z"}
    assert not (run / "study.json").exists()


@pytest.mark.slow
def test_study_of_several_seeds_gives_means_and_spread(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "save", lambda *_: [])
    for seed in (0, 1):
        folder = shutil.copytree(run, tmp_path / "both" / f"seed{seed}")
        known = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(known | {"run": known["run"] | {"seed": seed}}))
    words = ["study", str(tmp_path / "both"), "--depth", "4", "--limit", "10", "--device", "cpu"]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "both: means over 2 seeds" in told
    found = json.loads((tmp_path / "both/studies.json").read_text())
    name, each = "dimension of z, untrained", [tmp_path / f"both/seed{i}/study.json" for i in (0, 1)]
    own = [json.loads(p.read_text())["dimension"]["untrained"]["z"][-1]["corrected"] for p in each]
    mean = found["means"]["both"][name]
    assert mean["by_seed"] == {"0": own[0], "1": own[1]} and mean["value"] == pytest.approx(sum(own) / 2)
    assert own[0] != own[1] and mean["sd"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert found["means"]["both"]["dimension of z, trained"]["sd"] == 0 and found["born"]["seeds"] == [0, 1, 0]
    assert cli.main([*words, "--out", str(tmp_path / "one")]) == 2 and "holds several runs" in capsys.readouterr().err


def test_means_are_of_numbers_that_all_seeds_have():
    studies = {3: [Row("solved", 0.5, True), Row("dimension", 4.0)], 8: [Row("dimension", 6.0), Row("only here", 1.0)]}
    assert list(means(studies)) == ["dimension"] and means(studies)["dimension"]["by_seed"] == {3: 4.0, 8: 6.0}
    assert spread("solved", {"share": True, "value": 0.5, "sd": 0.1, "low": 0.4, "high": 0.6}) == Row(
        "solved", 0.5, True, "± 10.0 points, the mean 40.0 to 60.0"
    )


@pytest.mark.slow
def test_study_of_one_step_has_no_fates(run, tmp_path):
    words = ["study", str(run), "--depth", "1", "--limit", "12", "--device", "cpu", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["fates"] == {} and len(found["exact"]) == 1
    assert not (tmp_path / "figures" / "ends.png").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--depth", "0"], "--depth is 0"),
        (["--limit", "-1"], "--limit is -1"),
        (["--control", "nowhere"], "no folder nowhere"),
        (["--limit", "3"], "3 puzzles"),
    ],
)
def test_bad_inputs_are_one_sentence(run, words, why, capsys):
    assert cli.main(["study", str(run), "--device", "cpu", *words]) == 2
    said = capsys.readouterr().err
    assert why in said and said.startswith("error: ") and len(said.splitlines()) == 1


def test_help_has_an_example(capsys):
    assert cli.main(["study", "--help"]) == 0
    assert "innerloop study runs/demo" in capsys.readouterr().out


# -- figures ----------------------------------------------------------------------------------------------------------


def lines(figure):
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}


def test_residuals_are_drawn_at_their_updates():
    slot = lambda v: {"low": v, "median": v, "high": v}  # noqa: E731
    found = {"steps": [1, 1, 1, 2, 2, 2], "names": list("llhllh")}
    found["slots"] = {"h": slot([None, None, 0.5, None, None, 0.25]), "l": slot([0.9, 0.1, None, 0.6, 0.05, None])}
    figure = plots.residuals(found)
    assert lines(figure) == {"h": [0.5, 0.25], "l": [0.9, 0.1, 0.6, 0.05]}
    assert [round(float(x), 3) for x in figure.axes[0].lines[1].get_xdata()] == [0.333, 0.667, 1.333, 1.667]
    assert figure.axes[0].get_yscale() == "log"


def test_cells_show_answer_probe_and_control():
    probed = {"accuracy": 0.8, "low": 0.7, "high": 0.9, "control": 0.2}
    figure = plots.cells({"steps": [1, 2], "cells": 100, "answer": [0.5, 0.6], "slots": {"z": [probed] * 2}})
    assert lines(figure) == {"probe of z": [0.8, 0.8], "model's answer": [0.5, 0.6], "shuffled labels": [0.2, 0.2]}


def test_stages_fill_the_figure():
    figure = plots.stages({"right": [0.0, 0.5], "right for now": [0, 0], "stuck": [0, 0.25], "changing": [1, 0.25]})
    assert {t.get_text() for t in figure.axes[0].get_legend().get_texts()} == set(STAGES)
    assert figure.axes[0].get_ylim() == (0, 1)


# -- parts of the survey ----------------------------------------------------------------------------------------------


def test_steps_shown_are_few_and_end_at_the_depth():
    assert survey.steps_probed(3) == [1, 2, 3]
    for depth in (17, 64, 1000):
        steps = survey.steps_probed(depth)
        assert len(steps) <= 16 and steps[0] == 1 and steps[-1] == depth and steps == sorted(set(steps))


def test_some_cells_are_open_ones():
    mask = torch.rand(9, 16, generator=torch.Generator().manual_seed(0)) < 0.4
    mask[0] = False
    rows, places = survey.sample_cells(mask, 3).T
    assert bool(mask[rows, places].all())
    assert torch.bincount(rows, minlength=9).tolist() == mask.sum(1).clamp_max(3).tolist()


class Teller:
    """A loop whose one slot shows the right value of every place from step 2 on, behind one place of prefix."""

    def __init__(self, labels):
        self.labels = labels

    def init(self, x):
        return (torch.zeros(*self.labels.shape[:1], self.labels.shape[1] + 1, 8), torch.zeros(len(self.labels)))

    def step(self, s, x):
        hot = torch.nn.functional.one_hot(self.labels, 8).float() * (s[1] >= 1).view(-1, 1, 1)
        return (torch.cat((torch.zeros_like(hot[:, :1]), hot), 1), s[1] + 1)

    def read(self, s):
        return type("Said", (), {"logits": s[0][:, 1:]})


def test_cells_are_read_at_their_own_place():
    labels = torch.randint(1, 6, (30, 12), generator=torch.Generator().manual_seed(0))
    x = Question(torch.ones_like(labels), torch.zeros(30, dtype=torch.long))
    cells = survey.sample_cells(labels > 0, 5)
    found = survey.probe_cells(Teller(labels), x, labels, cells, [1, 2])
    assert found["answer"] == [0.0, 1.0] and found["cells"] == 150
    accuracy = [p["accuracy"] for p in found["slots"]["0"]]
    assert accuracy[0] < 0.45 and accuracy[1] == 1.0
    assert found["slots"]["0"][1]["control"] < 0.45


def test_what_is_not_finite_is_none_in_json():
    assert survey.to_plain_json({"a": (1.0, float("nan")), 2: [float("inf")]}) == {"a": [1.0, None], "2": [None]}
