"""Batches and dependencies with values that only other code writes, and the settling of dependents around them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.contract.ledger import LEASE, new_job
from tests.integration.ledger.hostile_rows import BOTH, LARGEST, claimed, end_of, ledger, two, write
from tests.waiting import patient

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.dependencies import dependency_rows
from spoke_jobs.ledger.lifecycle import finish
from spoke_jobs.ledger.sql import each_alone
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobState

__all__ = ["ledger"]


@BOTH
def test_a_number_of_dependencies_that_is_wrong_holds_up_no_other_dependent(ledger: SqlLedger) -> None:
    needed = ledger.insert(new_job()).id
    broken = {number: ledger.insert(new_job(after=(needed,))).id for number in (-LARGEST - 1, -1, 0, LARGEST)}
    good = ledger.insert(new_job(after=(needed,))).id
    for number, job_id in broken.items():
        write(ledger, "UPDATE job_request SET open_dependencies = :n WHERE id = :id", n=number, id=job_id)
    ledger.succeed_many({claim.token: None for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)})
    assert end_of(ledger, good)[0] is JobState.WAITING
    for number, job_id in broken.items():
        assert end_of(ledger, job_id)[0] is (JobState.BLOCKED if number == LARGEST else JobState.WAITING)


@BOTH
@pytest.mark.parametrize("count", [-LARGEST - 1, LARGEST])
def test_counts_of_a_batch_at_the_ends_of_their_type_refuse_no_job(ledger: SqlLedger, count: int) -> None:
    batch = ledger.open_batch("x")
    first = ledger.insert(new_job(batch_id=batch.id)).id
    ledger.cancel(first)
    write(ledger, "UPDATE job_batch SET total = :n, failed = :n", n=count)
    ledger.insert(new_job(batch_id=batch.id))
    assert ledger.retry(first) is not None
    assert set(claimed(ledger)) == {first, first + 1}


@BOTH
def test_a_job_of_a_batch_that_does_not_exist_can_be_retried(ledger: SqlLedger) -> None:
    """It was pruned, or other code wrote something else there."""
    for batch in (99,) if ledger.engine.dialect.name == "postgresql" else (99, "march"):
        job = ledger.insert(new_job())
        ledger.cancel(job.id)
        write(ledger, "UPDATE job_request SET batch_id = :batch WHERE id = :id", batch=batch, id=job.id)
        assert ledger.retry(job.id) is not None
        (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
        ledger.succeed(None, claim.token, None)
        assert end_of(ledger, job.id) == (JobState.SUCCEEDED, "")


def test_a_retry_ends_although_further_jobs_fail_again_and_again(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role of jobs can dispatch after a failed job for ever. Each look finds one more."""
    first = ledger.insert(new_job()).id
    dependents = [ledger.insert(new_job(after=(first,))).id for _ in range(30)]
    ledger.cancel(first)
    assert {end_of(ledger, job_id) for job_id in dependents} == {(JobState.FAILED, "DependencyFailed")}
    looks: list[set[int]] = []

    def failed_because_of(_connection: Connection, _job_id: int) -> set[int]:
        looks.append(set(dependents[: len(looks) + 1]))
        return looks[-1]

    monkeypatch.setattr(dependency_rows, "failed_because_of", failed_because_of)
    assert ledger.retry(first) is not None
    assert end_of(ledger, first)[0] is JobState.WAITING
    blocked = {job_id for job_id in dependents if end_of(ledger, job_id)[0] is JobState.BLOCKED}
    assert blocked == looks[-2], "those that were found in time are locked, and follow"
    assert blocked < set(dependents), "it ended before the last one had failed"


def test_a_retry_follows_batches_however_many_are_in_a_row(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch's job is in the next batch, and the last one's leads back to the first job."""
    first, *others = (ledger.insert(new_job()).id for _ in range(12))
    for job_id, then in zip([first, *others], [*others, first], strict=True):
        batch = ledger.open_batch("x")
        write(
            ledger, "UPDATE job_batch SET failed = 1, total = 1, then_id = :then WHERE id = :id", then=then, id=batch.id
        )
        write(
            ledger,
            "UPDATE job_request SET batch_id = :batch, state = 'failed', cause = 'DependencyFailed' WHERE id = :id",
            batch=batch.id,
            id=job_id,
        )
    depths: list[int] = []
    record = audit_events.record

    def recorded(*args: Any, **fields: Any) -> None:
        depths.append(len(inspect.stack()))
        record(*args, **fields)

    monkeypatch.setattr(audit_events, "record", recorded)
    assert ledger.retry(first) is not None
    assert {end_of(ledger, job_id)[0] for job_id in others} == {JobState.BLOCKED}
    assert len(depths) == 12
    assert max(depths) - min(depths) < 5


@BOTH
@pytest.mark.parametrize("total", [None, LARGEST])
def test_the_end_of_a_job_whose_batch_cannot_count_it_stops_no_other(ledger: SqlLedger, total: int | None) -> None:
    """The batch does not exist, or has counted all that its row can hold."""
    if total is not None:
        new = "INSERT INTO job_batch (id, name, succeeded, created_at) VALUES (99, 'x', :n, '2026-01-01 00:00:00')"
        write(ledger, new, n=total)
    for_batch = "UPDATE job_request SET awaited = true, batch_open = true, batch_id = 99 WHERE id = :id"
    broken, good = two(ledger)
    write(ledger, for_batch, id=broken)
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    assert len(ledger.succeed_many({claim.token: None for claim in claims})) == 2
    assert {end_of(ledger, job_id)[0] for job_id in (broken, good)} == {JobState.SUCCEEDED}
    write(ledger, for_batch, id=broken)  # as after an end that another release recorded
    assert ledger.settle() == 1
    assert ledger.settle() == 0


def test_a_dependency_of_a_job_that_is_not_blocked_is_closed_and_keeps_no_job_awaited(ledger: SqlLedger) -> None:
    needed = ledger.insert(new_job()).id
    blocked = ledger.insert(new_job(after=(needed,))).id
    others = two(ledger)
    for job_id in others:
        edge = "INSERT INTO job_dependency (job_id, needs_id, open, runs_after_failure) VALUES (:id, :n, true, false)"
        write(ledger, edge, id=job_id, n=needed)
    write(ledger, "UPDATE job_request SET state = 'succeeded' WHERE id = :id", id=needed)
    assert (ledger.settle(), ledger.settle()) == (1, 0)
    assert [end_of(ledger, job_id)[0] for job_id in (blocked, *others)] == [JobState.WAITING] * 3


def unsettled(ledger: SqlLedger, count: int) -> list[int]:
    """Jobs that have ended, each with a blocked job that depends on it, as an older release would leave them."""
    needed = [ledger.insert(new_job()).id for _ in range(count)]
    for job_id in needed:
        ledger.insert(new_job(after=(job_id,)))
        write(ledger, "UPDATE job_request SET state = 'succeeded' WHERE id = :id", id=job_id)
    return needed


def test_settling_goes_on_behind_what_it_could_not_settle(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = unsettled(ledger, 3)[:2]
    settle = finish.settle

    def settled(connection: Connection, job_id: int) -> bool:
        if job_id in broken:
            raise LookupError
        return settle(connection, job_id)

    monkeypatch.setattr(finish, "SETTLING_SECONDS", patient(60))
    with monkeypatch.context() as patch:
        patch.setattr(finish, "settle", settled)
        patch.setattr(each_alone, "_BATCHES", 2)  # as if there were more of these than one call examines
        assert [ledger.settle(limit=1) for _ in range(2)] == [0, 1]
    assert [ledger.settle(), ledger.settle()] == [2, 0], "they are tried again"


def test_one_call_settles_only_for_a_while(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    unsettled(ledger, 3)
    monkeypatch.setattr(finish, "SETTLING_SECONDS", -1)
    assert [ledger.settle() for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("after_failed", ["fail", "run"])
def test_many_dependents_are_settled_in_several_steps(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, after_failed: str
) -> None:
    monkeypatch.setattr(finish, "SETTLED_AFTER_FAILURE", 2)
    monkeypatch.setattr(finish, "SETTLING_SECONDS", -1)
    needed = ledger.insert(new_job()).id
    dependents = [ledger.insert(new_job(after=(needed,), after_failed=after_failed)).id for _ in range(5)]
    ledger.cancel(needed)
    assert [ledger.settle() for _ in range(3)] == [1, 1, 0]
    state = JobState.FAILED if after_failed == "fail" else JobState.WAITING
    assert [end_of(ledger, job_id)[0] for job_id in dependents] == [state] * 5


def test_an_error_about_a_dependent_undoes_no_success(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = two(ledger)
    waiting = [ledger.insert(new_job(after=(job_id,))).id for job_id in needed]
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    settle = finish.settle

    def settled(connection: Connection, job_id: int) -> bool:
        if job_id == needed[0]:
            raise LookupError
        return settle(connection, job_id)

    monkeypatch.setattr(finish, "settle", settled)
    assert len(ledger.succeed_many({claim.token: None for claim in claims})) == 2
    assert {end_of(ledger, job_id)[0] for job_id in needed} == {JobState.SUCCEEDED}
    assert [end_of(ledger, job_id)[0] for job_id in waiting] == [JobState.BLOCKED, JobState.WAITING]
    monkeypatch.undo()
    assert ledger.settle() == 1
    assert end_of(ledger, waiting[0])[0] == JobState.WAITING


HOOKS = (
    r'{"onFailure": "a\u0000"}',
    r'{"onFailure": "a\ud800"}',
    '{"onFailure": "a", "onFailureAs": {"priority": 1000000000000}}',
    r'{"onFailure": "a", "onFailureAs": {"queue": "\u0000", "options": {"podTemplate": "\u0000"}}}',
)


@BOTH
def test_jobs_of_failures_whose_rows_cannot_hold_them_keep_no_failure_from_being_recorded(ledger: SqlLedger) -> None:
    broken = {ledger.insert(new_job()).id for _ in HOOKS}
    for job_id, options in zip(broken, HOOKS, strict=True):
        write(ledger, "UPDATE job_request SET options = :options WHERE id = :id", options=options, id=job_id)
    for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 9):
        assert ledger.fail(claim.token, Failure("JobError", "x", for_good=True), decide=True)
    assert {end_of(ledger, job_id) for job_id in broken} == {(JobState.FAILED, "JobError")}
    assert [job.state for job in ledger.list_jobs() if job.id not in broken] == [JobState.WAITING] * 4
