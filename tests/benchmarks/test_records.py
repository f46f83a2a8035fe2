"""The record scripts, as commands: killed and gone on with, in slices, they end with the same bits."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innerloop.learn import checkpoint

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["plan.steps=40", "plan.check_every=20", "plan.save_every=10", "data.count=80", "data.holdout=20"]
JUDGED = ["--limit", "40", "--sweep", "20", "--threads", "1", "--depths", "4"]


def words(folder, *more, name="sudoku4"):
    out = ["--runs", folder / "runs", "--out", folder / f"{name}.json"]
    return ["records.py", name, "--set", *SMALL, *JUDGED, *out, *more]


def result(folder):
    return json.loads((folder / "sudoku4.json").read_text())


@pytest.mark.slow
def test_killed_and_sliced_it_ends_with_the_same_bits(tmp_path, run_script):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_script(*words(whole))
    command = [sys.executable, ROOT / "benchmarks" / words(cut)[0], *words(cut)[1:]]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state, began = cut / "runs" / "sudoku4" / checkpoint.STATE, time.monotonic()
    while not state.exists():
        assert process.poll() is None and time.monotonic() - began < 120, "no checkpoint was written"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "sudoku4.json").exists()
    slices = 0
    while not (cut / "sudoku4.json").exists():
        said = run_script(*words(cut, "--minutes", "0.005"))
        slices += 1
        assert slices < 60, said
    assert slices > 1, "one slice was enough: make them shorter"
    one, other = result(whole), result(cut)
    assert one["rows"][0].keys() == other["rows"][0].keys()
    for row, same in zip(one["rows"], other["rows"], strict=True):
        assert {k: v for k, v in row.items() if "second" not in k} == {
            k: v for k, v in same.items() if "second" not in k
        }
    weights = [(folder / "runs" / "sudoku4" / "model.safetensors").read_bytes() for folder in (whole, cut)]
    assert weights[0] == weights[1]
    assert len(other["slices"]) == slices and len(one["slices"]) == 1
    assert [x["step"] for x in other["curve"]] == [x["step"] for x in one["curve"]] == [20, 40]
    for value in (one, other):
        assert value["born"]["command"].startswith("python benchmarks/records.py sudoku4") and value["born"]["torch"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "file"),
    [
        ("sudoku_extreme", "sudoku9_extreme_hf1k_train.csv"),
        ("maze_hard", "maze30_hard_train.csv.gz"),
        ("arc1d", "arc1d_public.json.gz"),
    ],
)
def test_a_record_script_runs_from_the_data_to_the_result(script, file, real_data, tmp_path, run_script):
    assert (real_data / file).exists()
    more = ["--smoke", "--limit", "4", "--sweep", "2", "--depths", "1", "--threads", "1", "--runs", tmp_path / "runs"]
    run_script(f"{script}.py", real_data, *more, "--out", tmp_path / "r.json")
    value = json.loads((tmp_path / "r.json").read_text())
    assert value["test"]["puzzles"] == 4 and value["leakage"].startswith("No test puzzle")
    assert str(real_data) not in json.dumps(value), "no machine's paths in a result"
    assert len(value["curve"]) == 2 and len(value["rows"]) == 3
    biggest = max(f.stat().st_size for f in (tmp_path / "runs").rglob("*") if "data" not in str(f.parent))
    assert biggest < 16 * 2**20
