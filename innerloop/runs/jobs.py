"""Several trainings at once: commands in processes of their own, here or on a Ray cluster; none takes another down.

    outcomes = run_jobs([Job("seed0", words, log), ...], Workers(2))

A job is a command line of innerloop. What it prints goes into its log file. A process that is killed, or whose command
fails, ends with its code; the others go on.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from innerloop import files
from innerloop.errors import InputError
from innerloop.runs.certificate import COMMAND_VARIABLE, typed_command
from innerloop.text import printable

__all__ = ["Job", "Workers", "failure", "run_jobs", "workers_of"]

GRACE_SECONDS = 60.0  # that an interrupted job has for its last checkpoint
POLL_SECONDS = 0.1
LAST_BYTES = 4000  # of a log, in which a failed job's message is looked for
INTERRUPTED = 130


class Job(NamedTuple):
    name: str
    words: tuple[str, ...]  # of the command line, after "innerloop"
    log: Path  # file that takes what it prints


class Workers(NamedTuple):
    """Who runs the jobs: so many processes at once, of `threads` threads each, or a Ray cluster."""

    processes: int
    threads: int
    gpus: int = 0  # GPUs here, which the processes share out; of Ray: GPUs a job asks for
    ray: str = ""  # address of the cluster: "auto", or ray://HOST:PORT


Report = Callable[[Job, "int | None"], None]  # called with None when a job begins, and with its exit code


def workers_of(choice: str, jobs: int, device: str) -> Workers:
    """--workers: "auto", a number, "ray" or "ray://HOST:PORT". Auto is one a core on a CPU, and one a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if choice == "ray" or choice.startswith("ray://"):
        return Workers(jobs, 1, int(bool(gpus)), "auto" if choice == "ray" else choice)
    if choice != "auto" and not (re.fullmatch(r"[0-9]{1,4}", choice) and int(choice)):
        raise InputError(f'--workers is "{printable(choice, 60)}": use auto, a number of processes, or ray')
    count = min(jobs, int(choice) if choice != "auto" else gpus or cores)
    own = os.environ.get("OMP_NUM_THREADS", "")
    return Workers(count, int(own) if re.fullmatch(r"[1-9][0-9]{0,3}", own) else max(1, cores // count), gpus)


def run_jobs(jobs: Sequence[Job], workers: Workers, report: Report, wait: Callable[[], object] = bool) -> list[int]:
    """Run all jobs; returns their exit codes, in order. `wait` is called while they run.

    On KeyboardInterrupt every job is interrupted as well, which keeps its last checkpoint; it is raised again then.
    """
    if workers.ray:
        return run_on_ray(jobs, workers, report, wait)
    waiting, free, codes = list(range(len(jobs))), list(range(workers.processes)), [INTERRUPTED] * len(jobs)
    running: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                index, slot = waiting.pop(0), free.pop(0)
                report(jobs[index], None)
                running[index] = begin(jobs[index], job_environment(workers, slot)), slot
            time.sleep(POLL_SECONDS)
            wait()
            for index, (process, slot) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[index]
                    free.append(slot)
                    codes[index] = code
                    report(jobs[index], code)
    finally:
        for process, _ in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        end_all([process for process, _ in running.values()])
    return codes


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for interrupted processes; those that still run after GRACE_SECONDS are killed."""
    end = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def begin(job: Job, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a job. It has a session of its own, so that Ctrl-C in a terminal reaches it once: through run_jobs."""
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("wb") as log:
            command = [sys.executable, "-m", "innerloop.cli", *job.words]
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise files.unwritable(job.log, error) from None


def job_environment(workers: Workers, slot: int) -> dict[str, str]:
    """The environment of a process: the command it serves, threads, GPU, and this package where it is not installed."""
    environment = os.environ | {"OMP_NUM_THREADS": str(workers.threads), COMMAND_VARIABLE: typed_command()}
    home = Path(__file__).parents[2]
    if home.name not in ("site-packages", "dist-packages"):  # those are found anyway, behind Python's own modules
        paths = [str(home), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if workers.gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = visible.split(",") if visible else [str(i) for i in range(workers.gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    return environment


def failure(job: Job) -> str:
    """The last thing that a failed job said."""
    try:
        with job.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - LAST_BYTES))
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    wrong = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    return printable((wrong or lines or [""])[-1].removeprefix("error: ").strip())


# -- Ray --------------------------------------------------------------------------------------------------------------


def run_on_ray(jobs: Sequence[Job], workers: Workers, report: Report, wait: Callable[[], object]) -> list[int]:
    """The same on a Ray cluster whose machines see this folder, and have innerloop installed."""
    try:
        import ray
    except ImportError:
        raise InputError("--workers ray needs Ray: pip install 'innerloop[scale]'") from None
    try:
        ray.init(address=workers.ray, ignore_reinit_error=True, log_to_driver=False)
    except Exception as error:  # Ray raises a kind of its own for every way to find no cluster
        raise InputError(f"no Ray cluster at {workers.ray} ({printable(files.reason(error))}): ray start") from None
    call: Any = ray.remote(num_cpus=workers.threads, num_gpus=workers.gpus, max_retries=0)(run_there)
    here = os.getcwd()
    ids = {call.remote(job.words, str(job.log.absolute()), here, typed_command()): i for i, job in enumerate(jobs)}
    for job in jobs:
        report(job, None)
    codes, left = [INTERRUPTED] * len(jobs), list(ids)
    try:
        while left:
            done, left = ray.wait(left, timeout=POLL_SECONDS)
            wait()
            for one in done:
                try:
                    codes[ids[one]] = ray.get(one)
                except ray.exceptions.RayError:  # the machine is gone
                    codes[ids[one]] = 1
                report(jobs[ids[one]], codes[ids[one]])
    finally:
        for one in left:
            ray.cancel(one)
    return codes


def run_there(words: Sequence[str], log: str, folder: str, typed: str) -> int:
    """Run one command in a Ray worker, for the command `typed`; returns its exit code."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        command = [sys.executable, "-m", "innerloop.cli", *words]
        environment = os.environ | {COMMAND_VARIABLE: typed}
        return subprocess.run(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
