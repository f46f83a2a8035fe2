"""Does lm-eval, a harness of other people, work with `innerloop serve --lm smollm2`? Five items of a local task.

    python benchmarks/harness_client.py --out results/harness_client.json

The command makes a virtual environment of its own with lm-eval (once; this needs the network or an index), starts
`innerloop serve --lm smollm2` on loopback, and has lm-eval ask five items through its model local-chat-completions. Of
the run itself nothing leaves the machine: the hubs are switched off and every other address has a proxy that refuses.
A relay between the two keeps what went over it. Wanted: five answers that the harness read as they were sent; the
usage of every reply adds up, and all of them together are what the server's own /metrics counted. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from innerloop import files
from innerloop.runs.certificate import birth_certificate

PACKAGE = "lm-eval[api]"
ITEMS = [
    ("What is the capital of France?", "Paris"), ("What is 2 + 3?", "5"),
    ("Which colour is the sky on a clear day?", "blue"),
    ("How many days has a week?", "7"), ("What is the opposite of hot?", "cold"),
]  # fmt: skip
TASK = """task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}} Answer in one word."
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24, temperature: 0.0}
filter_list:
- {name: last word, filter: [{function: regex, regex_pattern: '(\\w+)\\W*$'}, {function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
"""
STARTED = re.compile(r"endpoint at (http://\S+)")
SAMPLE = re.compile(r'^innerloop_tokens_total\{direction="(in|out)".*\} (\S+)$', re.MULTILINE)
ASKS = """import json, sys, importlib.metadata, lm_eval
url, model, folder, out = sys.argv[1:]
how = {"model": model, "base_url": url + "/v1/chat/completions", "tokenizer_backend": None, "max_retries": 1}
found = lm_eval.simple_evaluate(
    model="local-chat-completions", model_args=how, tasks=["tiny"], apply_chat_template=True, log_samples=True,
    task_manager=lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False), bootstrap_iters=0,
)
samples = found["samples"]["tiny"]
rows = [{"question": s["doc"]["question"], "said": s["resps"][0][0], "right": s["exact_match"]} for s in samples]
json.dump({"harness": "lm-eval " + importlib.metadata.version("lm_eval"), "rows": rows}, open(out, "w"))
"""
SEED = 1234  # that lm-eval sends


def harness(folder: Path) -> Path:
    """The Python of an environment that has lm-eval; made where there is none."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import lm_eval, tenacity"], capture_output=True, check=False).returncode:
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return python


@contextmanager
def served(model: str) -> Iterator[str]:
    """The address of `innerloop serve --lm smollm2`, or another model, on loopback."""
    words = [sys.executable, "-m", "innerloop.cli", "serve", "--lm", model, "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if STARTED.search(line)), "")
        if not (found := STARTED.search(line)):
            sys.exit("the server ended before it said its address")
        yield found[1]
    finally:
        process.terminate()
        process.wait(60)


class Relay(ThreadingHTTPServer):
    """Passes requests on to the server, and keeps the body of every reply."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.url, self.replies = url, []  # type: ignore[var-annotated]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Passing(BaseHTTPRequestHandler):
    server: Relay

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = urllib.request.Request(self.server.url + self.path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as reply:
                status, said = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        self.server.replies.append((status, json.loads(said)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *words: Any) -> None:
        pass


def counted(url: str) -> dict[str, int]:
    """The tokens that the server's metrics have counted: {"in": ..., "out": ...}."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        return {direction: int(float(n)) for direction, n in SAMPLE.findall(reply.read().decode())}


def ask(python: Path, url: str, model: str) -> dict[str, Any]:
    """What lm-eval reports of the task, asked at this address with no other to be reached."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, out = folder / "items.jsonl", folder / "found.json"
        data.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ITEMS))
        (folder / "tiny.yaml").write_text(TASK % data)
        nowhere = "http://127.0.0.1:9"
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "NO_PROXY": "127.0.0.1",
            "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "OPENAI_API_KEY": "none",
        }  # fmt: skip
        subprocess.run([python, "-c", ASKS, url, model, folder, out], env=env, cwd=folder, check=True)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def checks(found: dict[str, Any], replies: list[tuple[int, Any]], total: dict[str, int]) -> dict[str, bool]:
    """What is wanted, each true or false."""
    usages = [body.get("usage", {}) for _, body in replies]
    texts = [body["choices"][0]["message"]["content"] for status, body in replies if status == 200]
    sums = [sum(u.get(name, 0) for u in usages) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    return {
        "every request was answered": [status for status, _ in replies] == [200] * len(ITEMS),
        "the harness read every answer as it was sent": sorted(r["said"] for r in found["rows"]) == sorted(texts),
        "the usage of every reply adds up": all(
            u["prompt_tokens"] > 0 and u["prompt_tokens"] + u["completion_tokens"] == u["total_tokens"] for u in usages
        ),
        "all usage is what the server counted": sums == [total["in"], total["out"], total["in"] + total["out"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--venv", type=Path, default=Path("runs/harness"), help="the environment of lm-eval")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    python = harness(args.venv.absolute())
    with served(args.model) as url, Relay(url) as relay:
        began = time.perf_counter()
        found = ask(python, f"http://127.0.0.1:{relay.server_port}", args.model)
        seconds, total, replies = time.perf_counter() - began, counted(url), relay.replies
        relay.shutdown()
    wanted = checks(found, replies, total)
    for row in found["rows"]:
        print(f"{row['question']} {row['said']!r} {'right' if row['right'] else 'wrong'}")
    for name, holds in wanted.items():
        print(f"{'yes' if holds else 'NO'}: {name}")
    usage = [body.get("usage") for _, body in replies]
    told = {"harness": found["harness"], "model": args.model, "wanted": wanted, "usage": usage, "counted": total}
    files.write_json(args.out, {"born": birth_certificate([SEED]), **told, "seconds": seconds, "rows": found["rows"]})
    sys.exit(not all(wanted.values()))


if __name__ == "__main__":
    main()
