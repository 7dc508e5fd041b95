"""What a random series of kills consists of, and what must be true once all jobs have ended. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER, Lane
from spoke_jobs.model import AttemptState, JobState

Object = dict[str, Any]
T = TypeVar("T")


class Victim(StrEnum):
    """What is killed."""

    OPERATOR = "a replica of the operator"
    SYNC = "sync"
    WORKER = "a worker"
    CHILD = "a child process of a worker"
    FREE = "a free standby pod"
    ATTEMPT = "the pod of an attempt"


KILLS: Mapping[Victim, int] = {
    Victim.OPERATOR: 10,  # if it leads, nothing starts in the 15 s until its Lease has lapsed
    Victim.SYNC: 10,
    Victim.WORKER: 20,
    Victim.CHILD: 60,
    Victim.FREE: 30,
    Victim.ATTEMPT: 70,
}
JOBS: Mapping[Lane, int] = {Lane.POD: 150, Lane.STANDBY: 150, Lane.WORKER: 1700}
"""Each pod costs about two seconds of processor time, and a job in a worker a few hundredths."""


def shuffled(counts: Mapping[T, int], chance: random.Random) -> list[T]:
    """Return each key as often as its count says, in random order."""
    items = [key for key, count in counts.items() for _ in range(count)]
    chance.shuffle(items)
    return items


def kills_due(dispatched: int, jobs: int, kills: int, spare: int) -> int:
    """Return how many kills are due once so many of the jobs have been dispatched.

    They are spread evenly. The last one is due while ``spare`` jobs are still to be dispatched.
    """
    return min(kills, kills * dispatched // (jobs - spare))


class EndedJob(NamedTuple):
    """A job's row, once it is final."""

    id: int
    state: str
    cause: str
    runner: str


class LedgerAttempt(NamedTuple):
    """An attempt in the ledger of a job whose row is final."""

    job_id: int
    run: int
    number: int
    state: str
    cause: str
    runner: str


@dataclass(frozen=True)
class Verdict:
    """What went wrong, as text."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    without_cause: tuple[str, ...] = ()


@dataclass
class Evidence:
    """What is known of the jobs."""

    dispatched: dict[int, Lane] = field(default_factory=dict)
    """The lanes that were asked for, by job id."""
    jobs: dict[int, EndedJob] = field(default_factory=dict)
    """By id."""
    attempts: list[LedgerAttempt] = field(default_factory=list)
    spokejobs: dict[str, Object] = field(default_factory=dict)
    """By name. They stay for a week."""
    effects: dict[int, int] = field(default_factory=dict)
    """How many rows the jobs have left, by job id."""

    def unfinished(self) -> list[int]:
        """Return the ids of the jobs that are not known to have ended."""
        return [job_id for job_id in self.dispatched if job_id not in self.jobs]

    def verdict(self) -> Verdict:
        """Return what was lost or doubled, or has ended without a cause."""
        return Verdict(tuple(self._lost()), tuple(self._doubled()), tuple(self._without_cause()))

    def failures(self) -> Counter[tuple[str, str]]:
        """Count the attempts that did not succeed, by lane and cause, also those that claimed nothing in the ledger."""
        found: dict[tuple[int, int, int], tuple[str, str]] = {}
        for item in self.attempts:
            if item.state != AttemptState.SUCCEEDED:
                lane = Lane.WORKER if item.runner == LANE_RUNNER else Lane.POD
                found[item.job_id, item.run, item.number] = lane, item.cause
        succeeded = {(item.job_id, item.run, item.number) for item in self.attempts} - found.keys()
        for spokejob in self.spokejobs.values():
            for attempt in _attempts(spokejob):
                key = _job_id(spokejob), int(spokejob["spec"].get("run", 1)), int(attempt["number"])
                if attempt.get("cause") and key not in succeeded:
                    found[key] = attempt.get("lane") or Lane.POD.value, attempt["cause"]
        return Counter((str(lane), cause) for lane, cause in found.values())

    def in_standby_pods(self) -> int:
        """Return how many attempts got a standby pod."""
        return sum(item.get("lane") == Lane.STANDBY for each in self.spokejobs.values() for item in _attempts(each))

    def moved(self) -> int:
        """Return how many jobs of the lane `worker` have moved to pods."""
        lanes = self.dispatched
        return sum(job.runner == CLUSTER_RUNNER and lanes.get(job.id) is Lane.WORKER for job in self.jobs.values())

    def _lost(self) -> Iterator[str]:
        succeeded = {item.job_id for item in self.attempts if item.state == AttemptState.SUCCEEDED}
        by_job = Counter(map(_job_id, self.spokejobs.values()))
        for job_id, lane in self.dispatched.items():
            job = self.jobs.get(job_id)
            if job is None:
                yield f"job {job_id} ({lane}) has no end"
            elif job.state != JobState.SUCCEEDED:
                yield f"job {job_id} ({lane}) has {job.state}: {job.cause or 'no cause'}"
            else:
                if not self.effects.get(job_id):
                    yield f"job {job_id} ({lane}) has succeeded without its row"
                if job_id not in succeeded:
                    yield f"job {job_id} ({lane}) has succeeded without an attempt that has"
                if job.runner == CLUSTER_RUNNER and not by_job[job_id]:
                    yield f"job {job_id} ({lane}) had no SpokeJob"
        for name, item in self.spokejobs.items():
            status = item.get("status", {})
            said = status.get("outcome"), status.get("ledger")
            if said != (Outcome.SUCCEEDED, LedgerState.SUCCEEDED):
                yield f"SpokeJob {name} says {said}"

    def _doubled(self) -> Iterator[str]:
        for job_id, count in self.effects.items():
            job = self.jobs.get(job_id)
            most = 1 if job is not None and job.state == JobState.SUCCEEDED else 0
            if count > most:
                yield f"job {job_id} has left {count} rows, {most} expected"
        successes = Counter(item.job_id for item in self.attempts if item.state == AttemptState.SUCCEEDED)
        yield from (
            f"{count} attempts of job {job_id} have succeeded" for job_id, count in successes.items() if count > 1
        )
        for job_id, count in Counter(map(_job_id, self.spokejobs.values())).items():
            job = self.jobs.get(job_id)
            most = 1 if job is not None and job.runner == CLUSTER_RUNNER else 0
            if count > most:
                yield f"job {job_id} had {count} SpokeJobs, {most} expected"

    def _without_cause(self) -> Iterator[str]:
        for item in self.attempts:
            which = f"attempt {item.run}.{item.number} of job {item.job_id}"
            if item.state not in (AttemptState.SUCCEEDED, AttemptState.FAILED):
                yield f"{which} is {item.state}"
            elif item.state == AttemptState.FAILED and item.cause not in CAUSES:
                yield f"{which} has failed: {item.cause or 'no cause'}"
        for name, spokejob in self.spokejobs.items():
            attempts = _attempts(spokejob)
            success = spokejob.get("status", {}).get("outcome") == Outcome.SUCCEEDED
            for attempt in attempts:
                cause = attempt.get("cause", "")
                is_success = success and attempt is attempts[-1] and not cause
                if cause not in CAUSES and not is_success:
                    yield f"attempt {attempt['number']} of SpokeJob {name}: {cause or 'no cause'}"


def _job_id(spokejob: Object) -> int:
    return int(spokejob["spec"]["requestId"])


def _attempts(spokejob: Object) -> list[Object]:
    found: list[Object] = spokejob.get("status", {}).get("attempts", [])
    return found
