"""One system's measurements: latency first, on an idle worker; then dispatching without one, and working that off."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.ledger.catalogue import Store
from tests.bench.ledger.jobs import GATE_SECONDS
from tests.bench.ledger.marks import Marks
from tests.bench.ledger.processes import BenchError, Running, answer_of, running
from tests.bench.ledger.services import Postgres, Redis
from tests.bench.tasks import usage
from tests.bench.tasks.catalogue import System
from tests.bench.tasks.client import Order
from tests.bench.tasks.settings import Settings

DATABASE = "spoke_bench_tasks"
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of one kind of task."""

    dispatched_per_s: float
    executed_per_s: float
    cpu_s_per_10k: float
    """Of dispatcher, worker and store, over dispatching and working off."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where systems are measured."""

    settings: Settings
    postgres: Postgres
    redis: Redis
    folder: Path
    """For marks and workers' output."""

    def install(self, system: System) -> None:
        """Make a system's tables, in a database that its others are copies of."""
        if system.store is Store.POSTGRES:
            self.postgres.create(DATABASE)
            answer_of(system.install, self._environment(system))
            self.postgres.create(template(system), DATABASE)

    def latencies(self, system: System, tasks_ms: Sequence[int], round_number: int) -> dict[int, list[float]]:
        """Call to end of each kind of task, in milliseconds, at a modest rate."""
        settings = self.settings
        each = settings.concurrency + round(settings.rate * settings.latency_seconds)
        order = Order(
            system.client,
            "pace",
            tuple(tasks_ms),
            each,
            settings.concurrency,
            settings.latency_seconds,
            settings.seed * 1000 + round_number,
        )
        with self._emptied(system), self._worker(system) as worker:
            Marks.create(self._marks, self._gates(system) + each * len(tasks_ms))
            with self._client(system, order) as (_, answer):
                worker.must_run()
                return dict(zip(tasks_ms, json.loads(answer)["latencies_ms"], strict=True))

    def throughput(self, system: System, task_ms: int) -> Throughput:
        """Tasks dispatched a second, executed a second, and what that took of the processor."""
        settings = self.settings
        order = Order(
            system.client, "fill", (task_ms,), settings.tasks, settings.concurrency, settings.dispatch_seconds
        )
        with self._emptied(system):
            marks = Marks.create(self._marks, self._gates(system) + settings.tasks)
            store = self._store_seconds(system)
            with self._client(system, order) as (client, answer):
                filled = json.loads(answer)
                if system.store is Store.POSTGRES:
                    self.postgres.vacuum(DATABASE)
                dispatching = usage.session_seconds(client) + self._store_seconds(system) - store
                count = int(filled["tasks"])
                executed, working, done = self._work_off(system, client, marks, count)
                cpu = dispatching / count + working / done
                return Throughput(filled["per_second"], executed, cpu * 10_000)

    def _work_off(self, system: System, client: int, marks: Marks, count: int) -> tuple[float, float, int]:
        """From the moment when the worker is there in full: tasks a second, seconds of processor, tasks done."""
        gates = range(self._gates(system))
        rest = range(len(gates), len(gates) + count)
        first = gates or rest[:1]
        with self._worker(system) as worker:
            give_up_at = time.monotonic() + _START_SECONDS
            while len(marks.begins(first)) < len(first):
                time.sleep(_LOOK_SECONDS / 4)
                worker.must_run()
                if time.monotonic() > give_up_at:
                    raise worker.failure(f"did not run {len(first)} tasks at once within {_START_SECONDS:g} s")
            took = self._seconds(system, client, worker)
            released = max(marks.begins(first))
            if released - min(marks.begins(first)) > GATE_SECONDS:
                raise worker.failure(f"took over {GATE_SECONDS:g} s to run {len(gates)} tasks at once")
            until = released + self.settings.execute_seconds
            while len(marks.ends(rest)) < count and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
            took = self._seconds(system, client, worker) - took
            worker.must_run()
            ends = [end for end in marks.ends(rest) if end <= until]
            if not ends:
                raise worker.failure(f"ended no task within {self.settings.execute_seconds:g} s")
            return len(ends) / (max(ends) - released), took, len(ends)

    def _gates(self, system: System) -> int:
        return self.settings.concurrency if system.gates else 0

    def _seconds(self, system: System, client: int, worker: Running) -> float:
        return usage.session_seconds(client) + usage.session_seconds(worker.pid) + self._store_seconds(system)

    def _store_seconds(self, system: System) -> float:
        if system.store is None:
            return 0.0
        if system.store is Store.POSTGRES:
            pid = usage.pid_of("postgres", lambda words: "54329" in words or "-D" in words)
        else:
            port = self.settings.redis.rpartition(":")[2].partition("/")[0]
            pid = usage.pid_of("redis-server", lambda words: port in words)
        if pid is None:
            raise BenchError(f"the process of {system.store.value} isn't to be found")
        return usage.tree_seconds(pid)

    @contextmanager
    def _emptied(self, system: System) -> Iterator[None]:
        if system.store is None:
            yield
        elif system.store is Store.POSTGRES:
            self.postgres.create(DATABASE, template(system))
            yield
        else:
            self.redis.prepare(system.store)
            yield
            self.redis.prepare(Store.REDIS_OFF)

    @contextmanager
    def _worker(self, system: System) -> Iterator[Running]:
        environment = self._environment(system) | dict(system.worker_environment)
        with running(system.worker, environment, self.folder / "worker.log") as worker:
            yield worker

    @contextmanager
    def _client(self, system: System, order: Order) -> Iterator[tuple[int, str]]:
        """A client that has done as ordered, until the block's end: its process, and its answer."""
        log = self.folder / "client.log"
        command = [system.python, "-m", "tests.bench.tasks.client", json.dumps(asdict(order))]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                env=self._environment(system),
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
                said = log.read_text(errors="replace")[-3000:] + self._worker_log()
                raise BenchError(f"{system.name}'s dispatcher ended with {process.wait()}:\n{said}")
            yield process.pid, answer
        finally:
            process.kill()  # what it may still hold is nobody's
            process.communicate()

    def _worker_log(self) -> str:
        log = self.folder / "worker.log"
        return f"\n\nwhat the worker printed last:\n{log.read_text(errors='replace')[-3000:]}" if log.exists() else ""

    def _environment(self, system: System) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.settings.repository),
            "BENCH_DATABASE": self.postgres.url(DATABASE),
            "BENCH_REDIS": self.settings.redis,
            "BENCH_MARKS": str(self._marks),
            "BENCH_CONCURRENCY": str(self.settings.concurrency if system.gates else 0),  # so many gates, too
            **system.environment,
        }

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"


def template(system: System) -> str:
    """The database that :meth:`Bench.install` leaves."""
    return f"{DATABASE}_{system.package.replace('-', '_')}"
