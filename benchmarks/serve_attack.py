"""A server under attack: latency of normal requests beside idle, slow and oversized ones.

    python benchmarks/serve_attack.py demo-sudoku4 --seconds 20 --out results/serve_attack.json

Honest single puzzles are sent at random times, at --rate a second, while another process attacks:

    idle    200 connections that say nothing       head    100 that send half of a request's head
    drip    100 that send a byte of a body every half second
    bomb    a body of 4 MB with two million numbers where puzzles should be, every second
    all     idle, drip and bomb at once

Whoever is closed comes back. Rounds with nothing beside (`calm`) come between them: the ratio of a round is its p99
over the median one of the calm rounds. Other sites' requests, other names and a server with 64 file descriptors and 80
silent connections follow. Without RUN the bundled demo-sudoku4 is served. Wanted: nothing lost, nothing refused, a
ratio below --wanted for every attack, bombs and other sites refused, an end with 0. Exits with 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from subject import of_model

from innerloop.cli.inputs import open_run
from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate
from innerloop.serve.local import LocalServer, running

ATTACKS = {"idle": ("idle",), "head": ("head",), "drip": ("drip",), "bomb": ("bomb",), "all": ("idle", "drip", "bomb")}
COUNT = {"idle": 200, "head": 100, "drip": 100, "bomb": 1}
EVERY = 0.5  # seconds between two bytes that drip
BOMB = b'{"puzzles": [' + b"0," * 2_000_000 + b"0]}"
DESCRIPTORS, SILENT = 64, 80
DIALS = {"depth": 16, "width": 1}


# -- the other side: in a process of its own --------------------------------------------------------------------------


async def attacker(kind: str, host: str, port: int, name: str, told: Any) -> None:
    """One connection of this kind, again and again."""
    head = (
        f"POST /v1/models/{name}/solve_many HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    )
    length = f"Content-Length: {len(BOMB)}\r\n\r\n".encode()
    first = {"idle": b"", "head": head, "drip": head + length, "bomb": head + length + BOMB}[kind]
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                began = time.monotonic()
                writer.write(first)
                await writer.drain()
                if kind == "bomb":
                    answer = await reader.read(1000)
                    told.put((int(answer.split()[1]), time.monotonic() - began))
                    await asyncio.sleep(1.0)
                while kind == "drip":
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(EVERY)
                while kind != "bomb" and await reader.read(4096):
                    pass
            finally:
                writer.close()
        await asyncio.sleep(0.1)


def attack(kinds: tuple[str, ...], host: str, port: int, name: str, told: Any) -> None:
    async def go() -> None:
        await asyncio.gather(*[attacker(k, host, port, name, told) for k in kinds for _ in range(COUNT[k])])

    asyncio.run(go())


# -- honest requests --------------------------------------------------------------------------------------------------


async def honest(url: str, name: str, puzzles: list[str], rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Single puzzles at random times; half of them on connections of their own."""
    rng, taken, statuses = random.Random(seed), [], []
    lost: list[str] = []
    fresh_each = httpx.Limits(max_connections=500, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, verify=False) as kept,
        httpx.AsyncClient(base_url=url, timeout=60, verify=False, limits=fresh_each) as fresh,
    ):

        async def one(due: float, http: httpx.AsyncClient) -> None:
            body = {"puzzle": rng.choice(puzzles)} | DIALS
            try:
                statuses.append((await http.post(f"/v1/models/{name}/solve", json=body)).status_code)
                taken.append(time.monotonic() - due)
            except httpx.HTTPError as error:
                lost.append(type(error).__name__)

        due, tasks = time.monotonic(), []
        end = due + seconds
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one(due, fresh if len(tasks) % 2 else kept)))
        await asyncio.gather(*tasks)
    return {"taken": taken, "lost": lost, "errors": sum(s >= 400 for s in statuses)}


def memory(url: str) -> float:
    """Bytes that the server has in memory."""
    found = re.search(r"^process_resident_memory_bytes (\S+)$", httpx.get(f"{url}/metrics", timeout=60).text, re.M)
    return float(found[1]) if found else float("nan")


def round_of(
    server: LocalServer, kind: str, name: str, puzzles: list[str], args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Honest requests beside one kind of attack."""
    host, port = server.url.removeprefix("http://").split(":")
    context = multiprocessing.get_context("fork")  # at once: importing anew would cost as much as any attack
    told = context.Queue()
    other = context.Process(target=attack, args=(ATTACKS.get(kind, ()), host, int(port), name, told), daemon=True)
    if kind != "calm":
        other.start()
        time.sleep(3)  # it needs a moment to come
    found = asyncio.run(honest(server.url, name, puzzles, args.rate, args.seconds, seed))
    if kind != "calm":
        other.terminate()
        other.join()
    bombs = []
    while not told.empty():
        bombs.append(told.get())
    p50, p99 = np.quantile(found["taken"], [0.5, 0.99]).tolist() if found["taken"] else (float("inf"),) * 2
    row = {"attack": kind, "answers": len(found["taken"]), "lost": len(found["lost"]), "errors": found["errors"]}
    row |= {"p50": p50, "p99": p99, "memory": memory(server.url)}
    if bombs:
        row |= {
            "bombs": len(bombs),
            "bomb_statuses": sorted({s for s, _ in bombs}),
            "bomb_seconds": max(t for _, t in bombs),
        }
    return row


def other_sites(url: str, name: str) -> dict[str, int]:
    """What requests are answered that a browser brings for somebody else."""
    asked = {
        "another name": {"Host": "rebind.example"},
        "another origin": {"Origin": "http://evil.example"},
        "another site": {"Sec-Fetch-Site": "cross-site"},
        "no browser": {},
    }
    return {
        k: httpx.post(f"{url}/v1/models/{name}/reload", headers=h, timeout=60).status_code for k, h in asked.items()
    }


def few_descriptors(run: str, puzzle: str) -> dict[str, Any]:
    """A server that may open few files, and silent connections that take them all."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        started = running(run, threads=1)
        server = started.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    try:
        name = server.client.models()[0].name
        host, port = server.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(SILENT)]
        began, slowest = time.monotonic(), 0.0
        for _ in range(20):
            at = time.monotonic()
            reply = httpx.post(f"{server.url}/v1/models/{name}/solve", json={"puzzle": puzzle} | DIALS, timeout=60)
            reply.raise_for_status()
            slowest = max(slowest, time.monotonic() - at)
        seconds = time.monotonic() - began
        status = server.stop()
        for sock in silent:
            sock.close()
        return {"seconds": seconds, "slowest": slowest, "log_bytes": len(server.log()), "exit_status": status}
    finally:
        started.__exit__(None, None, None)


def measured(run: str, args: argparse.Namespace) -> dict[str, Any]:
    """All rounds over one server."""
    opened = open_run(run)
    task = opened.task
    puzzles = [task.decode(q) for q in task.make(200, args.seed + 31_337).inputs]
    with running(run, threads=1) as server:
        name = server.client.models()[0].name
        for rows in range(1, 65):  # kernels of every batch size are compiled when it is first met, and kept
            server.client.solve_many(puzzles[:rows], **(DIALS | {"depth": 1}))
        rows = []
        for number, kind in enumerate(["calm", *(k for a in args.attacks for k in (a, "calm"))]):
            rows.append(round_of(server, kind, name, puzzles, args, args.seed + number))
            print(f"{kind:5} p50 {1e3 * rows[-1]['p50']:6.1f} ms, p99 {1e3 * rows[-1]['p99']:7.1f} ms", flush=True)
        sites = other_sites(server.url, name)
        status, log = server.stop(), server.log()
    calm = float(np.median([row["p99"] for row in rows if row["attack"] == "calm"]))
    for row in rows:
        row["ratio"] = row["p99"] / calm
    return {
        "subject": of_model(opened), "calm_p99": calm, "rows": rows, "other_sites": sites,
        "few_descriptors": few_descriptors(run, puzzles[0]), "exit_status": status, "log_bytes": len(log),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="demo-sudoku4")
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each round")
    parser.add_argument("--rate", type=float, default=10.0, help="honest requests a second")
    parser.add_argument("--wanted", type=float, default=2.0, help="a ratio below this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=str)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends as well
    found = measured(args.run, args)
    attacks = [row for row in found["rows"] if row["attack"] != "calm"]
    few = found["few_descriptors"]
    good = all(not row["lost"] and not row["errors"] and row["ratio"] < args.wanted for row in attacks)
    good = good and all(row.get("bomb_statuses", [413]) == [413] for row in attacks)
    good = good and found["other_sites"] == {**dict.fromkeys(found["other_sites"], 403), "no browser": 200}
    good = good and found["exit_status"] == few["exit_status"] == 0 and few["log_bytes"] < 10_000 and few["slowest"] < 5
    for row in attacks:
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}))
    print(json.dumps(found["other_sites"]), json.dumps(few), "good" if good else "NOT GOOD")
    if args.out:
        value = {"born": birth_certificate([args.seed]), "run": args.run, "dials": DIALS, "rate": args.rate}
        write_json(Path(args.out), value | {"seconds": args.seconds, "counts": COUNT} | found | {"good": good})
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
