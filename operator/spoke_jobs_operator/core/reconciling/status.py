"""Transitions of a SpokeJob's status: each function takes the old status and returns the new one.

If nothing changes, the new status equals the old one, and no write follows. A new message alone causes no write: the
kubelet changes the wording of the same obstacle every few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import advice
from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.condition import MESSAGE_LIMIT, Condition
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, Outcome, SpokeJobStatus
from spoke_jobs.contract.retry import OWN_BACKOFF, GiveUp, TryAgain
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.wait_status import WaitStatus
from spoke_jobs_operator.core.diagnosis.attempt_state import STOPPING, Ended
from spoke_jobs_operator.core.diagnosis.scheduler_message import FITS_NOWHERE
from spoke_jobs_operator.core.objects.api_objects import Pod
from spoke_jobs_operator.core.standby.assignment import is_assigned, runs_since

ADMITTED = "Admitted"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FINISHED = "Finished"
BLOCKED = "Blocked"
"""Present only while no Job can be created. The start timeout counts from this condition's transition time."""

KEPT_ATTEMPTS = 10
_QUANTITY_LIMIT = 30
HELD = (Cause.QUEUE_HELD, Cause.START_PAUSED)
"""Why a pod ends without calling its job's function, and another one follows later."""

_NAMES_VARY = (*FITS_NOWHERE, WaitReason.CLUSTER_FULL)
"""The scheduler's words about these change often, while the pod waits for the same."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A condition without its time."""

    kind: str
    status: str
    reason: str
    message: str = ""


_UNFINISHED = (Mark(SUCCEEDED, "Unknown", "Unfinished"), Mark(FINISHED, "False", "Unfinished"))


def attempt_started(
    status: SpokeJobStatus,
    number: int,
    job: str,
    template: str,
    started_at: datetime,
    now: datetime,
    timeout_seconds: int | None = None,
    ends_at: datetime | None = None,
    lane: str = "",
) -> SpokeJobStatus:
    """Record that the attempt's Job exists.

    :param ends_at: when the attempt ends if its pod does not run.
    :param lane: `standby` if the Job is that of a standby pod; else empty.
    """
    record = AttemptStatus(
        number=number, job=job, template=template, lane=lane, started_at=started_at, timeout_seconds=timeout_seconds
    )
    return _marked(
        status.model_copy(
            update={
                "outcome": Outcome.WAITING,
                "cause": "",
                "waiting": _waiting(status, Wait(WaitReason.POD_PENDING, ends_at=ends_at), now),
                "attempt": number,
                "next_attempt_at": None,
                "attempts": (*status.attempts, record)[-KEPT_ATTEMPTS:],
                "conditions": tuple(item for item in status.conditions if item.type != BLOCKED),
            }
        ),
        now,
        Mark(ADMITTED, "True", "JobCreated", f"attempt {number} has its Job"),
        Mark(RUNNING, "False", WaitReason.POD_PENDING),
        *_UNFINISHED,
    )


def attempt_pends(status: SpokeJobStatus, wait: Wait, now: datetime) -> SpokeJobStatus:
    """Record why the attempt's pod waits."""
    cause = "" if wait.code == WaitReason.POD_PENDING else wait.code
    # A quota refuses the same pod repeatedly, and some of its messages name no quota. Those are not worth a write.
    by_object = bool(wait.object) if wait.code == WaitReason.QUOTA_EXCEEDED else wait.code not in _NAMES_VARY
    waiting = _waiting(status, wait, now, by_object=by_object)
    updated = status.model_copy(update={"outcome": Outcome.WAITING, "cause": cause, "waiting": waiting})
    renewed = () if waiting is status.waiting and not _is_first_word(status, wait) else (RUNNING,)
    return _marked(updated, now, Mark(RUNNING, "False", wait.code, wait_text.sentence(wait)), renewed=renewed)


def _is_first_word(status: SpokeJobStatus, wait: Wait) -> bool:
    """Whether the kubelet now says why a sidecar does not start, and the status has no word of it yet."""
    if wait.code != WaitReason.SIDECAR_STARTING or not wait.detail:
        return False
    known = status.condition(RUNNING)
    return known is not None and known.message == wait_text.sentence(replace(wait, detail=""))


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
    attempts = _with_end(_with_pod(status.attempts, pod), end)
    updated = status.model_copy(update={"cause": end.cause, "waiting": None, "attempts": attempts})
    running = status.condition(RUNNING)
    return _marked(updated, now, Mark(RUNNING, running.status if running else "False", STOPPING, end.message))


def attempt_succeeded(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record that the attempt, and therefore the job, has succeeded."""
    return finished(_closed(status, end, pod, now), "", now)


def attempt_failed(
    status: SpokeJobStatus, end: Ended, pod: Pod | None, verdict: TryAgain | GiveUp, now: datetime, job_id: int
) -> SpokeJobStatus:
    """Record that the attempt has failed, and whether another one follows."""
    closed = _closed(status, end, pod, now)
    closed = closed.model_copy(update=_charge(status, end.cause))
    if isinstance(verdict, GiveUp):
        return finished(closed, end.cause, now, end.message, job_id=job_id, reason=end.reason)
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
        *_UNFINISHED,
    ]
    renewed = () if updated.waiting is status.waiting else (ADMITTED,)  # the message may name another object
    return _marked(
        updated, now, *marks, *([Mark(BLOCKED, "True", wait.code, message)] if blocked else []), renewed=renewed
    )


def finished(
    status: SpokeJobStatus,
    cause: str,
    now: datetime,
    message: str = "",
    *,
    job_id: int | None = None,
    reason: str = "",
) -> SpokeJobStatus:
    """Record that the job is final: succeeded if ``cause`` is empty, else failed.

    :param job_id: the job's id, for the advice; None if it can't be read.
    :param reason: what the job waited for until it ended as `StartTimeout`.
    """
    updated = status.model_copy(
        update={
            "outcome": Outcome.FAILED if cause else Outcome.SUCCEEDED,
            "cause": cause,
            "message": message[:MESSAGE_LIMIT],
            "reason": reason[:40],
            "waiting": None,
            "next_attempt_at": None,
            "finished_at": status.finished_at or now,
            "conditions": tuple(item for item in status.conditions if item.type != BLOCKED),
        }
    )
    text = _sentences(message, advice(cause, reason, job_id))
    return _marked(
        updated,
        now,
        Mark(RUNNING, "False", "Finished"),
        Mark(SUCCEEDED, "False" if cause else "True", cause or "Succeeded", text),
        Mark(FINISHED, "True", cause or "Succeeded", text),
    )


def attempt_closed(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    """Record that the open attempt, if any, has ended. It is not charged."""
    record = status.open_attempt
    return _closed(status, end, pod, now) if record else status


def newly_ended(old: SpokeJobStatus, new: SpokeJobStatus) -> list[AttemptStatus]:
    """Return the record of the attempt that has ended between two statuses, if one has."""
    return [item for item in new.attempts[-1:] if item.finished_at and item not in old.attempts]


def backs_off(status: SpokeJobStatus) -> bool:
    """Whether the SpokeJob waits for the time of its next attempt.

    `nextAttemptAt` alone does not show this: it stays in the status after that time if something else prevents the
    attempt.
    """
    condition = status.condition(ADMITTED)
    return condition is not None and condition.reason == WaitReason.BACKING_OFF


def blocked_since(status: SpokeJobStatus) -> datetime | None:
    """Return since when no Job can be created; None if one can."""
    condition = status.condition(BLOCKED)
    return condition.last_transition_time if condition else None


def held_in_a_row(status: SpokeJobStatus) -> int:
    """Return how many consecutive attempts, counted back from the last, found their queue held or the job paused."""
    ended = [item for item in reversed(status.attempts) if item.finished_at]
    return next((n for n, item in enumerate(ended) if item.cause not in HELD), len(ended))


def failures_by_class(status: SpokeJobStatus) -> dict[CauseClass, int]:
    """Return how many attempts failed, charged or not, without the classes that this release does not know."""
    known = {item.value for item in CauseClass}
    return {CauseClass(name): count for name, count in _failures(status).items() if name in known}


def _waiting(status: SpokeJobStatus, wait: Wait, now: datetime, *, by_object: bool = False) -> WaitStatus:
    """Return the new value of `status.waiting`.

    Keep the old value if the reason is the same and there is no retry time: new details alone are not worth a write.
    That the database is away again is worth one: the text says since when.

    :param by_object: whether another object with the same reason, such as the next init container, is worth a write.
    """
    known, new = status.waiting, WaitStatus.of(wait, wait.since or now)
    if known is None or not known.shows(wait) or (by_object and known.names != new.names):
        return new
    return new if wait.code == WaitReason.DATABASE_AWAY and _is_later(wait.since, known.since) else known


def _is_later(moment: datetime | None, other: datetime | None) -> bool:
    return moment is not None and other is not None and moment > other


def _sentences(message: str, then: str) -> str:
    if not message or not then:
        return message or then
    room = MESSAGE_LIMIT - len(then) - 2  # a long message of Kubernetes is cut, the advice is not
    message = message if len(message) <= room else f"{message[: room - 3]}..."
    return f"{message}{'' if message.endswith(('.', '!', '?')) else '.'} {then}"


def _failures(status: SpokeJobStatus) -> Counter[str]:
    return Counter(status.charged) + Counter(status.not_charged)


def _charge(status: SpokeJobStatus, cause: str) -> dict[str, dict[str, int]]:
    """Return the fields that count failed attempts, after one more.

    An older operator counted all classes in `charged`. The classes that are not charged move to their own field.
    """
    failures, kind = _failures(status), cause_class(cause)
    if kind is not CauseClass.UNCHARGED:
        failures[kind.value] += 1
    apart = {name for name in failures if name in status.not_charged or name in OWN_BACKOFF}
    return {
        "charged": {name: count for name, count in failures.items() if name not in apart},
        "not_charged": {name: count for name, count in failures.items() if name in apart},
    }


def _closed(status: SpokeJobStatus, end: Ended, pod: Pod | None, now: datetime) -> SpokeJobStatus:
    attempts = _with_end(_with_pod(status.attempts, pod, at_the_end=True), end, finished_at=now)
    return status.model_copy(update={"attempts": attempts})


def _with_end(
    attempts: tuple[AttemptStatus, ...], end: Ended, finished_at: datetime | None = None
) -> tuple[AttemptStatus, ...]:
    """Note in the newest record how it has ended, or will end."""
    *others, record = attempts
    noted = {
        "finished_at": finished_at,
        "cause": end.cause,
        "error_type": end.error_type[:200],
        "exit_code": end.exit_code,
        "container": end.container,
        "message": end.message[:MESSAGE_LIMIT],
        "reason": end.reason[:40],
    }
    return (*others, record.model_copy(update=noted))


def _with_pod(
    attempts: tuple[AttemptStatus, ...], pod: Pod | None, *, at_the_end: bool = False
) -> tuple[AttemptStatus, ...]:
    """Note in the newest record its pod, and what the pod says of its times and its memory.

    The latter is noted with the pod's name and at the attempt's end, and not in between: after an upgrade of the
    operator, no status of a running attempt is written for it alone.
    """
    if pod is None:
        return attempts
    *others, record = attempts
    noted: dict[str, object] = {"pod": pod.meta.key.name, "node": pod.node or record.node}
    if at_the_end or not record.pod:
        began = pod.container_began
        noted |= {
            # A standby pod was there before the attempt.
            "scheduled_at": record.scheduled_at or (None if is_assigned(record) else pod.scheduled_at),
            "runs_since": record.runs_since or (None if began is None else runs_since(record, began)),
            "memory_request": record.memory_request or pod.memory_request[:_QUANTITY_LIMIT],
            "memory_limit": record.memory_limit or pod.memory_limit[:_QUANTITY_LIMIT],
        }
    return (*others, record.model_copy(update=noted))


def _marked(status: SpokeJobStatus, now: datetime, *marks: Mark, renewed: Collection[str] = ()) -> SpokeJobStatus:
    """Set the conditions.

    :param renewed: those whose message is written even if status and reason stay the same.
    """
    conditions = {item.type: item for item in status.conditions}
    for mark in marks:
        old = conditions.get(mark.kind)
        if old and (old.status, old.reason) == (mark.status, mark.reason) and mark.kind not in renewed:
            continue
        conditions[mark.kind] = Condition(
            type=mark.kind,
            status=mark.status,
            reason=mark.reason[:60],
            message=mark.message[:MESSAGE_LIMIT],
            last_transition_time=old.last_transition_time if old and old.status == mark.status else now,
        )
    return status.model_copy(update={"conditions": tuple(conditions.values())})
