"""Graceful shutdown under load: SIGTERM while requests of all kinds are under way; each accepted one must be answered.

    python benchmarks/serve_end.py RUN --rounds 10 --out results/serve_end.json

In each round a server has taken single puzzles, lists, streams and a request for the exact solver, more trajectories
than it has rows, so that most of them wait, when it gets SIGTERM. From then on others keep asking, on connections of
their own. Wanted: all that were inside are answered as a solver answers alone, to the last step and event; others hear
503, and are turned away without a word only when everybody inside has been answered; /readyz says 503 and /healthz 200
meanwhile; an end with 0. Without RUN a 4x4 Sudoku is trained first. Exits with 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from serve_fuzz import trained
from subject import of_model

from innerloop.cli.inputs import open_run
from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate
from innerloop.runs.solving import solver_of
from innerloop.serve.local import LocalServer, running

LIMITS = {"seconds": 120, "depth": 100_000, "rows": 8, "streams": 2}
SINGLES, LISTS, LIST, STREAMS, TOLD = 4, 2, 8, 2, 100  # TOLD: steps of a stream
BETWEEN = 0.03  # seconds between those who come too late
AT_ONCE = 1.0  # seconds in which answers that were sent are read, on a busy machine


class Round:
    """What is asked of one server, and what comes of it."""

    def __init__(self, http: httpx.AsyncClient, name: str, puzzles: list[str], depth: int) -> None:
        self.http, self.at, self.puzzles, self.depth = http, f"/v1/models/{name}", puzzles, depth
        self.trajectories = SINGLES + LISTS * LIST + 2 * STREAMS + 1
        self.late: Counter[str] = Counter()
        self.said: list[str] = []  # of what went wrong

    async def post(self, verb: str, **body: Any) -> Any:
        reply = await self.http.post(f"{self.at}/{verb}", json={"pick": "residual"} | body)
        reply.raise_for_status()
        return reply.json()

    async def single(self, i: int) -> list[dict[str, Any]]:
        return [await self.post("solve", puzzle=self.puzzles[i], depth=self.depth)]

    async def many(self, i: int) -> list[dict[str, Any]]:
        puzzles = self.puzzles[i * LIST : (i + 1) * LIST]
        return list((await self.post("solve_many", puzzles=puzzles, depth=self.depth))["solutions"])

    async def stream(self, i: int) -> list[dict[str, Any]]:
        body = {"puzzle": self.puzzles[i], "depth": TOLD, "width": 2, "pick": "residual"}
        async with self.http.stream("POST", f"{self.at}/think", json=body) as reply:
            lines = [line async for line in reply.aiter_lines()]
        names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        if names != ["begin", *["step"] * 2 * TOLD, "done"]:
            raise ValueError(f"a stream had {len(names)} events, the last {names[-1:]}")
        return [json.loads(lines[-2].removeprefix("data: "))["solution"]]

    async def exact(self) -> list[dict[str, Any]]:
        """Last of all in the queue, so that the exact solver is asked after the signal."""
        return [await self.post("solve", puzzle=self.puzzles[0], depth=1, exact=True, priority=-1000)]

    async def under_way(self, trajectories: int, streams: int) -> None:
        """Wait until the server has so many trajectories and streams under way."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            lines = (await self.http.get("/metrics")).text.splitlines()
            value = {name: float(v) for name, _, v in (line.rpartition(" ") for line in lines if line[0] != "#")}
            open_ = sum(v for k, v in value.items() if k.startswith(("innerloop_waiting{", "innerloop_live_rows{")))
            if open_ == trajectories and value["innerloop_streams"] == streams:
                return
            await asyncio.sleep(0.01)
        raise SystemExit("the requests were never all under way at once: give more --depth")

    async def come_late(self, inside: asyncio.Future[Any]) -> None:
        """Ask again and again, until nobody opens; while there is somebody inside, each must be told 503."""
        while True:
            busy = not inside.done()
            try:
                async with httpx.AsyncClient(base_url=self.http.base_url, timeout=60, verify=False) as http:
                    reply = await http.post(f"{self.at}/solve", json={"puzzle": self.puzzles[0], "depth": 1})
                    told = str(reply.status_code) if "retry-after" in reply.headers else f"{reply.status_code} only"
                    if busy and not inside.done():
                        health = [(await http.get(f"/{path}z")).status_code for path in ("health", "ready")]
                        if health != [200, 503] and not inside.done():
                            self.said.append(f"/healthz and /readyz said {health}")
            except httpx.TransportError as error:
                told = "turned away"
                await asyncio.wait({inside}, timeout=AT_ONCE)  # its answers may have come, and not been read
                if not inside.done():
                    self.said.append(f"a late request met {type(error).__name__} while others were inside")
            self.late[told] += 1
            if told == "turned away":
                return
            await asyncio.sleep(BETWEEN)


async def drive(server: LocalServer, puzzles: list[str], depth: int) -> tuple[Round, list[Any], float]:
    """(the round, what everybody inside was answered, seconds from the signal to the last of these)."""
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as http:
        name = (await http.get("/v1/models")).json()["models"][0]["name"]
        round_ = Round(http, name, puzzles, depth)
        long = [round_.single(i) for i in range(SINGLES)] + [round_.many(i) for i in range(LISTS)]
        first = asyncio.gather(*long, return_exceptions=True)
        await round_.under_way(SINGLES + LISTS * LIST, 0)  # what comes next waits behind these
        last = asyncio.gather(*map(round_.stream, range(STREAMS)), round_.exact(), return_exceptions=True)
        await round_.under_way(round_.trajectories, STREAMS)
        inside = asyncio.gather(first, last)
        began = time.monotonic()
        server.process.terminate()
        while (await http.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.001)
        late = asyncio.create_task(round_.come_late(inside))
        answers = [answer for part in await inside for answer in part]
        seconds = time.monotonic() - began
        await late
    return round_, answers, seconds


def reference(solver: Any, puzzles: list[str], depth: int) -> list[tuple[int, str]]:
    """(steps, answer) of all that is asked for but the exact solver's, in that order."""
    alone = solver.solve(puzzles, depth, pick="residual")
    streams = solver.solve(puzzles[:STREAMS], TOLD, 2, "residual")
    return [(s.steps, s.text) for s in [*alone[:SINGLES], *alone, *streams]]


def judged(answers: list[Any], wanted: list[tuple[int, str]], puzzle: str, task: Any) -> list[str]:
    """What is wrong with the answers of a round."""
    lost = [f"{type(a).__name__}: {a}" for a in answers if isinstance(a, BaseException)]
    if lost:
        return lost
    *rest, exact = answers
    found = [(s["steps"], s["answer"]) for part in rest for s in part]
    wrong = [f"{mine} where a solver alone says {w}" for mine, w in zip(found, wanted, strict=True) if mine != w]
    question, answer = (task.encode(text)[None] for text in (puzzle, exact[0]["answer"]))
    if not exact[0]["known"] or not task.valid_batch(question, answer)[0]:
        wrong.append(f"with the exact solver: {exact[0]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="of a task that has an exact model")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--depth", type=int, default=400, help="steps of each puzzle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends as well
    rows, good = [], True
    with tempfile.TemporaryDirectory() as place:
        run = args.run or trained(Path(place))
        opened = open_run(run)
        about = of_model(opened)
        solver, task = solver_of(opened), opened.task
        puzzles = [task.decode(q) for q in task.make(LISTS * LIST, args.seed + 31_337).inputs]
        wanted = reference(solver, puzzles, args.depth)
        for number in range(1, args.rounds + 1):
            with running(run, **LIMITS) as server:
                round_, answers, seconds = asyncio.run(drive(server, puzzles, args.depth))
                status, log = server.stop(), server.log()
            wrong = round_.said + judged(answers, wanted, puzzles[0], task)
            wrong += [f"the server ended with {status}: {log}"] if status or "Traceback" in log else []
            if not round_.late.keys() <= {"503", "turned away"}:
                wrong.append(f"late requests heard {dict(round_.late)}")
            good = good and not wrong
            row = {"inside": len(answers), "trajectories": round_.trajectories, "late": dict(round_.late)}
            rows.append(row | {"seconds": seconds, "exit_status": status, "wrong": wrong})
            print(f"round {number}: {len(answers)} inside, the last answered {seconds:.2f} s after SIGTERM; "
                  f"late ones {dict(round_.late)}; ended with {status}", *wrong, sep="\n  ", flush=True)  # fmt: skip
    if args.out:
        value = {
            "subject": about,
            "born": birth_certificate([args.seed]),
            "run": run.name,
            "limits": LIMITS,
            "depth": args.depth,
        }
        write_json(args.out, value | {"rows": rows, "good": good})
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
