"""What `dispatch_task` costs its caller, while the delivery is active: microseconds a call, without a session.

`python -m tests.bench.tasks.dispatch [SECONDS]` prints one JSON object; `make bench-tasks` takes its figures from here.
Calls come at a rate that one server keeps up with: it is the caller's time that is measured, not how fast a loop fills
the buffer. Twenty at a time, as a campaign's messages are sent; and each alone after a rest, in which others have had
the processor and its caches.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from tests.integration.tasks.support.servers import KEY, REPOSITORY, task_server

from spoke_jobs import Registry, TaskContext
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

RATE = 1_000
"""Calls a second of the small payload; of the large one, a tenth."""
RUN = 20
"""How many come at a time."""
registry = Registry()


class Message(BaseModel):
    """200 bytes as JSON, or 100,000."""

    campaign_id: int
    contact_id: int
    to: str
    body: str


@registry.task("message", payload=Message)
def message(ctx: TaskContext, payload: Message) -> None:
    """Nothing."""


def main() -> None:
    """Measure both."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    print(json.dumps(measured(seconds)))


def measured(seconds: float) -> dict[str, float]:
    """The figures, by name."""
    with tempfile.TemporaryDirectory() as folder:
        app = {"SPOKE_APP": f"{__spec__.name if __spec__ else __name__}:registry", "PYTHONPATH": str(REPOSITORY)}
        with task_server(Path(folder), **app) as server:  # type: ignore[arg-type]
            runner = KubernetesRunner(
                Settings(
                    database_url=SecretStr("postgresql://not-used"),
                    submit="sync",
                    tasks_url=server.url,
                    tasks_key=SecretStr(KEY),
                ),
                registry,
            )
            small, large = _payload(200), _payload(100_000)
            _calls(runner, small, RATE, 1.0, RUN)
            found = {
                **_shown("dispatch_us", _calls(runner, small, RATE, seconds, RUN)),
                **_shown("dispatch_100kb_us", _calls(runner, large, RATE / 10, seconds, RUN)),
                **_shown("dispatch_alone_us", _calls(runner, small, RATE, seconds, 1)),
                **_shown("dispatch_alone_100kb_us", _calls(runner, large, RATE / 10, seconds, 1)),
            }
            runner.close(30)
            return found


def _payload(size: int) -> Message:
    empty = Message(campaign_id=12, contact_id=345_678, to="+15550001234", body="")
    return empty.model_copy(update={"body": "x" * (size - len(empty.model_dump_json()))})


def _calls(runner: Any, payload: Message, rate: float, seconds: float, at_a_time: int) -> list[float]:
    """Microseconds of each call."""
    taken = []
    begin = time.perf_counter()
    gc.collect()
    for number in range(round(rate * seconds)):
        while number % at_a_time == 0 and (wait := begin + number / rate - time.perf_counter()) > 0:
            time.sleep(wait)
        before = time.perf_counter_ns()
        runner.dispatch_task("message", payload)
        taken.append((time.perf_counter_ns() - before) / 1000)
    return taken


def _shown(name: str, taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=100)
    return {f"{name}_p50": round(statistics.median(taken), 1), f"{name}_p99": round(cuts[98], 1)}


if __name__ == "__main__":
    main()
