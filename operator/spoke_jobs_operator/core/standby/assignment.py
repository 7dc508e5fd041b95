"""Decide the next step of an attempt that was assigned to a standby pod, from what is recorded and observed.

The steps, each with what the next leader finds if this one stops right after it:

1. The SpokeJob's status names the pod's Job as that of its newest attempt. The write requires that the SpokeJob is
   unchanged. *The next leader goes on with step 2.*
2. The Job gets the SpokeJob as its owner, and the attempt's labels. The write requires that the Job is unchanged, so
   one SpokeJob at most gets it. *The next leader goes on with step 3.*
3. The pod gets the attempt's labels. Policies that select pods by them know the pod before the job begins, and a pod
   that may run the attempt is found by them. *The next leader does that.*
4. The operator tells the pod which attempt it has. The pod accepts one attempt, and accepts it again. *The next leader
   tells it again. The pod may run the attempt already, so it is told until the start timeout before it is given up.*

From then on, the attempt is like one in a pod of its own. If the pod ends, does not answer, or belongs to another
SpokeJob before it was told, or if the steps 2 and 3 are not done by the start timeout, the attempt ends as
`StandbyLost`, and the next one gets a pod of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus
from spoke_jobs.contract.executors import Lane
from spoke_jobs_operator.core.diagnosis.pod_end import end_of
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, Job, Pod, Terminated


class Told(Enum):
    """What this process knows of step 4."""

    NOT_YET = "not yet"
    """Nothing: an earlier leader may have done it."""
    DONE = "done"
    FAILED = "failed"
    """The pod refuses the attempt, several requests failed, or the API server refuses a step."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What is observed of an assigned attempt."""

    job: Job | None
    """The Job that the attempt's record names."""
    pod: Pod | None
    """Its pod."""
    told: Told = Told.NOT_YET
    tell_at: datetime | None = None
    """When to tell the pod again that has not answered."""
    untold: bool = False
    """Whether nobody has told the pod: this process took the Job, and connected to the pod in vain or not at all."""
    refusal: str = ""
    """What the API server answered to the last step, if it refused it."""


class Step(StrEnum):
    """What to do next."""

    TAKE = "take"
    """Make the SpokeJob the owner of the Job."""
    LABEL = "label"
    """Label the pod."""
    TELL = "tell"
    """Tell the pod."""
    READ = "read"
    """Read the Job live: what is known of it may be old."""
    LOSE = "lose"
    """End the attempt: no pod takes it."""


def is_assigned(record: AttemptStatus) -> bool:
    """Whether an attempt was assigned to a standby pod."""
    return record.lane == Lane.STANDBY


def runs_since(record: AttemptStatus, container_began: datetime) -> datetime:
    """Return since when a container has run the attempt. That of a standby pod began before it had one."""
    if is_assigned(record) and record.started_at is not None:
        return max(container_began, record.started_at)
    return container_began


def ran_seconds(record: AttemptStatus, container: Terminated) -> float | None:
    """Return for how long a container ran the attempt; None if the kubelet does not say."""
    if container.started_at is None or container.ended_at is None:
        return None
    return max(0.0, (container.ended_at - runs_since(record, container.started_at)).total_seconds())


def next_steps(record: AttemptStatus, owner: str, seen: Handover, *, live: bool) -> tuple[Step, ...]:
    """Return the steps to do now, in order. None are left once the attempt is like one in a pod of its own.

    :param owner: the UID of the SpokeJob.
    :param live: whether the objects were just read live, so that a missing Job does not exist, and one that is not the
        attempt's own belongs to another SpokeJob or is free.
    """
    job, pod = seen.job, seen.pod
    is_own = job is not None and job.owner == owner and job.attempt == record.number
    lacks_labels = is_own and job is not None and pod is not None and pod.spokejob != job.spokejob
    label = (Step.LABEL,) if lacks_labels and seen.told is not Told.FAILED else ()  # not refused for good
    if record.pod:  # it was told before
        return label
    if job is None:
        return (Step.LOSE,) if live else (Step.READ,)
    has_ended = _has_ended(job, pod)
    if is_own:
        if has_ended:  # how it ended says more than whether it was told
            return (Step.LOSE,) if seen.untold else label
        return {Told.NOT_YET: (*label, Step.TELL), Told.DONE: label, Told.FAILED: (Step.LOSE,)}[seen.told]
    is_free = job.spokejob.name == STANDBY_POOL and pod is not None and not has_ended
    if is_free and seen.told is not Told.FAILED:
        return (Step.TAKE, Step.LABEL, Step.TELL)
    return (Step.LOSE,) if live else (Step.READ,)


def _has_ended(job: Job, pod: Pod | None) -> bool:
    if job.finished or job.failing or job.meta.deletion_at is not None:
        return True
    return pod is not None and (pod.meta.deletion_at is not None or end_of(pod) is not None)
