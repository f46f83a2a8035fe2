"""Prometheus metrics: requests, latency, what waits and runs, steps, block calls, solutions, and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from innerloop.errors import InputError

try:
    import prometheus_client as prometheus
    from prometheus_client.core import GaugeMetricFamily
except ImportError:
    raise InputError("serving needs FastAPI and its companions: pip install 'innerloop[serve]'") from None

__all__ = ["Metrics"]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        here = self.registry
        counter = partial(prometheus.Counter, registry=here)
        self.requests = counter("innerloop_requests", "requests answered", ["route", "status"])
        self.seconds = prometheus.Histogram(
            "innerloop_request_seconds", "time to the end of the answer", ["route"], buckets=BUCKETS, registry=here
        )
        self.steps = counter("innerloop_steps", "steps of trajectories", ["model"])
        self.rows = counter("innerloop_rows", "rows stepped, padding included", ["model"])
        self.nfe = counter("innerloop_nfe", "block calls", ["model"])
        self.solutions = counter("innerloop_solutions", "puzzles answered", ["model", "known", "valid", "source"])
        self.tokens = counter("innerloop_tokens", "tokens of a language model", ["model", "direction"])
        self.cancelled = counter("innerloop_cancelled", "requests whose client disconnected", ["route"])
        self.streams = prometheus.Gauge("innerloop_streams", "open streams", registry=here)
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.GCCollector(registry=self.registry)

    def watch(self, workers: Any) -> None:
        """Add gauges of the workers; `workers()` is called at each scrape and yields (model, Worker)."""
        self.registry.register(WorkerGauges(workers))

    def on_step(self, model: str, calls: int) -> Any:
        """The callback of a Worker after each step of an engine, of `calls` block calls a step."""
        steps, rows, nfe = (c.labels(model) for c in (self.steps, self.rows, self.nfe))

        def tick(steps_run: int, rows_run: int) -> None:
            steps.inc(steps_run)
            rows.inc(rows_run)
            nfe.inc(steps_run * calls)

        return tick

    def count_solution(self, model: str, solution: Any) -> None:
        """Count one solution that was sent."""
        valid = "unknown" if solution.valid is None else str(solution.valid).lower()
        self.solutions.labels(model, str(solution.known).lower(), valid, solution.source).inc()

    def count_tokens(self, model: str, cost: Any) -> None:
        """Count the tokens that a request read and wrote, by its ledger."""
        self.tokens.labels(model, "in").inc(cost.tokens_in)
        self.tokens.labels(model, "out").inc(cost.tokens_out)

    def text(self) -> bytes:
        return bytes(prometheus.generate_latest(self.registry))

    @property
    def content_type(self) -> str:
        return str(prometheus.CONTENT_TYPE_LATEST)


class WorkerGauges:
    """Gauges read from the workers at scrape time."""

    def __init__(self, workers: Any) -> None:
        self.workers = workers

    def collect(self) -> Iterator[Any]:
        waiting = GaugeMetricFamily("innerloop_waiting", "trajectories or requests waiting", labels=["model"])
        live = GaugeMetricFamily("innerloop_live_rows", "trajectories or requests running", labels=["model"])
        workers: Iterable[tuple[str, Any]] = self.workers()
        for name, worker in workers:
            running = worker.live
            live.add_metric([name], running)
            waiting.add_metric([name], max(0, worker.in_flight - running))
        yield waiting
        yield live
