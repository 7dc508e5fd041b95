"""One system's measurements: latency first, on an idle worker; then enqueueing without one, and working that off."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.bench.ledger.settings import Settings
from tests.bench.lib.orders import Filled, Order, Paced, text_of
from tests.bench.lib.place import Place
from tests.bench.lib.processes import BenchError, Running, answer_of
from tests.bench.lib.system import System


def latencies(
    place: Place, settings: Settings, system: System, jobs_ms: Sequence[int], round_number: int
) -> dict[int, list[float]]:
    """Commit to start of each kind of job, in milliseconds, at a modest rate."""
    each = settings.concurrency + round(settings.rate * settings.latency_seconds)
    seed = settings.seed * 1000 + round_number
    order = Order(system.client, "pace", tuple(jobs_ms), each, settings.concurrency, settings.latency_seconds, seed)
    with place.emptied(system), place.worker(system) as worker:
        place.marks(system, each * len(jobs_ms))
        answer = _answer(place, system, order, worker)
        return dict(zip(jobs_ms, Paced(**json.loads(answer)).latencies_ms, strict=True))


def throughput(place: Place, settings: Settings, system: System, job_ms: int) -> tuple[float, float]:
    """Jobs enqueued a second, and jobs executed a second."""
    order = Order(system.client, "fill", (job_ms,), settings.backlog, settings.concurrency, settings.enqueue_seconds)
    with place.emptied(system):
        marks = place.marks(system, settings.backlog)
        filled = Filled(**json.loads(_answer(place, system, order)))
        place.settle(system)
        return filled.per_second, place.work_off(system, marks, filled.jobs).per_second


def _answer(place: Place, system: System, order: Order, worker: Running | None = None) -> str:
    command = [system.python, "-m", "tests.bench.ledger.client", text_of(order)]
    if worker is None:
        return answer_of(command, place.environment(system))
    try:
        return answer_of(command, place.environment(system), worker.must_run)
    except BenchError as error:
        raise worker.failure(f"was running, and {error}\n\nwhat the worker printed last") from None
