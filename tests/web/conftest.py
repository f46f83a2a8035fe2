"""A trained run, a server that serves it, and a browser that looks at it; all real."""

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from looking import DIALS, ask

from innerloop import cli

TINY = ["plan.compile=off", "plan.check_every=300", "data.holdout=40"]
MAZE = ["plan.steps=2", "plan.batch=4", "plan.compile=off", "data.count=8", "data.holdout=8"]


def chromium():
    """Where a Chromium is: $CHROMIUM, the system's, or playwright's own; None."""
    known = [os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    return next((path for path in known if path and Path(path).exists()), None)


@pytest.fixture(scope="session")
def run(made_once):
    """A small model that solves 4x4 Sudokus, evaluated and studied."""
    torch.set_num_threads(1)
    return made_once(make_run, "sudoku4")


def make_run(folder):
    assert cli.main(["train", "sudoku4", "--out", str(folder), "--device", "cpu", "--set", *TINY]) == 0
    evaluate = ["eval", str(folder), "--depth", "1,2,4,8", "--width", "1,2", "--noise", "0.1,0", "--halt", "both"]
    assert cli.main([*evaluate, "--limit", "30", "--device", "cpu"]) == 0
    assert cli.main(["study", str(folder), "--depth", "4", "--limit", "12", "--device", "cpu"]) == 0


@pytest.fixture(scope="session")
def maze(tmp_path_factory):
    """A model that has learned nothing: what it says breaks rules."""
    folder = tmp_path_factory.mktemp("web") / "maze"
    command = ["train", "maze11", "--out", str(folder), "--device", "cpu", "--set", *MAZE]
    assert cli.main(command) == 0
    return folder


@pytest.fixture(scope="session")
def serve():
    """serve(*words) starts `innerloop serve` and gives {url, process}; all are ended with the tests."""
    with contextlib.ExitStack() as started:

        def start(*words):
            from innerloop.serve.local import running

            server = started.enter_context(running(*words, threads=1))
            return SimpleNamespace(url=server.url + "/", process=server.process)

        yield start


@pytest.fixture(scope="session")
def server(serve, run, maze):
    pytest.importorskip("fastapi", reason="the server needs innerloop[serve]")
    return serve(run, maze)


@pytest.fixture(scope="module")
def browser():
    """Ends with its file: while it lives, playwright's event loop runs in this thread, and no other can."""
    sync = pytest.importorskip("playwright.sync_api", reason="the page's tests drive a browser by playwright")
    with sync.sync_playwright() as player:
        path = chromium()
        try:
            found = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except sync.Error as error:
            pytest.skip(f"no Chromium at $CHROMIUM, on the path, or of playwright's own: {str(error).splitlines()[0]}")
        yield found
        found.close()


class Watch:
    """What a page asked for and complained about."""

    def __init__(self, page, own):
        self.is_cross_site, self.errors = [], []
        page.on("request", lambda r: r.url.startswith((own, "data:", "blob:")) or self.is_cross_site.append(r.url))
        page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        page.on("pageerror", lambda e: self.errors.append(str(e)))


@pytest.fixture
def visit(browser):
    """visit(url, **options) opens a page; the test fails if it asked anybody else, or wrote an error in the console."""
    pages, allowed = [], []

    def open_page(url, expect=(), **options):
        plain = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}  # straight to the answer
        context = browser.new_context(**{**plain, **options})
        page = context.new_page()
        page.set_default_timeout(20_000)
        watch = Watch(page, url.split("#")[0])
        pages.append((context, watch))
        allowed.extend(expect)
        page.goto(url)
        page.wait_for_selector("body:not(.loading)")
        return page

    yield open_page
    for context, watch in pages:
        context.close()
        assert not watch.is_cross_site
        assert [e for e in watch.errors if not any(a in e for a in allowed)] == []


@pytest.fixture
def examples(server):
    return [e["question"] for e in ask(server, "v1/models/sudoku4")["examples"]]


@pytest.fixture
def thought(server, examples):
    """What the API thinks about the third example at DIALS: (steps[trajectory][step - 1], done)."""
    told = ask(server, "v1/models/sudoku4/think", {"puzzle": examples[2], **DIALS})
    steps = [[d for e, d in told if e == "step" and d["trajectory"] == k] for k in range(DIALS["width"])]
    return steps, told[-1][1]
