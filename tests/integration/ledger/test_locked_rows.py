"""A transaction that has locked a job's row, explicitly and for long, holds up the changes of that job only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from tests.commands import run_command
from tests.contract.ledger import LEASE, SHORT, claim_next, new_job, present
from tests.waiting import eventually

from spoke_jobs import Every, Registry
from spoke_jobs.execution.unrecorded_ends import UnrecordedEnds
from spoke_jobs.ledger.engine import create_engine, is_away, is_locked
from spoke_jobs.ledger.lifecycle.inserts import insert_jobs
from spoke_jobs.ledger.sql.lock_patience import LockPatience
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_batch, job_request, queue_lock
from spoke_jobs.model import Claim, Failure, JobOptions, JobRequest, JobState, Progress, Pulse
from spoke_jobs.runners.ticker import ticker_of

END = Failure("TimedOut", "it took too long", for_good=True)
AGAIN = Failure("Killed", "again")


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[SqlLedger]:
    engine = create_engine(postgres_ledger_url)
    yield SqlLedger(engine, patience=LockPatience(0.2))
    engine.dispose()


@pytest.fixture
def other(ledger: SqlLedger) -> Iterator[Connection]:
    """A transaction of somebody else."""
    with ledger.engine.connect() as connection:
        yield connection


def lock(connection: Connection, job_id: int) -> None:
    """Lock a job's row as a hostile job would: until the transaction's end, and against everybody."""
    connection.execute(select(job_request.c.id).where(job_request.c.id == job_id).with_for_update())


def claimed(ledger: SqlLedger, lease: float = LEASE) -> Claim:
    ledger.insert(new_job())
    return claim_next(ledger, lease=lease)


def cause(ledger: SqlLedger, claim: Claim) -> str:
    job = present(ledger.get(claim.job.id))
    return job.cause


CHANGES: dict[str, Callable[[SqlLedger, Claim], object]] = {
    "end": lambda ledger, claim: ledger.fail(claim.token, END, decide=True),
    "release": lambda ledger, claim: ledger.release(claim.token),
    "cancel": lambda ledger, claim: ledger.cancel(claim.job.id),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_locked_job_is_given_up_and_the_error_says_why(
    ledger: SqlLedger, other: Connection, change: str
) -> None:
    claim = claimed(ledger)
    lock(other, claim.job.id)
    with pytest.raises(DBAPIError) as raised:
        CHANGES[change](ledger, claim)
    assert is_locked(raised.value)
    assert not is_away(raised.value)
    other.rollback()
    assert CHANGES[change](ledger, claim)


def test_the_reaper_leaves_out_the_locked_job_and_takes_it_later(ledger: SqlLedger, other: Connection) -> None:
    locked, free = claimed(ledger, SHORT), claimed(ledger, SHORT)
    lock(other, locked.job.id)
    eventually(lambda: [job.id for job in ledger.reap("legacy")] == [free.job.id])
    other.rollback()
    assert [job.id for job in ledger.reap("legacy")] == [locked.job.id]


def test_a_locked_dependent_delays_neither_the_end_nor_the_other_dependents(
    ledger: SqlLedger, other: Connection
) -> None:
    first, second = claimed(ledger), claimed(ledger)
    locked = ledger.insert(new_job(job_type="later", after=(first.job.id,)))
    free = ledger.insert(new_job(job_type="later", after=(second.job.id,)))
    lock(other, locked.id)
    for claim in (first, second):
        assert ledger.succeed_many({claim.token: None}) == {claim.token}
    assert ledger.get(free.id).state is JobState.WAITING  # type: ignore[union-attr]
    assert ledger.settle() == 0
    assert ledger.get(locked.id).state is JobState.BLOCKED  # type: ignore[union-attr]
    other.rollback()
    assert ledger.settle() == 1
    assert ledger.get(locked.id).state is JobState.WAITING  # type: ignore[union-attr]


def test_an_end_is_kept_until_the_row_is_free_and_the_others_are_written(ledger: SqlLedger, other: Connection) -> None:
    now = [100.0]
    ends = UnrecordedEnds(ledger, lambda: now[0])
    locked, free = claimed(ledger), claimed(ledger)
    lock(other, locked.job.id)
    for claim in (locked, free):
        ends.record(claim.job.id, claim.token, END)
    assert (cause(ledger, locked), cause(ledger, free)) == ("", "TimedOut")
    now[0] += 11  # it is tried again in vain
    ends.write()
    other.rollback()
    ends.write()
    assert cause(ledger, locked) == "", "it is left alone for a while"
    now[0] += 11
    ends.write()
    assert cause(ledger, locked) == "TimedOut"


def test_who_cancels_jobs_is_told_which_is_locked_and_the_others_are_cancelled(
    ledger: SqlLedger, other: Connection, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOKE_DATABASE_URL", postgres_ledger_url)
    locked, free = ledger.insert(new_job()), ledger.insert(new_job())
    lock(other, locked.id)
    result = run_command(["cancel", str(locked.id), str(free.id), "--as", "ada"])
    assert (result.exit_code, result.stdout) == (1, f"{free.id}\treport\tcancelled\n")
    assert result.stderr.startswith(f"error: job {locked.id}: another transaction has locked the row")


def test_a_locked_claim_does_not_delay_the_heartbeats_of_the_others(ledger: SqlLedger, other: Connection) -> None:
    locked, free = claimed(ledger), claimed(ledger)
    other.execute(select(job_attempt.c.id).where(job_attempt.c.token == locked.token).with_for_update())
    beats = {claim.token: Progress(1, "on") for claim in (locked, free)}
    assert ledger.heartbeats(beats, LEASE) == {free.token: Pulse.HELD}
    other.rollback()
    lock(other, locked.job.id)
    assert ledger.heartbeats(beats, LEASE) == {free.token: Pulse.HELD, locked.token: Pulse.UNWRITTEN}
    assert ledger.heartbeats(dict.fromkeys(beats), LEASE) == dict.fromkeys(beats, Pulse.HELD), "nothing to write"
    other.rollback()


def test_an_uncommitted_lock_of_a_queue_delays_only_jobs_that_lock_their_queue(
    ledger: SqlLedger, other: Connection
) -> None:
    running = claimed(ledger)
    taken = {"queue_name": "q", "job_id": running.job.id, "token": uuid.uuid4(), "acquired_at": func.now()}
    other.execute(insert(queue_lock).values(taken))
    ledger.insert(new_job(queue_name="q", locks_queue=True))
    free = ledger.insert(new_job())
    for _ in range(2):
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 5)
        assert [claim.job.id for claim in claims] == [free.id]
        free = ledger.insert(new_job())


@pytest.mark.alone
def test_of_many_locked_rows_only_one_is_waited_for(ledger: SqlLedger, other: Connection) -> None:
    """As in a batch whose row a job has locked: each of its jobs that has not started in time would take a wait."""
    ledger = SqlLedger(ledger.engine, patience=LockPatience(1.0))
    batch = ledger.open_batch("march")
    jobs = ledger.insert_many([new_job(batch_id=batch.id, options=JobOptions(start_timeout_seconds=0.01))] * 30)
    other.execute(select(job_batch.c.id).where(job_batch.c.id == batch.id).with_for_update())
    began = time.monotonic()
    expired: list[JobRequest] = []

    def all_have() -> bool:
        expired.extend(ledger.expire_starts("legacy", ["report"]))
        return len(expired) == len(jobs)

    eventually(all_have)
    assert ledger.settle() == 0
    assert time.monotonic() - began < 30 * 1.0 / 2
    other.rollback()
    settled = 0
    while found := ledger.settle():  # one call may take a second only
        settled += found
    assert settled == len(jobs)


def test_what_belongs_to_an_expired_job_and_is_locked_stays_and_the_others_are_deleted(
    ledger: SqlLedger, other: Connection
) -> None:
    claims = [claimed(ledger) for _ in range(3)]
    for claim in claims:
        ledger.fail(claim.token, END, decide=True)
    with ledger.engine.begin() as connection:
        connection.execute(update(job_request).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    other.execute(select(job_attempt.c.id).where(job_attempt.c.job_id == claims[0].job.id).with_for_update())
    assert ledger.prune() == 2
    assert [job.id for job in ledger.list_jobs()] == [claims[0].job.id]


def test_a_schedule_whose_unique_key_is_being_taken_does_not_delay_the_others(
    ledger: SqlLedger, other: Connection
) -> None:
    registry = Registry()
    registry.job("report")(lambda _ctx: None)
    registry.schedule("held", "report", Every(seconds=1), unique_key="k")
    registry.schedule("free", "report", Every(seconds=1))
    ticker = ticker_of(ledger, registry, "legacy")
    ticker.tick_if_due()
    insert_jobs(other, [new_job(unique_key="k")])
    eventually(lambda: any(job.schedule == "free" for job in ticker.tick_if_due()))


def test_a_process_that_has_waited_in_vain_is_impatient_for_half_a_minute() -> None:
    now = [100.0]
    patience = LockPatience(3.0, lambda: now[0])
    assert patience.seconds == 3.0
    patience.timed_out()
    assert patience.seconds < 0.01
    now[0] += 31
    assert patience.seconds == 3.0


def test_a_queue_s_lock_without_an_owner_is_left_for_later_while_its_row_is_locked(
    ledger: SqlLedger, other: Connection
) -> None:
    owner = ledger.insert(new_job())
    forged = {"job_id": owner.id, "acquired_at": datetime.now(UTC)}
    with ledger.engine.begin() as connection:
        rows = [forged | {"queue_name": name, "token": uuid.uuid4()} for name in ("free", "locked")]
        connection.execute(insert(queue_lock), rows)
    other.execute(select(queue_lock).where(queue_lock.c.queue_name == "locked").with_for_update())
    assert [ledger.end_strays() for _ in range(2)] == [1, 0]
    other.rollback()
    assert ledger.end_strays() == 1


EVERY_CHANGE: dict[str, Callable[[SqlLedger, Claim], object]] = {
    "its end": lambda ledger, claim: ledger.fail(claim.token, END, decide=True),
    "its next attempt": lambda ledger, claim: ledger.fail(claim.token, AGAIN, decide=True),
    "its cancellation": lambda ledger, claim: ledger.cancel(claim.job.id),
    "its release": lambda ledger, claim: ledger.release(claim.token),
    "its success": lambda ledger, claim: ledger.succeed(None, claim.token, None),
}


def test_a_row_that_refers_to_a_job_does_not_delay(ledger: SqlLedger, other: Connection) -> None:
    """Neither an end, nor the reaper, nor the claim of a pod: its foreign key locks the row FOR KEY SHARE."""
    with ledger.engine.begin() as connection:
        connection.execute(text("CREATE TABLE report (job_id bigint NOT NULL REFERENCES job_request (id))"))

    def held(job_id: int) -> None:
        other.execute(text("INSERT INTO report VALUES (:id)"), {"id": job_id})

    for end in EVERY_CHANGE.values():
        ledger.insert(new_job())
        claim = claim_next(ledger)
        held(claim.job.id)
        end(ledger, claim)
        ledger.cancel(claim.job.id)  # what is tried again
    job = ledger.insert(new_job())
    claim_next(ledger, lease=SHORT)
    held(job.id)
    eventually(lambda: [found.id for found in ledger.reap("legacy")] == [job.id])
    in_pod = ledger.insert(new_job(runner="kubernetes"))
    held(in_pod.id)
    assert isinstance(ledger.claim(in_pod.id, in_pod.uid, 1, 1, "pod", LEASE), Claim)
