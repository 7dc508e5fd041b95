"""One system's measurements: latency first, on an idle worker; then dispatching without one, and working that off."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench.lib.orders import Filled, Order, Paced, text_of
from tests.bench.lib.place import Place
from tests.bench.lib.processes import BenchError, Running, tail
from tests.bench.lib.system import Store, System
from tests.bench.tasks import usage
from tests.bench.tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of one kind of task."""

    dispatched_per_s: float
    executed_per_s: float
    cpu_s_per_10k: float
    """Of dispatcher, worker and store, over dispatching and working off."""


def latencies(
    place: Place, settings: Settings, system: System, tasks_ms: Sequence[int], round_number: int
) -> dict[int, list[float]]:
    """Call to end of each kind of task, in milliseconds, at a modest rate."""
    each = settings.concurrency + round(settings.rate * settings.latency_seconds)
    seed = settings.seed * 1000 + round_number
    order = Order(system.client, "pace", tuple(tasks_ms), each, settings.concurrency, settings.latency_seconds, seed)
    with place.emptied(system), place.worker(system) as worker:
        place.marks(system, each * len(tasks_ms))
        with _client(place, system, order) as (_, answer):
            worker.must_run()
            return dict(zip(tasks_ms, Paced(**json.loads(answer)).latencies_ms, strict=True))


def throughput(place: Place, settings: Settings, system: System, task_ms: int) -> Throughput:
    """Tasks dispatched a second, executed a second, and what that took of the processor."""
    order = Order(system.client, "fill", (task_ms,), settings.tasks, settings.concurrency, settings.dispatch_seconds)
    with place.emptied(system):
        marks = place.marks(system, settings.tasks)
        store = _store_seconds(system, settings)
        with _client(place, system, order) as (client, answer):
            filled = Filled(**json.loads(answer))
            place.settle(system)

            def spent(worker: Running | None = None) -> float:
                others = usage.session_seconds(client) + _store_seconds(system, settings)
                return others if worker is None else others + usage.session_seconds(worker.pid)

            dispatching = spent() - store
            worked = place.work_off(system, marks, filled.jobs, spent)
            cpu = dispatching / filled.jobs + worked.cost / worked.jobs
            return Throughput(filled.per_second, worked.per_second, cpu * 10_000)


def _store_seconds(system: System, settings: Settings) -> float:
    if system.store is None:
        return 0.0
    if system.store is Store.POSTGRES:
        # As scripts/postgres starts it; another one on this machine is another's.
        pid = usage.pid_of("postgres", lambda words: f"port={urlsplit(settings.postgres).port}" in words.split())
    else:
        port = settings.redis.rpartition(":")[2].partition("/")[0]
        pid = usage.pid_of("redis-server", lambda words: port in words)
    if pid is None:
        raise BenchError(f"the process of {system.store.value} isn't to be found")
    return usage.tree_seconds(pid)


@contextmanager
def _client(place: Place, system: System, order: Order) -> Iterator[tuple[int, str]]:
    """A client that has done as ordered, until the block's end: its process, and its answer."""
    log = place.folder / "client.log"
    command = [system.python, "-m", "tests.bench.tasks.client", text_of(order)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            env=place.environment(system),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        answer = process.stdout.readline()
        if not answer:
            said = tail(log.read_text(errors="replace")) + _workers_last_words(place)
            raise BenchError(f"{system.name}'s dispatcher ended with {process.wait()}:\n{said}")
        yield process.pid, answer
    finally:
        process.kill()  # what it may still hold is nobody's
        process.communicate()


def _workers_last_words(place: Place) -> str:
    log = place.worker_log
    return f"\n\nwhat the worker printed last:\n{tail(log.read_text(errors='replace'))}" if log.exists() else ""
