"""A server under load for minutes: latency, throughput, lost requests, memory; driven over HTTP by Poisson arrivals.

    python benchmarks/serve_load.py RUN --minutes 5 --out results/serve_load.json

Requests of all kinds arrive at random times, whether or not the server keeps up: single puzzles mostly, some wide, some
noisy (each seed its own engine), lists, streams read to the end and streams abandoned, bad requests. The model is
reloaded early on and after every minute, and the queue is flooded three times. Without --rate requests arrive at
--share of what the server was measured to do at once before. Latency counts from the time a request was due. Every
known answer is verified again.
Wanted: every request answered, none with a status of 500 or above, no wrong answer, an end with 0, and, in runs of LONG
minutes or more, no growth of memory after the first fifth. Without RUN a 4x4 Sudoku is trained first. Exits with 1 if
one of these fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from serve_fuzz import trained
from subject import of_model

from innerloop.cli.inputs import open_run
from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate
from innerloop.serve.local import LocalServer, running

MIX = {  # kind of request -> share
    "solve": 0.80, "wide": 0.06, "noisy": 0.04, "many": 0.04, "think": 0.02, "leave": 0.02, "bad": 0.01, "look": 0.01,
}  # fmt: skip
ROWS = 64
LIMITS = {"queue": 2000, "streams": 16, "rows": ROWS}
LIST = 16  # puzzles of a list
PROBE = 8.0  # seconds in which the server's pace is measured
PART = 10.0  # seconds over which memory is averaged
LONG = 3.0  # minutes from which on memory is judged: what a run first touches stays for a while
GROWTH = 0.02  # share of the memory that it may drift by in the run


class Load:
    """What is sent and what came of it."""

    def __init__(self, http: httpx.AsyncClient, name: str, task: Any, seed: int) -> None:
        self.http, self.at, self.task, self.rng = http, f"/v1/models/{name}", task, random.Random(seed)
        self.arrivals = random.Random(seed + 1)  # of its own: what is sent when does not depend on the server's pace
        made = task.make(2000, seed + 31_337)
        self.tokens = {task.decode(q): q for q in made.inputs}
        self.puzzles = list(self.tokens)
        self.latency: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[str] = Counter()
        self.lost: list[str] = []
        self.solved = self.known = self.wrong = 0

    async def one(self, kind: str, due: float) -> None:
        """Send a request of this kind; `due` of time.monotonic() is when it should have been sent."""
        try:
            status = await getattr(self, kind)()
            self.statuses[f"{kind} {status}"] += 1
            if status == 200:
                self.latency[kind].append(time.monotonic() - due)
        except Exception as error:  # whatever went wrong, there was no answer that could be read
            self.lost.append(f"{kind}: {type(error).__name__} {error}")

    async def post(self, verb: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(f"{self.at}/{verb}", json=body)

    def judge(self, puzzle: str, solution: dict[str, Any]) -> None:
        self.solved += 1
        if solution["known"]:
            self.known += 1
            answer = self.task.encode(solution["answer"])
            self.wrong += not self.task.valid_batch(self.tokens[puzzle][None], answer[None])[0]

    async def solve(self, **dials: Any) -> int:
        puzzle = self.rng.choice(self.puzzles)
        reply = await self.post("solve", {"puzzle": puzzle} | dials)
        if reply.status_code == 200:
            self.judge(puzzle, reply.json())
        return reply.status_code

    async def wide(self) -> int:
        return await self.solve(width=8, depth=32, seed=self.rng.randrange(1000))

    async def noisy(self) -> int:
        return await self.solve(width=4, depth=16, noise=[0.3, 0.1], seed=self.rng.randrange(20))

    async def many(self, count: int = LIST, **dials: Any) -> int:
        puzzles = self.rng.sample(self.puzzles, count)
        reply = await self.post("solve_many", {"puzzles": puzzles} | dials)
        if reply.status_code == 200:
            for puzzle, solution in zip(puzzles, reply.json()["solutions"], strict=True):
                self.judge(puzzle, solution)
        return reply.status_code

    async def think(self, leave: bool = False) -> int:
        puzzle, name, events = self.rng.choice(self.puzzles), "", 0
        body = {"puzzle": puzzle, "depth": 16, "width": 2}
        async with self.http.stream("POST", f"{self.at}/think", json=body) as reply:
            async for line in reply.aiter_lines():
                name = line.removeprefix("event: ") if line.startswith("event: ") else name
                events += line.startswith("event: ")
                if leave and events == 5:
                    return reply.status_code
                if line.startswith("data: ") and name == "done":
                    self.judge(puzzle, json.loads(line.removeprefix("data: "))["solution"])
        if reply.status_code == 200 and (name != "done" or events != 34):  # begin, 16 x 2 steps, done
            raise httpx.ReadError(f"a stream ended after {events} events with {name}")
        return reply.status_code

    async def leave(self) -> int:
        return await self.think(leave=True)

    async def flood(self) -> int:
        return await self.many(100, width=8, depth=16, pick="vote")

    async def bad(self) -> int:
        wrong = self.rng.choice([{"puzzle": "1"}, {"puzzle": self.puzzles[0], "depth": 10**6}, {"puzzle": 3}, {}])
        return (await self.post("solve", wrong)).status_code

    async def look(self) -> int:
        return (await self.http.get(self.at)).status_code

    async def reload(self) -> int:
        return (await self.post("reload", {})).status_code


async def probe(load: Load) -> float:
    """Puzzles a second in answer to lists and single puzzles, asked for by a few who wait for each answer."""
    end, count = time.monotonic() + PROBE, load.solved

    async def ask(kind: Callable[[], Awaitable[int]]) -> None:
        while time.monotonic() < end:
            await kind()

    await asyncio.gather(*[ask(load.solve) for _ in range(16)])
    return (load.solved - count) / PROBE


async def arrive(load: Load, rate: float, seconds: float) -> None:
    """Send requests at random times, and wait for all answers."""
    kinds, shares, tasks = list(MIX), list(MIX.values()), set()
    due, end = time.monotonic(), time.monotonic() + seconds
    while (due := due + load.arrivals.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(load.one(load.arrivals.choices(kinds, shares)[0], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def look_on(load: Load, seconds: float, seen: list[tuple[float, float]]) -> None:
    """Note the server's memory every second."""
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        text = (await load.http.get("/metrics")).text
        memory = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.M)
        if memory is None:
            raise SystemExit("the server does not say how much memory it has: this needs /proc")
        seen.append((at, float(memory[1])))
        await asyncio.sleep(min(1.0, seconds / 20))


async def disturb(load: Load, seconds: float, lists: int) -> None:
    """Reload and flood, first while the server still warms up."""

    async def reload(at: float) -> None:
        await asyncio.sleep(at)
        await load.one("reload", time.monotonic())

    async def flood(at: float) -> None:
        await asyncio.sleep(at)
        await asyncio.gather(*[load.one("flood", time.monotonic()) for _ in range(lists)])

    reloads = [seconds / 10, *range(60, int(seconds), 60)]
    floods = [seconds / 16, seconds / 8, seconds / 2]
    await asyncio.gather(*map(reload, reloads), *map(flood, floods))


def slope(seen: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Growth of memory after the first fifth, in bytes a minute with a 95 % interval: least squares over means of PART
    seconds, with a standard error that allows for neighbours being alike (Newey, West 1987); empty for too few."""
    parts: dict[int, list[float]] = defaultdict(list)
    part = min(PART, seconds / 20)
    for at, memory in seen:
        if at > seconds / 5:
            parts[int(at / part)].append(memory)
    if len(parts) < 3:
        return {}
    x = np.array(list(parts)) * part / 60
    y = np.array([np.mean(v) for v in parts.values()])
    x = x - x.mean()
    b = float(x @ y / (x @ x))
    e = x * (y - y.mean() - b * x)
    lags = min(3, len(x) - 1)
    meat = float(e @ e) + 2 * sum((1 - k / (lags + 1)) * float(e[k:] @ e[:-k]) for k in range(1, lags + 1))
    error = 1.96 * math.sqrt(max(meat, 0.0)) / float(x @ x)
    return {"slope": b, "low": b - error, "high": b + error, "start": float(y[0]), "end": float(y[-1])}


def percentiles(values: list[float]) -> dict[str, float]:
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99]).tolist()
    return {"answers": len(values), "p50": p50, "p90": p90, "p99": p99, "max": max(values)}


async def drive(server: LocalServer, task: Any, args: argparse.Namespace) -> dict[str, Any]:
    name = server.client.models()[0].name
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
        load = Load(http, name, task, args.seed)
        for rows in range(1, ROWS + 1):  # the kernels of every batch size are compiled when it is first met, and kept
            await load.many(rows, depth=1, pick="residual")
        pace, rate = None, args.rate
        if not rate:
            pace = await probe(load)
            print(f"{pace:.0f} single puzzles a second at once")
            puzzles = {"many": LIST, "think": 2 * 16, "leave": 4, "bad": 0, "look": 0}  # worth of work; others: 1
            per_request = sum(share * puzzles.get(kind, 1) for kind, share in MIX.items())
            rate = args.share * pace / per_request
        print(f"{rate:.1f} requests a second for {args.minutes:g} minutes")
        load.solved = load.known = load.wrong = 0
        seconds, seen = 60 * args.minutes, []  # type: ignore[var-annotated]
        others = look_on(load, seconds, seen), disturb(load, seconds, args.flood)
        await asyncio.gather(arrive(load, rate, seconds), *others)
    return {
        "pace": pace,
        "rate": rate,
        "seconds": seconds,
        "requests": sum(load.statuses.values()) + len(load.lost),
        "statuses": dict(sorted(load.statuses.items())),
        "lost": load.lost,
        "puzzles_answered": load.solved,
        "puzzles_known": load.known,
        "known_but_wrong": load.wrong,
        "puzzles_per_second": load.solved / seconds,
        "rows": [{"kind": kind} | percentiles(v) for kind, v in sorted(load.latency.items())],
        "memory_bytes_per_minute": slope(seen, seconds),
        "memory": [[round(at, 1), int(memory)] for at, memory in seen],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: by --share")
    parser.add_argument("--share", type=float, default=0.5, help="of the measured pace")
    parser.add_argument("--flood", type=int, default=6, help="lists of 800 trajectories each, at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends as well
    with tempfile.TemporaryDirectory() as place:
        run = args.run or trained(Path(place))
        about = of_model(open_run(run))
        with running(run, **LIMITS) as server:
            try:
                found = asyncio.run(drive(server, open_run(run).task, args))
            except httpx.HTTPError:
                print(f"the server's status is {server.process.poll()}; it said: {server.log()}", file=sys.stderr)
                raise
            status, log = server.stop(), server.log()
    memory, grows = found["memory_bytes_per_minute"], False
    if memory and args.minutes >= LONG:
        drift = memory["slope"] * 0.8 * args.minutes / memory["start"]
        grows = memory["low"] > 0 and drift > GROWTH
    broken = sum(v for k, v in found["statuses"].items() if k.split()[-1][0] == "5")
    good = not (found["lost"] or broken or found["known_but_wrong"] or grows or status or "Traceback" in log)
    for row in found["rows"]:
        p50, p99 = (1e3 * row[k] for k in ("p50", "p99"))
        print(f"{row['kind']:6} {row['answers']:6} answers   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms")
    print(f"{found['requests']} requests, {len(found['lost'])} lost, {broken} of 500 or above: {found['statuses']}")
    print(f"{found['puzzles_per_second']:.1f} puzzles a second; {found['known_but_wrong']} known but wrong")
    told = "too short to speak of memory"
    if memory:
        start, end, *slopes = (memory[k] / 2**20 for k in ("start", "end", "slope", "low", "high"))
        told = "memory {:.0f} to {:.0f} MB, {:+.2f} MB a minute [{:+.2f}, {:+.2f}]".format(start, end, *slopes)
    print(f"{told}; ended with {status}")
    if args.out:
        value = {
            "subject": about,
            "born": birth_certificate([args.seed]),
            "run": run.name,
            "limits": LIMITS,
            "mix": MIX,
        }
        write_json(args.out, value | found | {"exit_status": status, "good": good})
    if not good:
        print(log, *found["lost"][:20], sep="\n", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
