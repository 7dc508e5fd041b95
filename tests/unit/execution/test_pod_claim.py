"""A pod that can't reach its database waits for it, in compressed time."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, ProgrammingError
from tests.unit.explain.situations import a_job

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.errors import DatabaseNotMigrated, DatabaseRefused, DatabaseUnreachable
from spoke_jobs.execution import pod
from spoke_jobs.ledger.port import ClaimRefusal, NoRow, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim

START_TIMEOUT = 600


class Place:
    """A ledger that is away until a time, and an event whose waits pass at once."""

    engine = None

    def __init__(
        self, error: Exception | None, back_at: float, *, in_claim: bool = False, told_at: float = 1e9
    ) -> None:
        self.now, self.tries = 0.0, 0
        self._error, self._back_at, self._in_claim, self._told_at = error, back_at, in_claim, told_at

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def is_set(self) -> bool:
        return self.now >= self._told_at

    # Without its traceback: the errors are those of all examples, and each try would log a longer one.
    def check_schema(self, _engine: object) -> None:
        self.tries += 1
        if self._error is not None and not self._in_claim and self.now < self._back_at:
            raise self._error.with_traceback(None)

    def claim(self, *_arguments: Any) -> ClaimRefusal | Claim:
        if self._error is not None and self._in_claim and self.now < self._back_at:
            raise self._error.with_traceback(None)
        return NoRow()


class SlowPlace(Place):
    """A ledger that answers the first claim that another process holds the job, and later ones after three seconds."""

    def claim(self, *_arguments: Any) -> ClaimRefusal | Claim:
        if not self.now:
            return Taken(2)
        self.now += 3
        return Claim(a_job(), 1, uuid4(), 30)


def claim_in(place: Place) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod, "check_schema", place.check_schema)
        patch.setattr(pod.time, "monotonic", lambda: place.now)
        assignment = PodAssignment(5, uuid4(), 1, start_timeout_seconds=START_TIMEOUT)
        return pod.claim_attempt(cast(SqlLedger, place), assignment, 30, cast(threading.Event, place))


def of_driver(kind: type[DBAPIError], text: str, sqlstate: str | None = None) -> DBAPIError:
    cause = Exception(text)
    cause.sqlstate = sqlstate  # type: ignore[attr-defined]
    return kind("SELECT 1", {}, cause)


AWAY = [
    (DatabaseUnreachable("can't be reached"), False),
    (of_driver(OperationalError, "server closed the connection"), True),
    (of_driver(OperationalError, "the database system is shutting down", "57P01"), True),
    (of_driver(InternalError, "cannot execute UPDATE in a read-only transaction", "25006"), True),
]


@settings(deadline=None)  # it logs each try
@given(st.sampled_from(AWAY), st.floats(0, START_TIMEOUT - 16))
def test_an_outage_within_the_start_timeout_is_outlasted(fault: tuple[Exception, bool], seconds: float) -> None:
    error, in_claim = fault
    place = Place(error, seconds, in_claim=in_claim)
    assert isinstance(claim_in(place), NoRow)
    assert place.now <= seconds + 15, "it goes on soon after the database's return"
    assert place.tries <= 60


@pytest.mark.parametrize(("error", "in_claim"), AWAY)
def test_a_longer_outage_ends_the_attempt_at_the_start_timeout(error: Exception, in_claim: bool) -> None:
    place = Place(error, 7200, in_claim=in_claim)
    with pytest.raises((DatabaseUnreachable, DBAPIError)):
        claim_in(place)
    assert place.now == pytest.approx(START_TIMEOUT), "the last wait ends then, too"


@pytest.mark.parametrize(
    ("error", "in_claim"),
    [
        (DatabaseRefused("password authentication failed"), False),
        (of_driver(OperationalError, 'FATAL:  password authentication failed for user "shop"'), True),
    ],
)
def test_a_refused_password_is_soon_left_to_the_next_pod(error: Exception, in_claim: bool) -> None:
    """This one has it from its environment, so it can't learn that the Secret has been corrected."""
    place = Place(error, 7200, in_claim=in_claim)
    with pytest.raises((DatabaseRefused, OperationalError)):
        claim_in(place)
    assert place.now == pytest.approx(pod.REFUSED_SECONDS)


@pytest.mark.parametrize(
    ("error", "in_claim"),
    [
        (DatabaseNotMigrated("run `spoke-jobs migrate`"), False),
        (of_driver(ProgrammingError, "permission denied for table job_request", "42501"), True),
    ],
)
def test_what_no_wait_corrects_is_said_at_once(error: Exception, in_claim: bool) -> None:
    place = Place(error, 7200, in_claim=in_claim)
    with pytest.raises(type(error)):
        claim_in(place)
    assert place.now == 0


def test_a_pod_that_is_told_to_stop_does_not_wait_for_its_database() -> None:
    assert claim_in(Place(DatabaseUnreachable("can't be reached"), 7200, told_at=20)) is None


def test_the_lease_of_a_pod_begins_when_its_claim_is_sent() -> None:
    claim = claim_in(SlowPlace(None, 0))
    assert isinstance(claim, Claim)
    assert claim.asked_at == 2, "the answer came at 5"


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (of_driver(ProgrammingError, "permission denied for table job_limit", "42501"), False),
        (of_driver(OperationalError, "server closed the connection"), None),
    ],
)
def test_a_role_that_may_not_read_the_limits_leaves_pauses_to_the_operator(error: DBAPIError, answer: object) -> None:
    class Limits:
        def holds(self, _job: object) -> bool:
            raise error

    ledger: Any = SimpleNamespace(limits=Limits())
    claim: Any = SimpleNamespace(job=SimpleNamespace(suspended_at=None))
    if answer is None:
        with pytest.raises(DBAPIError):
            pod._paused(claim, ledger)
    else:
        assert pod._paused(claim, ledger) is answer
