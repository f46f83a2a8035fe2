"""A run on more than one machine, by Ray Serve: every replica has the model, and batches what reaches it.

    pip install 'innerloop[serve,scale]'
    python examples/ray_serve.py demo-sudoku4 --replicas 4
    curl -d '{"puzzle": "1.3.34.2.1.34.2."}' http://127.0.0.1:8000/

Ray spreads the replicas over the machines of its cluster (`ray start`) and requests over the replicas; the run's folder
must be at the same path on each machine. A request is that of /solve (docs/serving.md), and so is the answer.
"""

import argparse
import asyncio
import time

from pydantic import ValidationError
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from innerloop.cli.inputs import open_run
from innerloop.errors import InputError
from innerloop.serve.body import parse
from innerloop.serve.models import Limits, Registry
from innerloop.serve.schema import SolveRequest
from innerloop.serve.worker import QueueFull, thread_safe_future


@serve.deployment(max_ongoing_requests=256, graceful_shutdown_timeout_s=40)
class Puzzles:
    """One replica: a model, and the thread in which it thinks."""

    def __init__(self, run: str) -> None:
        self.served = Registry(open_run, Limits()).add(f"model={run}")

    async def __call__(self, request: Request) -> Response:
        done, complete = thread_safe_future()
        try:
            body = SolveRequest.model_validate(parse(await request.body(), 1))
            work = self.served.make_work([body.puzzle], body, None, complete)
            self.served.worker.submit(work)  # from here on it shares its steps with whoever else asks
        except ValidationError as error:
            return JSONResponse({"error": error.errors()[0]["msg"]}, 422)
        except QueueFull as error:
            return JSONResponse({"error": str(error)}, 429, {"Retry-After": "1"})
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        try:
            await done
        except asyncio.CancelledError:  # whoever body has hung up
            self.served.worker.cancel(work)
            raise
        if work.error is not None:
            raise work.error
        return JSONResponse(self.served.solution_body(work.solutions[0], work.puzzles[0].question).model_dump())

    def check_health(self) -> None:
        """Ray asks this now and then, and starts a replica anew that raises."""
        if not self.served.worker.thread.is_alive():
            raise RuntimeError("the model's thread has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    serve.start(http_options={"host": "127.0.0.1", "port": args.port})
    serve.run(Puzzles.options(num_replicas=args.replicas).bind(args.run))
    print(f"{args.replicas} replicas of {args.run} at http://127.0.0.1:{args.port}; Ctrl-C ends them", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        serve.shutdown()


if __name__ == "__main__":
    main()
