"""What a job asks for by raising: another run later (RetryLater), no other run (Discard, `RetryPolicy.never`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import open_ledger
from tests.unit.execution.test_attempt import Attempt

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard, RetryLater
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions, JobState


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


def raising(error: BaseException) -> Any:
    def job(_ctx: Any, _payload: Any) -> None:
        raise error

    return job


class NoSuchContact(LookupError):
    """An application's own."""


def test_a_job_is_run_again_as_late_as_it_asked(ledger: SqlLedger) -> None:
    options = JobOptions(retry=RetryPolicy(budget={CauseClass.ERROR: 1}, backoff_max_seconds=1))
    attempt = Attempt(ledger, raising(RetryLater(4000, "the provider rests")), options=options)
    attempt.run()
    row = attempt.row
    assert (row.state, row.cause, row.result_message) == (JobState.WAITING, "RetryLater", "the provider rests")
    assert (row.run_after - row.updated_at).total_seconds() == pytest.approx(4000, abs=1)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True, None])
def test_a_time_that_is_none_is_refused_where_it_is_asked_for(seconds: Any) -> None:
    with pytest.raises(ValueError, match="RetryLater takes a number of seconds from 0"):
        RetryLater(seconds)


def test_a_discarded_job_is_final_with_the_reason(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, raising(Discard("the campaign is archived")))
    ending = attempt.run()
    assert ending.exit_code is ExitCode.FAILED_FOR_GOOD
    row = attempt.row
    assert (row.state, row.cause, row.result_message) == (JobState.FAILED, "Discarded", "the campaign is archived")


@pytest.mark.parametrize(
    ("never", "final"),
    [
        ((NoSuchContact,), True),
        ((LookupError,), True),  # and all that derive from it
        (("LookupError",), True),
        ((f"{__name__}.NoSuchContact",), True),
        (("NoSuchContact",), False),  # names are qualified: another module's class of that name is another one
        ((KeyError, ValueError), False),
        ((), False),
    ],
)
def test_exceptions_that_are_never_retried_end_the_job(ledger: SqlLedger, never: Any, final: bool) -> None:
    options = JobOptions(retry=RetryPolicy(never=never, backoff_seconds=0))
    attempt = Attempt(ledger, raising(NoSuchContact("5")), options=options)
    attempt.run()
    assert attempt.row.state is (JobState.FAILED if final else JobState.WAITING)
    assert attempt.row.cause == "JobError"
    assert attempt.last.error_type == f"{__name__}.NoSuchContact"
