"""One system's measurements: latency first, on an idle worker; then enqueueing without one, and working that off."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.bench.ledger.catalogue import Store, System
from tests.bench.ledger.client import Filled, Order, Paced
from tests.bench.ledger.jobs import GATE_SECONDS
from tests.bench.ledger.marks import Marks
from tests.bench.ledger.processes import BenchError, Running, answer_of, running
from tests.bench.ledger.services import Postgres, Redis
from tests.bench.ledger.settings import Settings

DATABASE = "spoke_bench"
"""What every PostgreSQL system works in, one after the other."""
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.02


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
            self.postgres.create(_template(system), DATABASE)

    def latencies(self, system: System, jobs_ms: Sequence[int], round_number: int) -> dict[int, list[float]]:
        """Commit to start of each kind of job, in milliseconds, at a modest rate."""
        settings = self.settings
        each = settings.concurrency + round(settings.rate * settings.latency_seconds)
        with self._emptied(system), running(system.worker, self._environment(system), self._log) as worker:
            Marks.create(self._marks, settings.concurrency + each * len(jobs_ms))
            seed = settings.seed * 1000 + round_number
            answer = self._client(system, "pace", jobs_ms, each, settings.latency_seconds, seed, worker)
            return dict(zip(jobs_ms, Paced(**json.loads(answer)).latencies_ms, strict=True))

    def throughput(self, system: System, job_ms: int) -> tuple[float, float]:
        """Jobs enqueued a second, and jobs executed a second."""
        settings = self.settings
        with self._emptied(system):
            marks = Marks.create(self._marks, settings.concurrency + settings.backlog)
            answer = self._client(system, "fill", [job_ms], settings.backlog, settings.enqueue_seconds)
            filled = Filled(**json.loads(answer))
            if system.store is Store.POSTGRES:
                self.postgres.vacuum(DATABASE)
            return filled.per_second, self._work_off(system, marks, filled.jobs)

    def _work_off(self, system: System, marks: Marks, backlog: int) -> float:
        """From the moment when the worker is there in full until its last job, or until time is up."""
        gates = range(self.settings.concurrency)
        rest = range(len(gates), len(gates) + backlog)
        with running(system.worker, self._environment(system), self._log) as worker:
            give_up_at = time.monotonic() + _START_SECONDS
            while len(marks.begins(gates)) < len(gates):
                time.sleep(_LOOK_SECONDS)
                worker.must_run()
                if time.monotonic() > give_up_at:
                    raise worker.failure(f"did not run {len(gates)} jobs at once within {_START_SECONDS:g} s")
            released = max(marks.begins(gates))
            if released - min(marks.begins(gates)) > GATE_SECONDS:
                raise worker.failure(f"took over {GATE_SECONDS:g} s to run {len(gates)} jobs at once")
            until = released + self.settings.execute_seconds
            while len(marks.ends(rest)) < backlog and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
            worker.must_run()
            ends = [end for end in marks.ends(rest) if end <= until]
            if not ends:
                raise worker.failure(f"ended no job within {self.settings.execute_seconds:g} s")
            return len(ends) / (max(ends) - released)

    @contextmanager
    def _emptied(self, system: System) -> Iterator[None]:
        if system.store is Store.POSTGRES:
            self.postgres.create(DATABASE, _template(system))
            yield
        else:
            self.redis.prepare(system.store)
            yield
            self.redis.prepare(Store.REDIS_OFF)

    def _client(
        self,
        system: System,
        action: Literal["fill", "pace"],
        jobs_ms: Sequence[int],
        jobs: int,
        seconds: float,
        seed: int = 0,
        worker: Running | None = None,
    ) -> str:
        order = Order(system.client, action, tuple(jobs_ms), jobs, self.settings.concurrency, seconds, seed)
        command = [system.python, "-m", "tests.bench.ledger.client", json.dumps(asdict(order))]
        if worker is None:
            return answer_of(command, self._environment(system))
        try:
            return answer_of(command, self._environment(system), worker.must_run)
        except BenchError as error:
            raise worker.failure(f"was running, and {error}\n\nwhat the worker printed last") from None

    def _environment(self, system: System) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.settings.repository),
            "BENCH_DATABASE": self.postgres.url(DATABASE),
            "BENCH_REDIS": self.settings.redis,
            "BENCH_MARKS": str(self._marks),
            "BENCH_CONCURRENCY": str(self.settings.concurrency),
            **system.environment,
        }

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    @property
    def _log(self) -> Path:
        return self.folder / "worker.log"


def templates(systems: Iterable[System]) -> set[str]:
    """The databases that :meth:`Bench.install` leaves."""
    return {_template(system) for system in systems if system.store is Store.POSTGRES}


def _template(system: System) -> str:
    return f"{DATABASE}_{system.package.replace('-', '_')}"
