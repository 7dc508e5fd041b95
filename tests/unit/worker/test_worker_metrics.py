"""What a worker counts of the attempts that it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.ledger import LEASE
from tests.metric_scenes import FakeReads
from tests.unit.sync.making import job

from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.reading.failed_jobs import FailedJobs
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts
from spoke_jobs.limits.admission import LimitFigures
from spoke_jobs.model import Claim, JobRequest
from spoke_jobs.worker import worker_endpoint
from spoke_jobs.worker.worker_endpoint import FailureCounter
from spoke_jobs.worker.worker_metrics import WorkerMetrics, claimed_attempt

DUE = datetime(2026, 1, 1, 12, tzinfo=UTC)


def claim(number: int = 1, due_at: datetime | None = DUE, **changes: object) -> Claim:
    row: JobRequest = job(**{"started_at": DUE + timedelta(seconds=3), "runner": "legacy"} | changes)
    return Claim(row, number, uuid4(), LEASE, due_at=due_at)


def test_a_first_attempt_has_waited_since_its_job_was_due() -> None:
    assert claimed_attempt(claim()).wait_seconds == 3


@pytest.mark.parametrize("later", [claim(2), claim(run=2), claim(due_at=None)], ids=["retry", "run", "taken over"])
def test_a_later_attempt_has_not_waited_for_the_job_s_start(later: Claim) -> None:
    assert claimed_attempt(later).wait_seconds is None


@pytest.mark.parametrize(("runner", "lane"), [("legacy", ""), (LANE_RUNNER, "worker")])
def test_the_lane_is_that_of_the_row(runner: str, lane: str) -> None:
    assert claimed_attempt(claim(runner=runner)).lane == lane


@pytest.mark.parametrize("code", ExitCode)
def test_only_attempts_that_ran_to_an_end_are_counted(code: ExitCode) -> None:
    metrics = WorkerMetrics()
    metrics.ran(claimed_attempt(claim()), code, 2.0)
    metrics.ran(None, code, 2.0)
    ended = {ExitCode.DONE: 0, ExitCode.FAILED: 1, ExitCode.FAILED_FOR_GOOD: 1}
    assert list(metrics.attempts.figures().failed.values()) == ([ended[code]] if code in ended else [])


def test_what_a_child_reports_of_a_trace_is_an_exemplar() -> None:
    metrics = WorkerMetrics()
    metrics.ran(claimed_attempt(claim()), ExitCode.DONE, 2.0, "a" * 32)
    figures = metrics.attempts.figures()
    (wait,) = [found for waits in figures.waits.values() for found in waits.exemplars.values()]
    (run,) = [found for runs in figures.runs.values() for found in runs.exemplars.values()]
    assert (wait[:2], run[:2]) == (("a" * 32, 3.0), ("a" * 32, 2.0))


def scrape(reads: FakeReads) -> dict[str, dict[tuple[str, ...], float]]:
    body = worker_endpoint.exposition(WorkerMetrics(), reads).text
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(body)
    }


def test_limits_are_shown_with_their_use_and_pauses_with_who_made_them() -> None:
    found = scrape(FakeReads())
    assert found["spoke_worker_limit"] == {("queue:mail",): 2}
    assert found["spoke_worker_limit_used"] == {("queue:mail",): 1}
    assert found["spoke_worker_paused"] == {("sam", "queue:slow"): 1}
    assert found["spoke_worker_database_connections"] == {("used",): 1, ("idle",): 2}


def test_ends_are_there_before_they_happen() -> None:
    assert scrape(FakeReads())["spoke_worker_attempts"] == {(code.name.lower(),): 0 for code in ExitCode}


class Away(FakeReads):
    """A ledger that goes away after some reads."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self.left = reads

    def _read(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError("away")

    def backlog(self) -> dict[str, float]:
        self._read()
        return super().backlog()

    def schedules(self) -> ScheduleCounts:
        self._read()
        return super().schedules()

    def limits(self) -> LimitFigures:
        self._read()
        return super().limits()


@pytest.mark.parametrize("read", [0, 1, 2])
def test_what_can_be_read_is_there_and_a_database_that_is_away_is_asked_once(read: int) -> None:
    """It may take seconds to notice, and Prometheus waits ten seconds for an answer."""
    reads = Away(read)
    found = scrape(reads)
    assert reads.left == -1
    there = ("spoke_worker_jobs_due", "spoke_worker_schedules", "spoke_worker_limit")
    assert [name for name in there if name in found] == list(there[:read])
    assert "spoke_worker_running" in found
    assert "spoke_worker_schedule_lag_seconds" in found


def test_failures_add_up_from_look_to_look() -> None:
    asked: list[datetime | None] = []

    def look(since: datetime | None) -> FailedJobs:
        asked.append(since)
        return FailedJobs(len(asked) - 1, DUE + timedelta(seconds=len(asked)))

    counter = FailureCounter(look)
    assert [counter() for _ in range(3)] == [0, 1, 3]
    assert asked == [None, DUE + timedelta(seconds=1), DUE + timedelta(seconds=2)]
