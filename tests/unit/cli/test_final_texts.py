"""What is printed of a job that has ended promises no other try: by the SpokeJob and its Events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from spoke_jobs.contract.advice import advice, with_reason
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs_operator.core.diagnosis.diagnose import Ended
from spoke_jobs_operator.core.reconciling import status
from spoke_jobs_operator.core.reporting.job_events import job_events

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROMISE = re.compile(
    r"(?<!asked to be )(?<!asked not to be )(?<!not )(tried|run|runs|queues|starts|started|tries) again"
    r"|(runs|starts|continues) (when|once|by itself)"
    r"|next (attempt|try)|will be (tried|run|started)",
    re.I,
)


def texts(old: SpokeJobStatus, new: SpokeJobStatus) -> Iterator[str]:
    """What `kubectl describe` shows of the new status, and the Events of the change to it."""
    yield from (condition.message for condition in new.conditions)
    yield from (event.note for event in job_events(old, new))
    yield new.message


def ended(cause: str, message: str = "", reason: str = "") -> Iterator[str]:
    """What is shown of a SpokeJob that ends with its attempt, and of one that ends before any."""
    running = status.attempt_started(SpokeJobStatus(), 1, "job-1", "t/1", NOW, NOW)
    end = Ended(cause=cause, message=message, reason=reason)
    yield from texts(running, status.attempt_failed(running, end, None, GiveUp(), NOW, 7))
    yield from texts(SpokeJobStatus(), status.finished(SpokeJobStatus(), cause, NOW, message, job_id=7, reason=reason))


def promises(shown: Iterator[str]) -> list[str]:
    return [text for text in shown if PROMISE.search(text)]


@pytest.mark.parametrize("cause", CAUSES)
def test_the_spokejob_and_its_events(cause: str) -> None:
    assert promises(ended(cause)) == []


@pytest.mark.parametrize("reason", WaitReason)
def test_of_one_that_did_not_start(reason: WaitReason) -> None:
    assert promises(ended(Cause.START_TIMEOUT, with_reason(reason, ""), reason)) == []
    assert not PROMISE.search(advice(Cause.START_TIMEOUT, reason, 7))


def test_while_there_is_another_try_it_is_said() -> None:
    running = status.attempt_started(SpokeJobStatus(), 1, "job-1", "t/1", NOW, NOW)
    waits = status.attempt_failed(running, Ended(cause="Drained"), None, TryAgain(4.0), NOW, 7)
    assert promises(texts(running, waits))
    assert [name for name, cause in CAUSES.items() if PROMISE.search(cause.advise(7, tried_again=True))]
