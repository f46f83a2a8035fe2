"""`serve`: an HTTP server for trained runs, with a web page; or for a language model, by OpenAI's protocol."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import torch
import tyro

from innerloop.cli.inputs import NO_CODE, Code, CodeFlags, RulesFile, choose_device, open_run
from innerloop.cli.serving_lm import NO_LM, LMFlags, check_flags, serve_lm
from innerloop.errors import InputError
from innerloop.runs.code import given
from innerloop.schema import Amount, Count, Range
from innerloop.solve.rules import Rules, read_rules, with_rules

__all__ = ["serve"]

PUZZLES_ALONE = ("rules", "device", "rows", "depth", "width", "puzzles", "streams")  # options without use beside --lm

WARNING = (
    "warning: {host} can be reached from other machines, and this server asks nobody who they are: "
    "put it behind something that does, or leave --host out"
)


def serve(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")],
    host: str = "127.0.0.1",
    port: Annotated[int, Range(0, 65_535)] = 8000,
    device: str = "auto",
    threads: Annotated[int, Range(0, 1024)] = 0,
    rows: Annotated[int, Range(1, 65_536)] = 64,
    depth: Count = 1024,
    width: Count = 128,
    puzzles: Count = 1000,
    seconds: Amount = 0.0,
    queue: Count = 20_000,
    streams: Count = 16,
    body: Annotated[int, Range(1, 1 << 30)] = 4 << 20,
    connections: Count = 512,
    allow_host: tuple[str, ...] = (),
    grace: Amount = 0.0,
    rules: RulesFile = "",
    code: CodeFlags = NO_CODE,
    lm: Annotated[LMFlags, tyro.conf.OmitArgPrefixes] = NO_LM,
) -> int:
    """Serve trained runs, by an HTTP API and a page where you watch them think; or, with --lm, a language model.

    Example:  innerloop serve runs/demo

    Example:  innerloop serve runs/demo small=demo-sudoku4 --port 0 --queue 5000

    Example:  innerloop serve --lm smollm2 --think "vote(8)"

    Requests beyond a limit are refused with a sentence; a full queue answers 429. Ctrl-C or SIGTERM answers what was
    accepted, then ends.

    Args:
        runs: Folders of trained runs, each RUN or NAME=RUN; without a name a run is called by its folder.
        host: Address to listen at. At another than 127.0.0.1 other machines reach it, and nobody is asked who they are.
        port: 0 takes a free one; the first line says which.
        device: auto, cpu or cuda.
        threads: Of torch, for each model; 0: as torch would.
        rows: Trajectories a model steps at once.
        depth: Most steps of a trajectory.
        width: Most trajectories of a puzzle.
        puzzles: Most puzzles of a request.
        seconds: Most time of a request; 0: 30 of puzzles, 600 of a language model.
        queue: Most trajectories of a model that wait or run; of a language model, most requests that wait.
        streams: Most streams of steps that are open at once.
        body: Most bytes of a request.
        connections: Most connections that are open at once.
        allow_host: Further names by which the server may be called, such as that of a proxy before it; * for any.
        grace: Seconds in which requests may finish when the server is told to end; 0: as many as --seconds.
    """
    from innerloop.serve.models import Limits

    check_flags(lm, of_puzzles(locals()))
    torch.set_num_threads(threads or torch.get_num_threads())
    seconds = seconds or (600.0 if lm.lm else 30.0)
    opener = None if lm.lm else Opener(runs, device, code, rules)
    limits = Limits(depth, width, puzzles, seconds, queue, streams, body=body, rows=rows, connections=connections)
    start(opener or lm, limits, host, port, grace or seconds, allow_host)
    return 0


def of_puzzles(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `serve` was given that is of puzzles alone: its name, and whether it is another than its default."""
    defaults = {name: p.default for name, p in inspect.signature(serve).parameters.items()}
    changed = {f"--{name}": given[name] != defaults[name] for name in PUZZLES_ALONE}
    return {"a run": given["runs"], "a file of code": any(given["code"]), **changed}


def start(what: Opener | LMFlags, limits: Any, host: str, port: int, grace: float, allow_host: tuple[str, ...]) -> None:
    """Listen, and serve runs or a language model until the server ends."""
    from innerloop.serve.origin import AllowedHosts
    from innerloop.serve.server import bind, is_loopback

    with bind(host, port) as sock:
        if not is_loopback(host):
            print(WARNING.format(host=host), file=sys.stderr, flush=True)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        where = address(host, sock), sock, grace, AllowedHosts(host, allow_host)
        listen(what, limits, *where) if isinstance(what, Opener) else serve_lm(what, limits, *where)


class Opener:
    """Opens the runs of a server, with the user's task, system and rules.

    Code that a run keeps is run while the server begins, if the user said so, and never when a run is loaded again: who
    may ask for that may not be the user. Raises InputError for a file of one's own that several runs would share.
    """

    def __init__(self, runs: tuple[str, ...], device: str, code: Code, rules: str) -> None:
        if not runs:
            raise InputError("there is nothing to serve: give the folder of a run, such as runs/demo")
        if len(runs) > 1 and any((code.task, code.system, rules)):
            raise InputError("--task, --system and --rules are of one run: serve it alone, or leave them out")
        self.runs, self.rules = runs, read_rules(rules) if rules else Rules(None, None)
        self.code = code._replace(task=given(code.task), system=given(code.system))  # run once: now
        self.device, self.why = choose_device(device)

    def __call__(self, source: str) -> Any:
        opened = open_run(source, self.device, self.code)
        return opened._replace(task=with_rules(opened.task, *self.rules))

    def trust_no_more(self) -> None:
        self.code = self.code._replace(trust_code=False)


def listen(opener: Opener, limits: Any, url: str, sock: Any, grace: float, hosts: Any) -> None:
    """Load the runs and serve them on `sock` until the server ends."""
    from innerloop.serve.access import AccessState
    from innerloop.serve.app import create_app
    from innerloop.serve.metrics import Metrics
    from innerloop.serve.models import Registry
    from innerloop.serve.server import Server

    metrics, access = Metrics(), AccessState(hosts)
    registry = Registry(opener, limits, metrics.on_step)
    try:
        for run in opener.runs:
            registry.add(run)
        opener.trust_no_more()
        app = create_app(registry, access, metrics)
        if any(served.exact for served in registry.served.values()):
            registry.fallback.warm()
        ready = f"serving {', '.join(registry.served)} on {opener.why} at {url}"
        Server(app, registry, access, grace, lambda: print(ready, flush=True)).run(sockets=[sock])
    finally:
        registry.close()


def address(host: str, sock: Any) -> str:
    """The URL for a browser."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{sock.getsockname()[1]}"
