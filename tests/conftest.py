"""Where golden vectors and real puzzle sets may lie; both are beside a developer's checkout, never in the project."""

import contextlib
import fcntl
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest

# torch and the library are loaded where they are used: the process that hands out the work to others needs neither.
LONGEST = (
    "test_printed_commands", "test_next_commands",
    "test_graph", "test_web_page", "test_load", "test_records", "test_train", "test_contract", "test_api", "test_cli",
    "test_web_verdict", "test_web_site", "test_bad_inputs", "test_hub", "test_imagine", "test_mor", "test_huginn",
    "test_solver", "test_web_hostile", "test_attacks", "test_worker", "test_web_everybody", "test_roster",
    "test_many_runs",
)  # fmt: skip
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser):
    parser.addoption("--golden", default=str(SHARED / "golden"), help="folder of golden vectors NAME_*.npz")


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that no worker is left with one of them when the others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real puzzle sets, or a skip that says why."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real puzzle sets at {folder}")
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once(make, name) is this worker's copy of the folder that make(folder) made for the first worker."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made_once"
    shared.mkdir(exist_ok=True)

    def copy(make, name):
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            done = shared / f"{name}.done"
            if not done.exists():
                shutil.rmtree(shared / name, ignore_errors=True)
                make(shared / name)
                done.touch()
        return shutil.copytree(shared / name, tmp_path_factory.mktemp("copies") / name)

    return copy


@pytest.fixture(scope="session")
def untrained():
    """untrained() is a tiny looped language model with random weights, of four rows.

    It writes until it is cut, and line breaks among other characters.
    """
    import torch

    from innerloop.lm.own import Own
    from innerloop.parts.config import NetConfig
    from innerloop.weights.looped import Config, Looped

    charset = "0123456789 +=x,.\nso;"
    net = NetConfig(
        vocab=len(charset) + 1, seq=160, rows=1, hidden_size=32, heads=2, layers=1, multiple_of=16, norm="magic",
        mask="causal", prefix=0, puzzle_emb_size=0,
    )  # fmt: skip

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of weights that write line breaks, and no end mark at once
            loop = Looped(Config(net, dtype="float32"))
            for p in loop.parameters():
                if p.ndim > 1:
                    torch.nn.init.normal_(p, std=2 * p.shape[-1] ** -0.5)
        return Own(loop, charset=charset, end=";", places=160, depth=2, rows=4)

    return make


@pytest.fixture
def run_script(monkeypatch, capsys):
    """run_script(name, *words) runs one of benchmarks/ to its end in this process, which has torch already.

    Returns what it printed; an exit status other than 0 fails.
    """
    import torch

    from innerloop import memory

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()

    def run(name, *words):
        path = str(BENCHMARKS / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            assert not end.code, f"{end.code}\n{capsys.readouterr()}"
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)
    memory.give_back()


@pytest.fixture
def jobs_in_this_process(monkeypatch):
    """Runs of several seeds are made without starting torch anew for each; their output goes to their logs, as ever."""
    from innerloop import cli
    from innerloop.cli import seeding

    def run_jobs(jobs, workers, report, wait=bool):
        codes = []
        for job in jobs:
            report(job, None)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                codes.append(cli.main(job.words))
            wait()
            report(job, codes[-1])
        return codes

    monkeypatch.setattr(seeding, "run_jobs", run_jobs)
    return run_jobs


@pytest.fixture
def short_verbs(monkeypatch, tmp_path, jobs_in_this_process):
    """Verbs end in seconds, in this process: a server once it has opened its models, the demo after few puzzles."""
    from innerloop.cli import demo
    from innerloop.pretrained import HARD_SUDOKUS
    from innerloop.serve import server

    bind = server.bind
    monkeypatch.setattr(server, "bind", lambda host, port: bind("127.0.0.1", 0))  # another worker may have the port
    monkeypatch.setattr(server.Server, "run", lambda self, sockets: None)
    hard = tmp_path / HARD_SUDOKUS.name
    hard.write_text("".join(HARD_SUDOKUS.read_text().splitlines(keepends=True)[:4]))
    monkeypatch.setattr(demo, "HARD_SUDOKUS", hard)
    monkeypatch.setattr(demo, "WIDTHS", (1, 2))
    monkeypatch.setattr(demo, "TEST_PUZZLES", 12)


@pytest.fixture(autouse=True)
def _as_at_the_start():
    """One seed, and float32 products as torch does them by default, whatever an earlier test has trained."""
    import torch

    from innerloop.learn.precision import fast_float32

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    fast_float32.cache_clear()
