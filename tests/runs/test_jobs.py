"""Jobs in processes of their own: one that fails or is killed takes no other down; Ctrl-C reaches all."""

import os
import stat
import sys
import types

import pytest

from innerloop.errors import InputError
from innerloop.runs import jobs
from innerloop.runs.jobs import Job, Workers, failure, run_jobs, workers_of


@pytest.fixture(autouse=True)
def _shell(tmp_path, monkeypatch):
    """The first word of a job is a shell command here: starting torch is not what is tested."""
    script = tmp_path / "shell"
    script.write_text('#!/bin/sh\nshift 2\nexec env --default-signal=INT sh -c "$1"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(jobs.sys, "executable", str(script))


def job(tmp_path, name, words):
    return Job(name, (words,), tmp_path / name / "train.log")


def test_a_job_that_fails_or_is_killed_takes_no_other_down(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.sys, "argv", ["/bin/innerloop", "train", "sudoku6", "--seeds", "0,1"])
    told = []
    all_jobs = [
        job(tmp_path, "bad", "echo before; echo 'error: no such thing' >&2; exit 2"),
        job(tmp_path, "killed", "kill -9 $$"),
        job(tmp_path, "good", "echo $OMP_NUM_THREADS, $INNERLOOP_COMMAND > " + str(tmp_path / "given")),
    ]
    codes = run_jobs(all_jobs, Workers(2, 3), lambda j, code: told.append((j.name, code)))
    assert codes == [2, -9, 0] and sorted(n for n, c in told if c is None) == ["bad", "good", "killed"]
    assert failure(all_jobs[0]) == "no such thing"
    assert (tmp_path / "given").read_text() == "3, innerloop train sudoku6 --seeds 0,1\n"


def test_a_job_is_a_command_line_of_this_package(tmp_path, monkeypatch):
    monkeypatch.undo()
    listed = Job("list", ("list",), tmp_path / "list.log")
    assert run_jobs([listed], Workers(1, 1), lambda j, code: None) == [0] and "sudoku4" in listed.log.read_text()


def test_no_more_run_at_once_than_workers(tmp_path):
    busy, most = [], []

    def report(j, code):
        busy.append(j.name) if code is None else busy.remove(j.name)
        most.append(len(busy))

    assert run_jobs([job(tmp_path, str(i), "true") for i in range(5)], Workers(2, 1), report) == [0] * 5
    assert max(most) == 2


def test_an_interrupt_reaches_every_job_and_is_raised_again(tmp_path):
    def wait():
        if all((tmp_path / name / "ready").exists() for name in "ab"):
            raise KeyboardInterrupt

    words = "trap 'echo told > {0}/told; exit 130' INT; echo > {0}/ready; while :; do sleep 0.05; done"
    running = [job(tmp_path, name, words.format(tmp_path / name)) for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(running, Workers(2, 1), lambda j, code: None, wait)
    assert all((tmp_path / name / "told").exists() for name in "ab")


def test_a_job_that_ignores_an_interrupt_is_killed_in_the_end(tmp_path, monkeypatch):
    def wait():
        if (tmp_path / "a" / "ready").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.2)
    deaf = job(tmp_path, "a", f"trap '' INT; echo > {tmp_path}/a/ready; while :; do sleep 0.05; done")
    with pytest.raises(KeyboardInterrupt):
        run_jobs([deaf], Workers(1, 1), lambda j, code: None, wait)


def test_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert workers_of("auto", 3, "cpu") == Workers(3, 2) and workers_of("2", 9, "cpu") == Workers(2, 4)
    assert workers_of("ray://a:1", 9, "cpu").ray == "ray://a:1" and workers_of("ray", 9, "cpu").ray == "auto"
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 2)
    crew = workers_of("auto", 3, "auto")
    assert crew.processes == 2 and jobs.job_environment(crew, 1)["CUDA_VISIBLE_DEVICES"] == "1"
    for wrong in ("0", "-1", "many", "9" * 50, ""):
        with pytest.raises(InputError, match="--workers"):
            workers_of(wrong, 2, "cpu")


def test_ray_runs_the_same_commands(tmp_path, monkeypatch):
    """Against a stand-in for Ray: what is asked of it, and what its errors become."""
    with pytest.raises(InputError, match="needs Ray"):
        monkeypatch.setitem(sys.modules, "ray", None)
        run_jobs([job(tmp_path, "a", "true")], Workers(1, 1, 0, "auto"), print)

    class Lost(Exception):
        pass

    def get(one):
        if one == 1:
            raise Lost
        return one[0]

    asked = []
    ray = types.ModuleType("ray")
    ray.init = lambda **how: asked.append(how["address"])
    remote = types.SimpleNamespace(
        remote=lambda words, *rest: 1 if "lost" in words else (jobs.run_there(words, *rest),)
    )
    ray.remote = lambda **how: lambda f: remote
    ray.wait = lambda left, timeout: (left[:1], left[1:])
    ray.get, ray.exceptions = get, types.SimpleNamespace(RayError=Lost)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(jobs.sys, "argv", ["innerloop", "sweep"])
    given = [job(tmp_path, "a", "echo hello from $INNERLOOP_COMMAND"), job(tmp_path, "b", "lost")]
    told = []
    assert run_jobs(given, Workers(2, 1, 0, "auto"), lambda j, code: told.append((j.name, code))) == [0, 1]
    assert asked == ["auto"] and ("b", 1) in told and given[0].log.read_text() == "hello from innerloop sweep\n"
