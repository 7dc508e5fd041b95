"""The Events that a change of a SpokeJob's status stands for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoke_jobs.contract.causes import CAUSES, Cause, cause_class
from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.retry import GiveUp, TryAgain, is_charged
from spoke_jobs.contract.wait_reasons import WAITS, Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.diagnose import Ended
from spoke_jobs_operator.core.reconciling import status
from spoke_jobs_operator.core.reporting.job_events import NOTE_BYTES, EventReason, EventType, JobEvent, job_events

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = {EventReason.SUCCEEDED, EventReason.FAILED, EventReason.CANCELLED}


def started(old: SpokeJobStatus) -> SpokeJobStatus:
    number = old.attempt + 1
    return status.attempt_started(old, number, f"job-{number}", "t/1", NOW, NOW)


def failed(
    old: SpokeJobStatus, cause: str, *, for_good: bool = False, message: str = "", error_type: str = ""
) -> SpokeJobStatus:
    verdict = GiveUp() if for_good else TryAgain(4.0)
    end = Ended(cause=cause, message=message, exit_code=10, error_type=error_type)
    return status.attempt_failed(old, end, None, verdict, NOW, 7)


def shown(events: tuple[JobEvent, ...]) -> list[tuple[str, str, str]]:
    return [(event.type.value, event.reason, event.note) for event in events]


def test_a_failed_attempt_says_why_and_when_the_next_one_is_due() -> None:
    running = started(SpokeJobStatus())
    assert shown(job_events(SpokeJobStatus(), running)) == [
        ("Normal", "AttemptStarted", "Attempt 1 has started: Job job-1")
    ]
    assert shown(job_events(running, failed(running, "JobError", message="boom"))) == [
        (
            "Warning",
            "AttemptFailed",
            "Attempt 1 has failed: JobError (exit code 10): boom. The next attempt is due at 2026-01-01T00:00:04+00:00",
        )
    ]


def test_a_note_that_is_too_long_for_the_api_server_is_cut() -> None:
    running = started(SpokeJobStatus())
    (event,) = job_events(running, failed(running, "JobError", message="\N{SNOWMAN}" * NOTE_BYTES))
    assert event.note.startswith("Attempt 1 has failed: JobError (exit code 10): \N{SNOWMAN}")
    assert event.note.endswith("\N{SNOWMAN}...")
    assert NOTE_BYTES - 3 < len(event.note.encode()) <= NOTE_BYTES


def test_a_new_reason_to_wait_is_told_once_with_its_fields() -> None:
    wait = Wait(WaitReason.QUEUE_LOCKED, holder="other-3", object="12:edit")
    waiting = status.held(SpokeJobStatus(), wait, NOW, blocked=False)
    assert shown(job_events(SpokeJobStatus(), waiting)) == [
        ("Normal", "QueueLocked", "Waits: SpokeJob other-3 has the queue '12:edit'")
    ]
    assert job_events(waiting, waiting) == ()
    blocked = status.held(waiting, Wait(Cause.TEMPLATE_MISSING, object="gpu"), NOW, blocked=True)
    assert shown(job_events(waiting, blocked)) == [
        ("Warning", "TemplateMissing", "Waits: no PodTemplate 'gpu' in the job's namespace")
    ]


def test_a_normal_wait_for_the_pod_or_the_next_attempt_is_no_event_of_its_own() -> None:
    first = started(SpokeJobStatus())
    again = failed(first, "JobError")
    assert again.waiting
    assert again.waiting.code == WaitReason.BACKING_OFF
    reasons = [event.reason for event in (*job_events(first, again), *job_events(again, started(again)))]
    assert reasons == ["AttemptFailed", "AttemptStarted"]


@pytest.mark.parametrize("cause", ["Drained", "NodeLost", "DatabaseUnreachable", "QueueHeld", "Preempted"])
def test_an_attempt_that_is_not_charged_is_no_warning(cause: str) -> None:
    running = started(SpokeJobStatus())
    event = job_events(running, failed(running, cause))[0]
    assert (event.type, event.reason) == (EventType.NORMAL, "AttemptFailed")


def test_a_cancelled_job_is_no_failure() -> None:
    running = started(SpokeJobStatus())
    cancelled = failed(running, "Cancelled", for_good=True)
    assert [(event.type, event.reason) for event in job_events(running, cancelled)] == [
        (EventType.NORMAL, "AttemptFailed"),
        (EventType.NORMAL, "Cancelled"),
    ]


codes = st.sampled_from([*WAITS, *CAUSES, "FromANewerRelease"])
causes = st.sampled_from([*CAUSES, "FromANewerRelease"])
texts = st.text(max_size=30) | st.just("é" * 1500)


waits_of_a_stage = st.lists(st.builds(Wait, code=codes, detail=texts), max_size=2)


@st.composite
def lives(draw: st.DrawFn) -> list[SpokeJobStatus]:
    """Every status of a SpokeJob, as the core's transitions make them, from nothing to its end."""
    life = [SpokeJobStatus()]

    def to(new: SpokeJobStatus) -> None:
        life.append(new)

    for _ in range(draw(st.integers(0, 4))):
        for wait in draw(waits_of_a_stage):
            to(status.held(life[-1], wait, NOW, blocked=draw(st.booleans())))
        to(started(life[-1]))
        for wait in draw(waits_of_a_stage):
            to(status.attempt_pends(life[-1], wait, NOW))
        if draw(st.booleans()):
            to(status.attempt_runs(life[-1], None, NOW))
        end = Ended(cause=draw(causes), message=draw(texts))
        if draw(st.booleans()):
            to(status.attempt_stopping(life[-1], end, None, NOW))
        to(status.attempt_failed(life[-1], end, None, TryAgain(1.0), NOW, 7))
    if draw(st.booleans()):
        to(started(life[-1]))
        to(status.attempt_succeeded(life[-1], Ended(cause=""), None, NOW))
    else:
        to(status.finished(life[-1], draw(causes), NOW, draw(texts)))
    return life


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives(), st.data())
def test_each_start_failure_and_end_is_told_once_however_writes_are_merged(
    life: list[SpokeJobStatus], data: st.DataObject
) -> None:
    """A write may record several steps: the operator drops statuses that it had no time to write."""
    written = [life[0], *(item for item in life[1:-1] if data.draw(st.booleans())), life[-1]]
    events = [event for old, new in pairwise(written) for event in job_events(old, new)]
    told = Counter(event.reason for event in events)
    assert told[EventReason.ATTEMPT_STARTED] == life[-1].attempt
    assert told[EventReason.ATTEMPT_FAILED] == sum(1 for item in life[-1].attempts if item.cause)
    assert [event.action for event in events].count("Finish") == 1
    assert (events[-1].action, events[-1].reason in ENDS) == ("Finish", True)
    for event in events:
        if event.reason == EventReason.ATTEMPT_FAILED and event.type is EventType.NORMAL:
            cause = event.note.split(": ")[1].split(" ")[0].rstrip(".")
            assert cause == Cause.CANCELLED or not is_charged(cause_class(cause))
