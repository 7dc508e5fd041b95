"""How an attempt ended, whatever its job raised: the same decision in a thread and on an event loop."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy.exc import OperationalError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard, RetryLater, Superseded
from spoke_jobs.execution.attempt_decisions import CancelledBy, Stopping, code_of, failure_after
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.model import Failure

RAISED = some.sampled_from(
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        RetryLater(5),
        Discard("done"),
        Superseded("taken"),
        asyncio.CancelledError(),
    ]
)
STOPPINGS = some.builds(
    Stopping,
    asked=some.booleans(),
    cancel_requested=some.booleans(),
    task_cancelled_by=some.sampled_from([None, *CancelledBy]),
)


def after(error: BaseException, stopping: Stopping, retry: RetryPolicy | None = None) -> Failure:
    return failure_after(error, retry or RetryPolicy(), stopping)


@given(RAISED, STOPPINGS, some.sampled_from(StopReason))
def test_why_it_was_stopped_counts_and_not_what_it_raised(
    error: BaseException, stopping: Stopping, reason: StopReason
) -> None:
    stopped = Stopping(stopping.asked, stopping.cancel_requested, reason, stopping.task_cancelled_by)
    assert (
        after(error, stopped).cause
        == {
            StopReason.CLAIM_LOST: Cause.SUPERSEDED,
            StopReason.LEASE_EXPIRED: Cause.SUPERSEDED,
            StopReason.DATABASE_AWAY: Cause.DATABASE_UNREACHABLE,
            StopReason.TIMEOUT: Cause.TIMEOUT,
            StopReason.TOO_LONG: Cause.TOO_LONG_FOR_WORKER,
            StopReason.CANCELLED: Cause.CANCELLED,
        }[reason]
    )


@given(STOPPINGS)
def test_what_a_job_says_about_itself_counts_even_if_it_was_asked_to_stop(stopping: Stopping) -> None:
    assert after(RetryLater(5), stopping).retry_after_seconds == 5
    assert after(Discard("done"), stopping).cause == Cause.DISCARDED
    assert after(Superseded("taken"), stopping).cause == Cause.SUPERSEDED


@pytest.mark.parametrize(
    ("stopping", "cause", "code"),
    [
        (Stopping(), Cause.JOB_ERROR, ExitCode.FAILED),
        (Stopping(asked=True), Cause.INTERRUPTED, ExitCode.INTERRUPTED),
        (Stopping(asked=True, cancel_requested=True), Cause.CANCELLED, ExitCode.FAILED_FOR_GOOD),
    ],
)
def test_an_error_after_a_request_to_stop_is_its_consequence(stopping: Stopping, cause: str, code: ExitCode) -> None:
    failure = after(ValueError("no"), stopping)
    assert (failure.cause, failure.error_type, code_of(failure)) == (cause, "ValueError", code)


@pytest.mark.parametrize(
    ("by", "cause", "message"),
    [
        (CancelledBy.ITSELF, Cause.JOB_ERROR, "CancelledError: the job cancelled itself"),
        (CancelledBy.ANOTHER_JOB, Cause.BYSTANDER, "another job cancelled a part of this one"),
        (None, Cause.JOB_ERROR, "asyncio.exceptions.CancelledError: "),
    ],
)
def test_who_cancelled_the_task_is_charged(by: CancelledBy | None, cause: str, message: str) -> None:
    failure = after(asyncio.CancelledError(), Stopping(task_cancelled_by=by))
    assert (failure.cause, failure.message) == (cause, message)


def test_an_exception_that_is_never_retried_ends_the_job() -> None:
    never = RetryPolicy(never=(LookupError,))
    assert code_of(after(KeyError("no"), Stopping(), never)) is ExitCode.FAILED_FOR_GOOD
    assert code_of(after(ValueError("no"), Stopping(), never)) is ExitCode.FAILED


def test_the_place_of_a_timeout_is_kept() -> None:
    failure = after(asyncio.CancelledError("here"), Stopping(reason=StopReason.TIMEOUT))
    assert "CancelledError: here" in failure.output_tail


def test_a_database_error_is_the_jobs_unless_the_database_is_away() -> None:
    error = OperationalError("SELECT", {}, Exception("syntax error"))
    assert after(error, Stopping()).cause == Cause.JOB_ERROR
