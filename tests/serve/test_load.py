"""The load run and the fuzz run, in short: the same scripts that give the figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def script(name, *words):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_under_load_nothing_is_lost(run, tmp_path):
    script("serve_load.py", run, "--minutes", 0.25, "--share", 0.4, "--out", tmp_path / "load.json")
    found = json.loads((tmp_path / "load.json").read_text())
    assert found["good"] and found["lost"] == [] and found["known_but_wrong"] == 0 and found["exit_status"] == 0
    assert found["requests"] > 20 and found["puzzles_known"] > 20 and found["born"]["command"]
    assert any(status.endswith("429") for status in found["statuses"])  # the flood
    assert found["statuses"]["reload 200"] == 1 and len(found["memory"]) >= 3


def test_no_request_that_schemathesis_makes_up_breaks_it(run, tmp_path):
    script("serve_fuzz.py", run, "--examples", 8, "--out", tmp_path / "fuzz.json")
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["good"] and found["server_errors"] == 0 and found["exit_status"] == 0
    own, narrowed = found["passes"]
    assert own["cases"] > 100 and not own["found"] and not narrowed["found"]
    for verb in ("solve", "solve_many", "think", "check"):
        assert narrowed["statuses"][f"/v1/models/{{name}}/{verb} 200"] > 0
