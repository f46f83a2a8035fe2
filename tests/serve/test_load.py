"""The load run, the fuzz run and the end of a server, in short: the same scripts that give the figures."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_under_load_nothing_is_lost(run, tmp_path, run_script):
    """What is sent, and when, does not depend on how fast the server is."""
    run_script("serve_load.py", run, "--minutes", 0.06, "--rate", 20, "--flood", 4, "--out", tmp_path / "load.json")
    found = json.loads((tmp_path / "load.json").read_text())
    assert found["good"] and found["lost"] == [] and found["known_but_wrong"] == 0 and found["exit_status"] == 0
    assert found["born"]["command"] and found["statuses"]["reload 200"] == 1
    flooded = {kind: count for kind, count in found["statuses"].items() if kind.startswith("flood")}
    assert sum(flooded.values()) == 3 * 4 and flooded["flood 429"] > 0 and flooded["flood 200"] > 0
    assert found["requests"] == 74 + 1 + 3 * 4 and found["puzzles_answered"] > 100


def test_no_request_that_schemathesis_makes_up_breaks_it(run, tmp_path, run_script):
    run_script("serve_fuzz.py", run, "--short", "--examples", 6, "--out", tmp_path / "fuzz.json")
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["good"] and found["server_errors"] == 0 and found["exit_status"] == 0
    own, narrowed = found["rows"]
    assert own["cases"] > 400 and not own["found"] and narrowed["cases"] > 30 and not narrowed["found"]
    for verb in ("solve", "solve_many", "think", "check"):
        assert narrowed["statuses"][f"/v1/models/{{name}}/{verb} 200"] > 0


def test_a_server_that_is_told_to_end_answers_all_it_has_accepted(run, tmp_path, run_script):
    run_script("serve_end.py", run, "--rounds", 1, "--depth", 1500, "--out", tmp_path / "end.json")
    found = json.loads((tmp_path / "end.json").read_text())
    (only,) = found["rows"]
    assert found["good"] and only["wrong"] == [] and only["exit_status"] == 0
    assert only["inside"] == 9 and only["trajectories"] == 25 and only["late"]["503"] > 0


def test_honest_requests_are_answered_beside_attacks(tmp_path, run_script):
    """Nothing is lost or refused, bombs and other sites are; how long it takes is for a quiet machine to say.

    All attacks at once, then more silent connections than a server has descriptors: tests/serve/test_attacks.py has the
    attacks one by one.
    """
    out = tmp_path / "attack.json"
    run_script("serve_attack.py", "--attacks", "all", "--seconds", 1.5, "--out", out, "--wanted", 20)
    found = json.loads(out.read_text())
    assert found["good"] and {row["attack"] for row in found["rows"]} == {"calm", "all"}
    assert all(row["answers"] > 5 and row["memory"] < 1 << 30 for row in found["rows"])
    assert found["few_descriptors"]["log_bytes"] < 1000 and found["born"]["command"]
