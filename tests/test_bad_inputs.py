"""Bad files, flags and names, drawn by the hundred: one sentence, exit code 2, nothing lost."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import bad_inputs  # noqa: E402

COMMAND = [sys.executable, "-m", "innerloop.cli"]
HUGE = [f"config.net.{f}=1000000000" for f in ("hidden_size", "layers", "seq")] + ["config.rounds=1000000000"]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ready")
    torch.set_num_threads(1)
    bad_inputs.prepare(folder)
    return folder


def quick(ways):
    """Without the verbs that draw figures and think for seconds, where others read the same file."""
    return [words for words in ways if words[0] not in ("plot", "report")] or ways[:1]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(bad_inputs, "READ_BY", {name: quick(ways) for name, ways in bad_inputs.READ_BY.items()})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("INNERLOOP_DEBUG", raising=False)
    torch.set_num_threads(1)


@pytest.mark.slow
@settings(
    max_examples=50, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_drawn_is_refused_in_one_sentence_or_harmless(ready, seed):
    _, failure = bad_inputs.trial(random.Random(seed), ready, ready.with_name("room"))
    assert failure is None, f"{failure.case}: {failure.why}\n{failure.said}"


@pytest.mark.parametrize("change", [*HUGE, "config.net.heads=0", "config.net.rows=0", "seed=-1", "plan.lr=nan"])
def test_sizes_beyond_reason_cost_nothing(change, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bad_inputs.cli.main(["train", "sudoku4", "--out", "r", "--set", change]) == 2
    assert change.partition("=")[0] in capsys.readouterr().err and not Path("r").exists()


def test_a_bug_of_ours_is_one_sentence_with_its_traceback_in_a_file(capsys, monkeypatch):
    def broken(verb):
        raise RuntimeError("a part that nobody foresaw [/red]")

    monkeypatch.setattr("innerloop.cli.load", broken)
    assert bad_inputs.cli.main(["list"]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "fault of innerloop (RuntimeError" in said
    log = Path(said.partition("traceback is in ")[2].partition(",")[0])
    assert "nobody foresaw" in log.read_text()
    log.unlink()
    monkeypatch.setenv("INNERLOOP_DEBUG", "1")
    with pytest.raises(RuntimeError):
        bad_inputs.cli.main(["list"])


@pytest.mark.slow
def test_an_output_that_is_not_utf8():
    # With the home that there is: in a new one, kernels would be compiled anew.
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "HOME")}
    words = [*COMMAND, "solve", "demo-sudoku4", bad_inputs.PUZZLE]
    env = kept | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(words, env=env, capture_output=True, check=False)
    assert done.returncode == 0 and b"1234341221434321" in done.stdout, done.stderr
