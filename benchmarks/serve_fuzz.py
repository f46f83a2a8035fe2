"""Fuzz a running server with schemathesis, by the server's own OpenAPI description.

    python benchmarks/serve_fuzz.py RUN --examples 200 --out results/serve_fuzz.json

Two passes over every route. `own` takes the description as it stands, and breaks it; most puzzles are none. `narrowed`
adds the model's symbols and the server's limits, so that most requests are thought about. Each begins with every
boundary that the description has (schemathesis' coverage) and goes on with random cases; with --short, `own` is the
boundaries alone and `narrowed` the random cases. Wanted: no answer with a status of 500 or above, every answer as
described, nothing accepted that the description forbids, and a server that is well afterwards. Without RUN a 4x4 Sudoku
is trained first. Exits with 1 where something was found.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from subject import of_model

from innerloop.cli.inputs import open_run
from innerloop.files import write_json
from innerloop.runs.certificate import birth_certificate
from innerloop.serve.local import LocalServer, running

LIMITS = {"seconds": 5, "depth": 64, "width": 8, "queue": 2000, "puzzles": 50}
# The description cannot say what a puzzle is, nor what this model can do: 400 and 413 answer well-formed requests too.
# A stream is read to its end, so that its last event is looked at as well.
CONFIG = """
max-stream-events = 1000

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 413, 429]
"""


def narrowed(described: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The description with this model's puzzles and limits, the same otherwise."""
    described = json.loads(json.dumps(described))
    cells, symbols = model["rows"] * model["columns"], re.escape(model["charset"])
    text = {"type": "string", "pattern": f"^[{symbols}]{{{cells}}}$", "minLength": cells, "maxLength": cells}
    schemas = described["components"]["schemas"]
    for name in ("SolveRequest", "SolveManyRequest", "CheckRequest"):
        properties = schemas[name]["properties"]
        for key in {"puzzle", "answer"} & properties.keys():
            properties[key] = text
        for key, most in (("depth", 64), ("width", 8)):
            if key in properties:
                properties[key]["maximum"] = most
        if "identifier" in properties:
            properties["identifier"] = {"type": "integer", "minimum": 0, "maximum": model["identifiers"] - 1}
        if "pick" in properties:
            properties["pick"] = {"type": "string", "enum": ["auto", *model["rules"]]}
        if "seconds" in properties:
            properties["seconds"] = {"type": "number", "exclusiveMinimum": 0, "maximum": LIMITS["seconds"]}
    many = schemas["SolveManyRequest"]["properties"]["puzzles"]
    many |= {"items": text, "maxItems": LIMITS["puzzles"]}
    for path, methods in described["paths"].items():
        for route in methods.values():
            for parameter in route.get("parameters", []):
                if parameter["name"] == "name" and not path.endswith("/reload"):
                    parameter["schema"] = {"type": "string", "enum": [model["name"]]}
    return described


def fuzz(server: LocalServer, what: str, description: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One pass of schemathesis; what it did and found."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    before, began = statuses(server), time.perf_counter()
    mode = {"own": "all", "narrowed": "positive"}[what]  # of requests; positive: well-formed
    phases = {"own": "coverage", "narrowed": "fuzzing"}[what] if args.short else "examples,coverage,fuzzing"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "--no-color", "run"]
    command += [description, "--url", server.url, "--checks", "all", "--phases", phases, "--mode", mode]
    command += ["--max-examples", str(args.examples), "--seed", str(args.seed)]
    command += ["--continue-on-failure", "--warnings", "off"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    counted = re.search(r"^\s*(\d+) generated", done.stdout, re.M)
    if counted is None:
        raise SystemExit(f"schemathesis did not run:\n{done.stdout}\n{done.stderr}")
    if done.returncode:
        print(done.stdout)
    answered = statuses(server)
    answered.subtract(before)
    return {
        "pass": what,
        "cases": int(counted[1]),
        "found": done.returncode != 0,
        "seconds": time.perf_counter() - began,
        "statuses": {k: v for k, v in sorted(answered.items()) if v and not k.startswith("/metrics")},
    }


def statuses(server: LocalServer) -> Counter[str]:
    """Answers so far by route and status, as the server counts them."""
    text = httpx.get(f"{server.url}/metrics").text
    lines = re.findall(r'^innerloop_requests_total\{route="(.*)",status="(.*)"\} (\S+)', text, re.M)
    return Counter({f"{route} {status}": int(float(count)) for route, status, count in lines})


def trained(folder: Path) -> Path:
    """A 4x4 Sudoku, trained in seconds."""
    run = folder / "sudoku4"
    command = [sys.executable, "-m", "innerloop.cli", "train", "sudoku4", "--out", str(run), "--device", "cpu"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--examples", type=int, default=200, help="cases for each route and pass, at most")
    parser.add_argument("--short", action="store_true", help="a minute's worth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends as well
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = args.run or trained(folder)
        about = of_model(open_run(run))
        with running(run, **LIMITS) as server:
            model = httpx.get(f"{server.url}/v1/models").json()["models"][0]
            described = httpx.get(f"{server.url}/openapi.json").json()
            (folder / "narrowed.json").write_text(json.dumps(narrowed(described, model)))
            passes = [
                fuzz(server, "own", f"{server.url}/openapi.json", args, folder),
                fuzz(server, "narrowed", "narrowed.json", args, folder),
            ]
            well = server.client.ready() and bool(server.client.model(model["name"]).rules)
            status, log = server.stop(), server.log()
    errors = sum(v for p in passes for k, v in p["statuses"].items() if k.split()[-1][0] == "5")
    solved = sum(v for p in passes for k, v in p["statuses"].items() if k.endswith("/solve 200"))
    for p in passes:
        print(f"{p['pass']}: {p['cases']} cases in {p['seconds']:.0f} s, {'failures' if p['found'] else 'no failure'}")
    print(f"{errors} answers of 500 or above; /solve answered 200 {solved} times; ended with {status}")
    good = not errors and not any(p["found"] for p in passes) and well and status == 0 and "Traceback" not in log
    if args.out:
        value = {
            "subject": about,
            "born": birth_certificate([args.seed]),
            "run": run.name,
            "limits": LIMITS,
            "rows": passes,
        }
        write_json(args.out, value | {"server_errors": errors, "exit_status": status, "good": good})
    if not good:
        print(log, file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
