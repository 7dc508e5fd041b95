"""One type whose jobs take down their processes does not keep a worker's other jobs waiting.

The time from a job's dispatch to its end is compared with that of the same load without the poisonous type, in rounds
that alternate, each with a worker of its own. The 99th percentile may double. The measurement begins when the worker
has lost its first processes: it can hold back a type from then on, and until then a type costs what its jobs take.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, select
from tests.contract.worker import Site
from tests.integration.worker import poison_app

from spoke_jobs.ledger.reading.statistics import percentile
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

PROCESSES = 4
PAIRS = 5
SECONDS = 8.0
"""Of a round's dispatches."""
PER_SECOND = {0.05: 30, 0.01: 60}
"""How many quick jobs are dispatched, by how long each takes. Of 0.05 s, they keep three in eight processes busy."""
POISONOUS_PER_SECOND = 5
TIMEOUT_SECONDS = 0.5
"""Of poisonous jobs that are to end by their timeout. Others might reach it on a busy machine."""
WITHIN = 2.0
FIRST = 2
"""How many poisonous jobs run before a round."""
LEAST_SECONDS = 0.05
"""A smaller 99th percentile counts as this one: the milliseconds of a busy machine do not decide."""
OPTIONS = ("--processes", str(PROCESSES), "--job-memory", "400Mi")


class Lane(Site):
    """Workers of the lane on PostgreSQL. On SQLite, which the runner `kubernetes` refuses, those of `legacy`."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.quick_seconds = 0.05
        self.options: tuple[str, ...] = OPTIONS
        self._environment |= {"SPOKE_APP": f"{poison_app.__name__}:registry", "SPOKE_LEASE_SECONDS": "60"}
        if self.engine.dialect.name == "postgresql":
            self.runner.close()
            given = Settings(job_runner="kubernetes", submit="sync", database_url=SecretStr(url))
            self.runner = KubernetesRunner(given, poison_app.registry)  # type: ignore[assignment]
            self._environment |= {"JOB_RUNNER": "kubernetes", "SPOKE_SUBMIT": "sync"}
            self.options = (*OPTIONS, "--lane", "worker")
        else:
            self.runner.registry = poison_app.registry

    def seconds(self, jobs: list[int]) -> list[float]:
        """How long each took from its dispatch to its success; those that have not succeeded are left out."""
        columns = (job_request.c.created_at, job_request.c.finished_at)
        statement = select(*columns).where(job_request.c.id.in_(jobs), job_request.c.state == "succeeded")
        with self.engine.connect() as connection:
            return sorted((end - begin).total_seconds() for begin, end in connection.execute(statement))

    def round(self, way: str) -> tuple[float, Counter[str]]:
        """The 99th percentile of the quick jobs in seconds, and the causes of the poisonous ones.

        :param way: the cause by which the poisonous jobs end; empty: there are none.
        """
        self._environment["POISON_QUICK_SECONDS"] = str(self.quick_seconds)
        per_second = PER_SECOND[self.quick_seconds]
        bound = {"timeout_seconds": TIMEOUT_SECONDS} if way == "Timeout" else {}
        log = self.folder / "worker.log"
        before = log.stat().st_size if log.exists() else 0
        with self.worker(*self.options):
            warm = [self.dispatch("quick") for _ in range(5 * PROCESSES)]
            self.wait(lambda: len(self.seconds(warm)) == len(warm))
            quick, poisonous = [], [self.dispatch("poisonous", way, **bound) for _ in range(FIRST if way else 0)]
            self.wait(lambda: all(any(self.causes(job)) for job in poisonous))
            if way:  # a timeout is recorded before the process is gone
                self.wait(lambda: b"held back" in log.read_bytes()[before:])
            began = time.monotonic()
            for number in range(round(per_second * SECONDS)):
                time.sleep(max(0.0, began + number / per_second - time.monotonic()))
                quick.append(self.dispatch("also_quick" if number % 2 else "quick"))
                if way and number % (per_second // POISONOUS_PER_SECOND) == 0:
                    poisonous.append(self.dispatch("poisonous", way, **bound))
            self.wait(lambda: len(self.seconds(quick)) == len(quick))
            took = self.seconds(quick)
        causes = Counter(cause for job in poisonous for cause in self.causes(job))
        with self.engine.begin() as connection:  # the next round's worker takes none of them
            connection.execute(delete(job_request).where(job_request.c.job_type == "poisonous"))
        return percentile(took, 0.99), causes


@pytest.fixture
def lane(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lane]:
    name = {"sqlite": "sqlite_ledger_url", "postgresql": "postgres_ledger_url"}[request.param]
    made = Lane(request.getfixturevalue(name), tmp_path)
    yield made
    made.close()


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("lane", "way", "quick_seconds"),
    [
        ("postgresql", "Killed", 0.01),
        ("postgresql", "OutOfMemory", 0.05),
        ("sqlite", "Timeout", 0.05),
    ],
    indirect=["lane"],
)
def test_the_other_types_take_at_most_twice_as_long(lane: Lane, way: str, quick_seconds: float) -> None:
    lane.quick_seconds = quick_seconds
    without: list[float] = []
    beside: list[float] = []
    causes = Counter[str]()
    for pair in range(PAIRS):
        for poisoned in (False, True) if pair % 2 else (True, False):
            p99, found = lane.round(way if poisoned else "")
            (beside if poisoned else without).append(p99)
            causes += found
    figures = [[round(1000 * one) for one in group] for group in (beside, without)]
    print(f"\n{way}: p99 {figures[0]} ms beside {causes.total()} such jobs, {figures[1]} ms without")
    assert causes[way] >= PAIRS, f"some have run: {causes}"
    assert median(beside) <= WITHIN * max(median(without), LEAST_SECONDS)
