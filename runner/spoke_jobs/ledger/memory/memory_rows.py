"""The rows of the ledger in memory, and the changes that several transitions share."""

from __future__ import annotations

import threading
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import event

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.claim_turns import DueJob, LastTurns, Organization
from spoke_jobs.ledger.claims.eligibility import Condition, Facts, Open, QueueFree, all_hold, of_claim
from spoke_jobs.ledger.columns.clock import FixedClock
from spoke_jobs.ledger.dependencies.dependency_rules import failure_of, failure_of_batch
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.lifecycle.checkpoints import in_order
from spoke_jobs.ledger.lifecycle.on_failure import after_final_failure
from spoke_jobs.ledger.lifecycle.transitions import LiveAttempt
from spoke_jobs.ledger.memory.memory_batches import MemoryBatches
from spoke_jobs.ledger.memory.memory_dependencies import MemoryDependencies, needed
from spoke_jobs.ledger.memory.memory_limits import MemoryLimits
from spoke_jobs.ledger.port import AttemptOver
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import (
    Attempt,
    AttemptState,
    Claim,
    Failure,
    JobRequest,
    JobState,
    NewJob,
    Saved,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt, with the columns that :class:`Attempt` does not have."""

    attempt: Attempt
    token: UUID
    for_good: bool = False

    @property
    def running(self) -> bool:
        return self.attempt.state is AttemptState.RUNNING

    def live(self, now: datetime) -> LiveAttempt:
        return LiveAttempt(self.token, self.attempt.number, (self.attempt.lease_expires_at - now).total_seconds())


_utc_now = partial(datetime.now, UTC)


class MemoryRows(ABC):
    """Jobs, attempts, queue locks, checkpoints and dependencies. Safe to share between threads."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._last_id = 0
        self._jobs: dict[int, JobRequest] = {}
        self._attempts: dict[int, list[AttemptRow]] = {}
        self._queue_locks: dict[str, UUID] = {}
        self._saved: dict[int, dict[str, Saved]] = {}
        self._replacing: dict[int, tuple[JobRequest, NewJob, transitions.Changes]] = {}
        self.limits = MemoryLimits(self._lock, now)
        self._dependencies = MemoryDependencies(self._jobs)
        self._batches = MemoryBatches()
        self._turns = LastTurns()

    def save(self, session: Session | None, token: UUID, values: Mapping[str, str]) -> None:
        """Save values as soon as the session has committed."""
        with self._lock:
            attempt = self._claimed(token)
            if session is not None:
                event.listen(session, "after_commit", lambda _session: self.save(None, token, values), once=True)
                return
            at = self._now()
            rows = {name: Saved(name, value, attempt.run, attempt.number, at) for name, value in values.items()}
            self._saved.setdefault(attempt.job_id, {}).update(rows)

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what the job's attempts have saved."""
        with self._lock:
            return sorted(self._saved.get(job_id, {}).values(), key=in_order)

    @abstractmethod
    def insert(self, new: NewJob) -> JobRequest:
        """Write a job."""

    def _facts(self) -> Facts:
        return Facts(self._now(), self._queue_locks)

    def _claimable(self, request: ClaimRequest, closed: Closed) -> list[DueJob]:
        """Return the jobs that a claim may start now."""
        found = self._fulfilling(*of_claim(request), Open(closed))
        return [DueJob(job.id, -job.priority, job.organization_id) for job in found]

    def _fulfilling(self, *conditions: Condition) -> list[JobRequest]:
        facts = self._facts()
        return [job for job in self._jobs.values() if all_hold(conditions, job, facts)]

    def _running(self) -> Counter[Organization]:
        """Count the running jobs by organization."""
        return Counter(job.organization_id for job in self._jobs.values() if job.state is JobState.RUNNING)

    def _is_locked(self, job: JobRequest) -> bool:
        return not QueueFree().holds(job, self._facts())

    def _await(self, job_id: int, ids: Iterable[int]) -> None:
        """Let a job wait for the end of others."""
        for other in ids:
            self._change(other, {"awaited": True})
            self._dependencies.open.add((job_id, other))

    def _give_up(self, job_id: int, failure: Failure) -> JobRequest:
        self._fail_for_good(job_id, failure)
        self._settle(job_id)
        return self._jobs[job_id]

    def _fail_for_good(self, job_id: int, failure: Failure) -> None:
        retention = self._jobs[job_id].options.retention_seconds
        self._change(job_id, transitions.job_failed(self._clock(), failure, retention) | {"open_dependencies": 0})
        if (following := after_final_failure(self._jobs[job_id])) is not None:
            self.insert(following)

    def _settle(self, job_id: int) -> None:
        """Unblock or fail the jobs that depend on a job that has ended."""
        outcome = self._dependencies.after_end(job_id)
        for one, because_of in outcome.failed.items():
            self._fail_for_good(one, failure_of(needed(self._jobs[because_of])))
        for one, waits in outcome.open.items():
            self._count_down(one, waits)
        for one in (job_id, *outcome.failed):
            job = self._jobs[one]
            self._change(one, {"awaited": False, "batch_open": False})
            if job.batch_open and job.batch_id is not None:
                self._finish_if_over(self._batches.count_end(job.batch_id, failed=job.state is JobState.FAILED))

    def _finish_if_over(self, batch: Batch) -> None:
        if not batch.over or batch.finished_at is not None:
            return
        self._batches.change(batch.id, finished_at=self._now())
        then = self._jobs.get(batch.then_id or 0)
        if then is None or then.state is not JobState.BLOCKED:
            return
        if batch.failed and batch.on_failed != "run":
            self._give_up(then.id, failure_of_batch(batch))
        else:
            self._count_down(then.id, then.open_dependencies - 1)

    def _count_down(self, job_id: int, waits: int) -> None:
        clock = self._clock()
        times = transitions.unblocked_times(clock, self._jobs[job_id])
        self._change(job_id, {"open_dependencies": waits} if waits else transitions.job_unblocked(clock, *times))

    def _holder(self, unique_key: str | None) -> JobRequest | None:
        """The unfinished job with the key."""
        if unique_key is None:
            return None
        unfinished = (job for job in self._jobs.values() if not job.state.final)
        return next((job for job in unfinished if job.unique_key == unique_key), None)

    def _earlier(self, new: NewJob) -> JobRequest | None:
        """The job that a dispatch with the same key returns, with the changes that :meth:`_replace` makes."""
        clock = self._clock()
        job = self._holder(new.unique_key)
        if new.unique_for is not None:
            since = self._now() - timedelta(seconds=new.unique_for)
            of_key = (one for one in self._jobs.values() if one.unique_key == new.unique_key)
            recent = [one for one in of_key if one.state is JobState.SUCCEEDED and one.created_at > since]
            job = max([*recent, *([job] if job else [])], key=lambda one: one.id, default=None)
        if job is None or not transitions.may_be_replaced(job, new):
            return job
        fixed, seconds = transitions.start_deadline(new)
        changes = transitions.job_replaced(clock, job, new, fixed or clock.after(seconds))
        replaced = job.evolve(**changes)
        self._replacing[job.id] = (replaced, new, changes)
        return replaced

    def _replace(self, job: JobRequest) -> JobRequest:
        """Make the changes to a job that has been dispatched again, as a commit does."""
        replaced, new, changes = self._replacing.get(job.id, (None, None, {}))
        if job is replaced and new is not None:
            del self._replacing[job.id]
            if transitions.may_be_replaced(self._jobs[job.id], new):
                return self._change(job.id, changes)
        return self._jobs[job.id]

    def _start(self, job: JobRequest, number: int, worker: str, lease_seconds: float) -> Claim:
        clock, token = self._clock(), uuid.uuid4()
        given = transitions.new_attempt(clock, job.id, job.run, number, job.runner, job.due_at, worker, lease_seconds)
        attempt = Attempt(**given)
        self._attempts[job.id].append(AttemptRow(attempt, token))
        if job.locks_queue:
            self._queue_locks[job.queue_name] = token
        started = self._change(job.id, transitions.job_claimed(clock, number, job.started_at))
        return Claim(started, number, token, lease_seconds, due_at=job.due_at)

    def _take_over(self, job: JobRequest, live: AttemptRow, worker: str, lease_seconds: float) -> Claim:
        token = uuid.uuid4()
        self._change_attempt(live, transitions.attempt_claimed(self._clock(), worker, lease_seconds), token)
        if job.locks_queue:
            self._queue_locks[job.queue_name] = token
        return Claim(job, live.attempt.number, token, lease_seconds)

    def _ended(self, job: JobRequest, number: int) -> AttemptOver | None:
        for row in self._attempts[job.id]:
            attempt = row.attempt
            if attempt.run == job.run and attempt.number == number:
                return AttemptOver(Failure(attempt.cause, error_type=attempt.error_type, for_good=row.for_good))
        return None

    def _charged(self, before: Attempt) -> Mapping[CauseClass, int]:
        attempts = [row.attempt for row in self._attempts[before.job_id]]
        earlier = [attempt for attempt in attempts if attempt.run == before.run and attempt.number < before.number]
        failed = Counter(attempt.cause for attempt in earlier if attempt.state is AttemptState.FAILED)
        return transitions.charged(failed.items())

    def _find(self, token: UUID, *states: AttemptState) -> AttemptRow | None:
        rows = (row for rows in self._attempts.values() for row in rows if row.token == token)
        return next((row for row in rows if row.attempt.state in (states or (AttemptState.RUNNING,))), None)

    def _claimed(self, token: UUID) -> Attempt:
        if (row := self._find(token)) is None:
            raise transitions.superseded()
        return row.attempt

    def _forget(self, job_id: int) -> None:
        """Delete a job's rows."""
        del self._jobs[job_id], self._attempts[job_id]
        self._saved.pop(job_id, None)
        self._dependencies.forget(job_id)

    def _release_queue(self, token: UUID) -> None:
        self._queue_locks = {name: holder for name, holder in self._queue_locks.items() if holder != token}

    def _clock(self) -> FixedClock:
        return FixedClock(self._now())

    def _change(self, job_id: int, changes: transitions.Changes) -> JobRequest:
        job = self._jobs[job_id] = self._jobs[job_id].evolve(**changes)
        return job

    def _change_attempt(self, row: AttemptRow, changes: transitions.Changes, token: UUID | None = None) -> None:
        for_good = changes.pop("for_good", row.for_good)
        rows = self._attempts[row.attempt.job_id]
        rows[rows.index(row)] = AttemptRow(replace(row.attempt, **changes), token or row.token, for_good)
