"""Transitions of a SpokeJob's status: each function takes the old status and returns the new one.

If nothing changes, the new status equals the old one, and no write follows. A new message alone causes no write: the
kubelet changes the wording of the same obstacle every few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.causes import CAUSES, Cause, CauseClass, cause_class
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.contract.spokejob import AttemptStatus, Condition, Outcome, SpokeJobStatus, WaitStatus
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

from .api_objects import Pod
from .diagnose import STOPPING, Ended

ADMITTED = "Admitted"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FINISHED = "Finished"
BLOCKED = "Blocked"
"""Present only while no Job can be created. The start timeout counts from its transition time."""

KEPT_ATTEMPTS = 10
_MESSAGE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Mark:
    """A condition without its time."""

    kind: str
    status: str
    reason: str
    message: str = ""


def attempt_started(
    status: SpokeJobStatus, number: int, job: str, template: str, started_at: datetime, now: datetime
) -> SpokeJobStatus:
    """Record that the attempt's Job exists."""
    record = AttemptStatus(number=number, job=job, template=template, started_at=started_at)
    return _marked(
        status.model_copy(
            update={
                "outcome": Outcome.WAITING,
                "cause": "",
                "waiting": _waiting(status, Wait(WaitReason.POD_PENDING), now),
                "attempt": number,
                "next_attempt_at": None,
                "attempts": (*status.attempts, record)[-KEPT_ATTEMPTS:],
                "conditions": tuple(item for item in status.conditions if item.type != BLOCKED),
            }
        ),
        now,
        Mark(ADMITTED, "True", "JobCreated", f"attempt {number} has its Job"),
        Mark(RUNNING, "False", WaitReason.POD_PENDING),
        Mark(SUCCEEDED, "Unknown", "Unfinished"),
        Mark(FINISHED, "False", "Unfinished"),
    )


def attempt_pends(status: SpokeJobStatus, wait: Wait, now: datetime) -> SpokeJobStatus:
    """Record why the attempt's pod waits."""
    cause = "" if wait.code == WaitReason.POD_PENDING else wait.code
    updated = status.model_copy(
        update={"outcome": Outcome.WAITING, "cause": cause, "waiting": _waiting(status, wait, now)}
    )
    return _marked(updated, now, Mark(RUNNING, "False", wait.code, wait_text.sentence(wait)))


def attempt_runs(status: SpokeJobStatus, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record that the attempt's container runs."""
    updated = status.model_copy(
        update={
            "outcome": Outcome.RUNNING,
            "cause": "",
            "waiting": None,
            "attempts": _with_pod(status.attempts, pod),
        }
    )
    return _marked(updated, now, Mark(RUNNING, "True", "PodRunning"))


def attempt_stopping(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record why the attempt is being stopped, while its pod may still run.

    This is written before the Job is deleted, so that an operator that restarts in between knows why the Job is gone.
    """
    *others, record = _with_pod(status.attempts, pod)
    record = record.model_copy(update={"cause": end.cause, "error_type": end.error_type, "exit_code": end.exit_code})
    updated = status.model_copy(update={"cause": end.cause, "waiting": None, "attempts": (*others, record)})
    running = _condition(status, RUNNING)
    return _marked(updated, now, Mark(RUNNING, running.status if running else "False", STOPPING, end.message))


def attempt_succeeded(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record that the attempt, and therefore the job, has succeeded."""
    return finished(_closed(status, end, pod, now), "", now)


def attempt_failed(
    status: SpokeJobStatus, end: Ended, pod: Pod | None, verdict: TryAgain | GiveUp, now: datetime
) -> SpokeJobStatus:
    """Record that the attempt has failed, and whether another one follows."""
    closed = _closed(status, end, pod, now)
    closed = closed.model_copy(update={"charged": _charge(status.charged, end.cause)})
    if isinstance(verdict, GiveUp):
        return finished(closed, end.cause, now, end.message)
    due = now + timedelta(seconds=verdict.delay_seconds)
    wait = Wait(WaitReason.BACKING_OFF, retry_at=due)
    updated = closed.model_copy(
        update={
            "outcome": Outcome.WAITING,
            "cause": end.cause,
            "waiting": _waiting(closed, wait, now),
            "next_attempt_at": due,
        }
    )
    return _marked(
        updated,
        now,
        Mark(ADMITTED, "False", WaitReason.BACKING_OFF, f"attempt {status.attempt} ended: {end.cause}"),
        Mark(RUNNING, "False", end.cause, end.message),
    )


def held(status: SpokeJobStatus, wait: Wait, now: datetime, *, blocked: bool) -> SpokeJobStatus:
    """Record why the next attempt waits, while no attempt is open."""
    updated = status.model_copy(
        update={
            "outcome": Outcome.WAITING,
            "cause": wait.code,
            "waiting": _waiting(status, wait, now),
            "conditions": tuple(item for item in status.conditions if blocked or item.type != BLOCKED),
        }
    )
    message = wait_text.sentence(wait)
    marks = [
        Mark(ADMITTED, "False", wait.code, message),
        Mark(SUCCEEDED, "Unknown", "Unfinished"),
        Mark(FINISHED, "False", "Unfinished"),
    ]
    return _marked(updated, now, *marks, *([Mark(BLOCKED, "True", wait.code, message)] if blocked else []))


def finished(status: SpokeJobStatus, cause: str, now: datetime, message: str = "") -> SpokeJobStatus:
    """Record that the job is final: succeeded if ``cause`` is empty, else failed."""
    updated = status.model_copy(
        update={
            "outcome": Outcome.FAILED if cause else Outcome.SUCCEEDED,
            "cause": cause,
            "waiting": None,
            "next_attempt_at": None,
            "finished_at": status.finished_at or now,
            "conditions": tuple(item for item in status.conditions if item.type != BLOCKED),
        }
    )
    text = _sentences(message, CAUSES[cause].advice if cause in CAUSES else "")
    return _marked(
        updated,
        now,
        Mark(RUNNING, "False", "Finished"),
        Mark(SUCCEEDED, "False" if cause else "True", cause or "Succeeded", text),
        Mark(FINISHED, "True", cause or "Succeeded", text),
    )


def attempt_closed(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record that the open attempt, if any, has ended. It is not charged."""
    record = open_attempt(status)
    return _closed(status, end, pod, now) if record else status


def open_attempt(status: SpokeJobStatus) -> AttemptStatus | None:
    """Return the record of the attempt that has not ended, if any."""
    newest = status.attempts[-1] if status.attempts else None
    return newest if newest and newest.finished_at is None else None


def backs_off(status: SpokeJobStatus) -> bool:
    """Whether the SpokeJob waits for the time of its next attempt.

    `nextAttemptAt` alone does not show this: it stays in the status after that time if something else prevents the
    attempt.
    """
    condition = _condition(status, ADMITTED)
    return condition is not None and condition.reason == WaitReason.BACKING_OFF


def blocked_since(status: SpokeJobStatus) -> datetime | None:
    """Return since when no Job can be created; None if one can."""
    condition = _condition(status, BLOCKED)
    return condition.last_transition_time if condition else None


def held_in_a_row(status: SpokeJobStatus) -> int:
    """Return how many consecutive attempts, counted back from the last, found their queue held."""
    ended = [item for item in reversed(status.attempts) if item.finished_at]
    return next((n for n, item in enumerate(ended) if item.cause != Cause.QUEUE_HELD), len(ended))


def charged_classes(charged: Mapping[str, int]) -> dict[CauseClass, int]:
    """Return the counts by class, without classes that this release does not know."""
    known = {item.value for item in CauseClass}
    return {CauseClass(name): count for name, count in charged.items() if name in known}


def _waiting(status: SpokeJobStatus, wait: Wait, now: datetime) -> WaitStatus:
    """Return the wait for the status. New details of the same reason are not worth a write: keep the old value."""
    known = status.waiting
    return known if known and known.code == wait.code[:40] and wait.retry_at is None else WaitStatus.of(wait, now)


def _sentences(message: str, advice: str) -> str:
    if not message or not advice:
        return message or advice
    room = _MESSAGE_LIMIT - len(advice) - 2  # a long message of Kubernetes is cut, the advice is not
    message = message if len(message) <= room else f"{message[: room - 3]}..."
    return f"{message}{'' if message.endswith(('.', '!', '?')) else '.'} {advice}"


def _charge(charged: Mapping[str, int], cause: str) -> dict[str, int]:
    kind = cause_class(cause)
    if kind is CauseClass.UNCHARGED:
        return dict(charged)
    return {**charged, kind.value: charged.get(kind.value, 0) + 1}


def _closed(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    *others, record = _with_pod(status.attempts, pod)
    record = record.model_copy(
        update={
            "finished_at": now,
            "cause": end.cause,
            "error_type": end.error_type[:200],
            "exit_code": end.exit_code,
        }
    )
    return status.model_copy(update={"attempts": (*others, record)})


def _with_pod(attempts: tuple[AttemptStatus, ...], pod: Pod | None) -> tuple[AttemptStatus, ...]:
    if pod is None:
        return attempts
    *others, record = attempts
    return (*others, record.model_copy(update={"pod": pod.meta.key.name, "node": pod.node or record.node}))


def _condition(status: SpokeJobStatus, kind: str) -> Condition | None:
    return next((item for item in status.conditions if item.type == kind), None)


def _marked(status: SpokeJobStatus, now: datetime, *marks: Mark) -> SpokeJobStatus:
    conditions = {item.type: item for item in status.conditions}
    for mark in marks:
        old = conditions.get(mark.kind)
        if old and (old.status, old.reason) == (mark.status, mark.reason):
            continue
        conditions[mark.kind] = Condition(
            type=mark.kind,
            status=mark.status,
            reason=mark.reason[:60],
            message=mark.message[:_MESSAGE_LIMIT],
            last_transition_time=old.last_transition_time if old and old.status == mark.status else now,
        )
    return status.model_copy(update={"conditions": tuple(conditions.values())})
