"""The reaper gives live owners a lease's time before it ends anybody."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from tests.contract.ledger import claim_one, new_job

from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import JobOptions, JobRequest, JobState


class Time:
    """A clock for ledger and reaper alike."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def make() -> tuple[Time, MemoryLedger, Reaper]:
    time = Time()
    ledger = MemoryLedger(time.now)
    ledger.insert(new_job())
    claim_one(ledger, "legacy", ["report"], "dead", 30)
    return time, ledger, Reaper(ledger, "legacy", 30, time.monotonic)


def reaped_after(time: Time, reaper: Reaper, *, up_to: float) -> float | None:
    start = time.seconds
    while time.seconds < start + up_to:
        if reaper.reap_if_due():
            return time.seconds - start
        time.seconds += 0.5
    return None


def test_a_lost_worker_s_job_is_reclaimed_within_lease_and_interval() -> None:
    time, _, reaper = make()
    taken = reaped_after(time, reaper, up_to=60)
    assert taken is not None
    assert 30 < taken <= 40


def test_after_an_outage_owners_have_a_lease_s_time() -> None:
    time, _, reaper = make()
    reaper.reap_if_due()
    time.seconds += 100  # the lease lapses while nobody could renew it
    reaper.database_failed()
    taken = reaped_after(time, reaper, up_to=60)
    assert taken is not None
    assert taken >= 30


def test_a_job_that_was_not_started_in_time_ends_without_waiting_for_a_lease() -> None:
    time, ledger, _ = make()
    late = ledger.insert(new_job(job_type="unheard_of", options=JobOptions(start_timeout_seconds=5)))
    time.seconds += 6
    reaper = Reaper(ledger, "legacy", 30, time.monotonic, types=["report"])
    reaper.reap_if_due()
    ended = ledger.get(late.id)
    assert ended is not None
    assert (ended.state, ended.cause) == (JobState.FAILED, "UnknownJobType")


def test_a_database_that_hung_counts_as_an_outage_too() -> None:
    time, _, reaper = make()
    reaper.reap_if_due()
    time.seconds += 100
    reaper.database_answered_after(100)  # to another query of the same process
    taken = reaped_after(time, reaper, up_to=60)
    assert taken is not None
    assert taken >= 30


def test_a_hang_of_the_reaper_s_own_query_counts_as_an_outage_too() -> None:
    time, ledger, reaper = make()
    while time.seconds < 1000 + 29:
        reaper.reap_if_due()
        time.seconds += 0.5
    answer = ledger.expire_starts
    time.seconds += 5

    def hang(runner: str, types: Collection[str] = ()) -> list[JobRequest]:
        time.seconds += 30
        return answer(runner, types)

    ledger.expire_starts = hang  # type: ignore[method-assign]
    assert reaper.reap_if_due() == 0
    ledger.expire_starts = answer  # type: ignore[method-assign]
    taken = reaped_after(time, reaper, up_to=60)
    assert taken is not None
    assert taken >= 29


def test_several_pieces_of_work_that_take_long_together_are_no_outage() -> None:
    time, ledger, reaper = make()
    expire, settle = ledger.expire_starts, ledger.settle

    def expiring(runner: str, types: Collection[str] = ()) -> list[JobRequest]:
        time.seconds += 5
        return expire(runner, types)

    def settling() -> int:
        time.seconds += 5
        return settle()

    ledger.expire_starts, ledger.settle = expiring, settling  # type: ignore[method-assign, assignment]
    taken = reaped_after(time, reaper, up_to=90)
    assert taken is not None
    assert taken <= 60
