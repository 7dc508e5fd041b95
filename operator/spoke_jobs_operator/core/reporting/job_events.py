"""Derive the Kubernetes Events about a SpokeJob from two of its statuses.

The function is pure, and depends only on the difference. So an Event follows an accepted status write, and neither a
lost watch event nor a restart repeats one. No decision depends on an Event. The Events about a PodTemplate and its
standby pods are here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import advice
from spoke_jobs.contract.causes import CAUSES, Cause, CauseClass, cause_class
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, Outcome, SpokeJobStatus
from spoke_jobs.contract.retry import is_charged
from spoke_jobs.contract.wait_reasons import NEED_ATTENTION, WAITS, WaitReason

NOTE_BYTES = 1024
"""The API server refuses a longer note."""
_ATTEMPT = "Attempt"
_ADMIT = "Admit"
_FINISH = "Finish"
_KEEP = "KeepStandbyPods"
_UNSAID = {"", WaitReason.POD_PENDING, WaitReason.BACKING_OFF}
"""Reasons without an Event of their own, because the Events about the attempt say the same."""


class EventType(StrEnum):
    """The type of an Event. Kubernetes knows these two."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """The reasons of Events, besides the reasons to wait."""

    ATTEMPT_STARTED = "AttemptStarted"
    ATTEMPT_FAILED = "AttemptFailed"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = Cause.CANCELLED.value
    STANDBY_FAILED = "StandbyPodFailed"
    """About a PodTemplate: a standby pod could not be made, or ended by itself."""
    STANDBY_IMPOSSIBLE = "NoStandbyPods"
    """About a PodTemplate: it wants standby pods, and can have none."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An Event about a SpokeJob or a PodTemplate, without its time."""

    type: EventType
    reason: str
    """CamelCase: an :class:`EventReason`, or the reason to wait."""
    action: str
    note: str
    """At most :data:`NOTE_BYTES` of UTF-8."""


def job_events(old: SpokeJobStatus, new: SpokeJobStatus) -> tuple[JobEvent, ...]:
    """Return the Events that a change of the status stands for, in the order in which it happened."""
    return (*_attempts(old, new), *_wait(old, new), *_end(old, new))


def standby_failed(why: str) -> JobEvent:
    """Return the Event that says that a standby pod could not be made, or ended by itself.

    :param why: the cause, or what the API server says; empty if it is not known.
    """
    note = f"A standby pod does not start{f': {why}' if why else ''}. Jobs run in pods of their own meanwhile"
    return _event(EventType.WARNING, EventReason.STANDBY_FAILED, _KEEP, note)


def standby_impossible(problem: str) -> JobEvent:
    """Return the Event that says why the PodTemplate can have no standby pods."""
    note = f"No standby pods: {problem}. Jobs run in pods of their own"
    return _event(EventType.WARNING, EventReason.STANDBY_IMPOSSIBLE, _KEEP, note)


def _attempts(old: SpokeJobStatus, new: SpokeJobStatus) -> Iterator[JobEvent]:
    ended = {record.number for record in old.attempts if record.finished_at}
    for record in new.attempts:
        if record.number > old.attempt:
            note = f"Attempt {record.number} has started: Job {record.job}"
            yield _event(EventType.NORMAL, EventReason.ATTEMPT_STARTED, _ATTEMPT, note)
        if record.finished_at and record.cause and record.number not in ended:
            charged = is_charged(cause_class(record.cause))
            kind = EventType.WARNING if charged and record.cause != Cause.CANCELLED else EventType.NORMAL
            yield _event(kind, EventReason.ATTEMPT_FAILED, _ATTEMPT, _failed_note(record, new))


def _failed_note(record: AttemptStatus, new: SpokeJobStatus) -> str:
    # What a disruption made the function raise, such as `Cancelled`, is no error of the job.
    disrupted = cause_class(record.cause) is CauseClass.DISRUPTION
    facts = [
        "" if disrupted else record.error_type,
        f"exit code {record.exit_code}" if record.exit_code is not None else "",
    ]
    known = ", ".join(filter(None, facts))
    note = f"Attempt {record.number} has failed: {record.cause}{f' ({known})' if known else ''}"
    text = record.message or (CAUSES[record.cause].meaning if disrupted else "")
    if text:
        note += f": {text}"
    if record.number == new.attempt and new.next_attempt_at and not new.is_final:
        due = new.next_attempt_at.isoformat(timespec="seconds")
        note += f"{'' if note.endswith('.') else '.'} The next attempt is due at {due}"
    return note


def _wait(old: SpokeJobStatus, new: SpokeJobStatus) -> Iterator[JobEvent]:
    wait = new.waiting
    if wait is None or wait.code in _UNSAID or (old.waiting and old.waiting.code == wait.code):
        return
    kind = EventType.NORMAL if wait.code in WAITS.keys() - NEED_ATTENTION else EventType.WARNING
    text = new.said(wait.code) or wait_text.sentence(wait.to_wait())
    yield _event(kind, wait.code, _ADMIT if wait.code in WAITS else _ATTEMPT, f"Waits: {text or wait.code}")


def _end(old: SpokeJobStatus, new: SpokeJobStatus) -> Iterator[JobEvent]:
    if not new.is_final or old.is_final:
        return
    tries = f"{new.attempt} attempt{'' if new.attempt == 1 else 's'}"
    if new.outcome is Outcome.SUCCEEDED:
        yield _event(EventType.NORMAL, EventReason.SUCCEEDED, _FINISH, f"The job has succeeded after {tries}")
    elif new.cause == Cause.CANCELLED:
        yield _event(EventType.NORMAL, EventReason.CANCELLED, _FINISH, f"The job was cancelled after {tries}")
    else:
        text = new.said(new.cause) or advice(new.cause, new.reason, None)
        note = f"The job has failed after {tries}: {new.cause}{f': {text}' if text else ''}"
        yield _event(EventType.WARNING, EventReason.FAILED, _FINISH, note)


def _event(kind: EventType, reason: str, action: str, note: str) -> JobEvent:
    encoded = note.encode(errors="replace")
    if len(encoded) > NOTE_BYTES:
        note = encoded[: NOTE_BYTES - 3].decode(errors="ignore") + "..."
    return JobEvent(kind, str(reason), action, note)
