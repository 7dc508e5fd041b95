"""Where systems are measured: an empty store each time, an environment, a worker that works a backlog off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lib.jobs import GATE_SECONDS
from tests.bench.lib.marks import Marks
from tests.bench.lib.processes import Running, answer_of, running
from tests.bench.lib.services import Postgres, Redis
from tests.bench.lib.settings import REPOSITORY, Settings
from tests.bench.lib.system import Store, System

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class WorkedOff:
    """What a worker did with a backlog."""

    jobs: int
    per_second: float
    cost: float
    """What was spent meanwhile, in the measure that was asked for."""


@dataclass(frozen=True, slots=True)
class Place:
    """The servers, and a folder."""

    settings: Settings
    postgres: Postgres
    redis: Redis
    folder: Path
    """For marks and workers' output."""
    database: str
    """What every PostgreSQL system works in, one after the other."""

    def install(self, system: System) -> None:
        """Make a system's tables, in a database that its others are copies of."""
        if system.store is Store.POSTGRES:
            self.postgres.create(self.database)
            answer_of(system.install, self.environment(system))
            self.postgres.create(self._template(system), self.database)

    def clear(self, systems: Iterable[System]) -> None:
        """Remove what was made for these systems."""
        templates = {self._template(system) for system in systems if system.store is Store.POSTGRES}
        self.postgres.drop(self.database, *templates)
        self.redis.prepare(Store.REDIS_OFF)

    @contextmanager
    def emptied(self, system: System) -> Iterator[None]:
        """A store without a job, for as long as the block takes."""
        if system.store is None:
            yield
        elif system.store is Store.POSTGRES:
            self.postgres.create(self.database, self._template(system))
            yield
        else:
            self.redis.prepare(system.store)
            yield
            self.redis.prepare(Store.REDIS_OFF)

    def settle(self, system: System) -> None:
        """See to a store that has just been filled."""
        if system.store is Store.POSTGRES:
            self.postgres.vacuum(self.database)

    def marks(self, system: System, jobs: int) -> Marks:
        """A new file, for the gates and so many jobs."""
        return Marks.create(self._marks, len(self.gates(system)) + jobs)

    def gates(self, system: System) -> range:
        """The numbers of a system's gates."""
        return range(self.settings.concurrency if system.gates else 0)

    def worker(self, system: System) -> AbstractContextManager[Running]:
        """A worker, until the block's end."""
        environment = self.environment(system) | dict(system.worker_environment)
        return running(system.worker, environment, self.worker_log)

    def work_off(
        self, system: System, marks: Marks, backlog: int, spent: Callable[[Running], float] = lambda _worker: 0.0
    ) -> WorkedOff:
        """From the moment when the worker is there in full until its last job, or until time is up.

        :param spent: what has been spent so far, in any measure.
        :raises BenchError: if the worker doesn't come, or does nothing.
        """
        gates = self.gates(system)
        rest = range(len(gates), len(gates) + backlog)
        first = gates or rest[:1]
        with self.worker(system) as worker:
            give_up_at = time.monotonic() + _START_SECONDS
            while len(marks.begins(first)) < len(first):
                time.sleep(_LOOK_SECONDS / 4)
                worker.must_run()
                if time.monotonic() > give_up_at:
                    raise worker.failure(f"did not run {len(first)} jobs at once within {_START_SECONDS:g} s")
            cost = spent(worker)
            released = max(marks.begins(first))
            if released - min(marks.begins(first)) > GATE_SECONDS:
                raise worker.failure(f"took over {GATE_SECONDS:g} s to run {len(gates)} jobs at once")
            until = released + self.settings.execute_seconds
            while len(marks.ends(rest)) < backlog and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
            cost = spent(worker) - cost
            worker.must_run()
            ends = [end for end in marks.ends(rest) if end <= until]
            if not ends:
                raise worker.failure(f"ended no job within {self.settings.execute_seconds:g} s")
            return WorkedOff(len(ends), len(ends) / (max(ends) - released), cost)

    def environment(self, system: System) -> dict[str, str]:
        """Of a system's client and worker."""
        return {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "BENCH_DATABASE": self.postgres.url(self.database),
            "BENCH_REDIS": self.settings.redis,
            "BENCH_MARKS": str(self._marks),
            "BENCH_CONCURRENCY": str(len(self.gates(system))),  # so many gates, too
            **system.environment,
        }

    @property
    def worker_log(self) -> Path:
        """What the last worker printed."""
        return self.folder / "worker.log"

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    def _template(self, system: System) -> str:
        return f"{self.database}_{system.package.replace('-', '_')}"
