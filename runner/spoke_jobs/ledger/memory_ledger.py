"""The ledger in memory, for tests without a database. It passes the same contract suite as ``sql_ledger``."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.ledger import transitions
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NotThisAttempt, QueueHeld, Refusal
from spoke_jobs.ledger.transitions import LiveAttempt
from spoke_jobs.model import (
    ANY_JOB,
    Attempt,
    AttemptState,
    Claim,
    Failure,
    JobFilter,
    JobRequest,
    JobState,
    NewJob,
    Progress,
    Pulse,
    after_final_failure,
)
from spoke_jobs.type_names import is_known


@dataclass(frozen=True, slots=True)
class _AttemptRow:
    """An attempt, with the columns that :class:`Attempt` does not have."""

    attempt: Attempt
    token: UUID
    for_good: bool = False

    @property
    def running(self) -> bool:
        return self.attempt.state is AttemptState.RUNNING

    def live(self, now: datetime) -> LiveAttempt:
        return LiveAttempt(self.token, self.attempt.number, (self.attempt.lease_expires_at - now).total_seconds())


@dataclass(frozen=True, slots=True)
class _FixedClock:
    """One time for a whole transition."""

    time: datetime

    def now(self) -> datetime:
        return self.time

    def after(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.time + timedelta(seconds=seconds)


_utc_now = partial(datetime.now, UTC)


class MemoryLedger:
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._last_id = 0
        self._jobs: dict[int, JobRequest] = {}
        self._attempts: dict[int, list[_AttemptRow]] = {}
        self._queue_locks: dict[str, UUID] = {}

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job. If an unfinished job has its unique key, return that one instead."""
        with self._lock:
            return self.publish(self.reserve(new))

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs."""
        with self._lock:
            # In the order of the SQL ledger: unique keys first, sorted.
            order = sorted(
                range(len(new)), key=lambda index: (new[index].unique_key is None, new[index].unique_key or "", index)
            )
            written = {index: self.insert(new[index]) for index in order}
            return [written[index] for index in range(len(new))]

    def publish(self, job: JobRequest) -> JobRequest:
        """Make a reserved job visible, as a commit does. If another unfinished job has its key, return that one."""
        with self._lock:
            if job.id in self._jobs:
                return self._jobs[job.id]
            if (holder := self._holder(job.unique_key)) is not None:
                return holder
            self._jobs[job.id] = job
            self._attempts[job.id] = []
            return job

    def reserve(self, new: NewJob) -> JobRequest:
        """Make a job with an id that is not visible yet, as in an open transaction."""
        with self._lock:
            self._last_id += 1  # used up even if no job is written, like a database's sequence
            if (holder := self._holder(new.unique_key)) is not None:
                return holder
            clock = self._clock()
            fixed, seconds = transitions.start_deadline(new)
            return transitions.new_request(
                transitions.dispatched(new),
                id=self._last_id,
                uid=uuid.uuid4(),
                created_at=clock.now(),
                updated_at=clock.now(),
                start_by=fixed or clock.after(seconds),
            )

    def get(self, job_id: int) -> JobRequest | None:
        """Get the job with that id."""
        with self._lock:
            return self._jobs.get(job_id)

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """Get the job's attempts, oldest first."""
        with self._lock:
            return [row.attempt for row in self._attempts.get(job_id, [])]

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first."""
        with self._lock:
            return [job for job in sorted(self._jobs.values(), key=lambda job: -job.id) if which.fits(job)][:limit]

    def claim_batch(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int = 1
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types, by priority, then by age."""
        granted: list[Claim] = []
        with self._lock:
            now = self._now()
            for job in sorted(self._jobs.values(), key=lambda job: (-job.priority, job.id)):
                if len(granted) == limit:
                    break
                if (
                    job.state is JobState.WAITING
                    and job.runner == runner
                    and is_known(job.job_type, types)
                    and (job.run_after is None or job.run_after <= now)
                    and (job.start_by is None or job.attempt > 0 or job.start_by > now)
                    and not (job.locks_queue and job.queue_name in self._queue_locks)
                ):
                    granted.append(self._start(job, job.attempt + 1, worker, lease_seconds))
        return granted

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""
        with self._lock:
            job, now = self._jobs.get(job_id), self._now()
            row = next((row for row in self._attempts.get(job_id, []) if row.running), None)
            live = row.live(now) if row is not None else None
            if (refusal := transitions.claim_refusal(job, uid, run, number, live)) is not None:
                return refusal
            assert job is not None
            if row is not None and row.attempt.number == number:
                return self._take_over(job, row, worker, lease_seconds)
            if row is not None:
                self.fail(row.token, transitions.WORKER_LOST, decide=False)
                job = self._jobs[job_id]
                if job.state.final:  # its cancellation had been requested
                    return AlreadyFinal(job)
            elif number <= job.attempt:
                return self._ended(job, number) or NotThisAttempt()
            if job.locks_queue and job.queue_name in self._queue_locks:
                return QueueHeld()
            return self._start(job, number, worker, lease_seconds)

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""
        with self._lock:
            row = self._find(token)
            if row is None:
                return Pulse.GONE
            clock, job_id = self._clock(), row.attempt.job_id
            self._change_attempt(row, transitions.lease_renewed(clock, lease_seconds))
            if progress is not None:
                message = transitions.storable(progress.message)
                self._change(job_id, transitions.job_progressed(clock, progress.percent, message))
            return Pulse.HELD if self._jobs[job_id].cancel_requested_at is None else Pulse.CANCELLED

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress."""
        return {token: self.heartbeat(token, lease_seconds, given) for token, given in progress.items()}

    def fence(self, session: Session, token: UUID) -> None:
        """Check that the claim is valid now. It may become invalid before the commit: memory has no transactions."""
        with self._lock:
            if self._find(token) is None:
                raise transitions.superseded()

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success, once the session has committed."""
        if session is not None:
            self.fence(session, token)
            event.listen(session, "after_commit", lambda _session: self.succeed(None, token, result), once=True)
            return
        with self._lock:
            row = self._find(token)
            if row is None:
                raise transitions.superseded()
            clock, job_id = self._clock(), row.attempt.job_id
            self._change_attempt(row, transitions.attempt_succeeded(clock))
            self._release_queue(token)
            retention = self._jobs[job_id].options.retention_seconds
            self._change(job_id, transitions.job_succeeded(clock, result, retention))

    def succeed_many(self, results: Mapping[UUID, Any]) -> Set[UUID]:
        """Record successes. Return the tokens whose claims were valid."""
        with self._lock:
            held = {token for token in results if self._find(token) is not None}
            for token in held:
                self.succeed(None, token, results[token])
            return held

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. With ``decide``, also decide whether the job is retried."""
        with self._lock:
            row = self._find(token)
            if row is None:
                return False
            clock, attempt = self._clock(), row.attempt
            job = self._jobs[attempt.job_id]
            follows: TryAgain | GiveUp = transitions.without_decision(failure)
            if decide:
                charged = self._charged(attempt)
                follows = transitions.next_step(job.options, charged, failure, job.uid, attempt.run, attempt.number)
            self._change_attempt(row, transitions.attempt_failed(clock, failure))
            self._release_queue(token)
            if job.cancel_requested_at is not None:
                self._give_up(job.id, transitions.CANCELLED)
            elif isinstance(follows, GiveUp):
                self._give_up(job.id, failure)
            else:
                self._change(job.id, transitions.job_waits_again(clock, failure, follows.delay_seconds))
            return True

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started."""
        with self._lock:
            row = self._find(token)
            if row is None:
                return False
            job_id = row.attempt.job_id
            self._attempts[job_id].remove(row)
            self._release_queue(token)
            job = self._change(job_id, transitions.job_released(self._clock(), row.attempt.number))
            if job.cancel_requested_at is not None:
                self._give_up(job_id, transitions.CANCELLED)
            return True

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed."""
        with self._lock:
            now = self._now()
            expired = [
                row
                for rows in self._attempts.values()
                for row in rows
                if row.running
                and row.attempt.lease_expires_at < now
                and self._jobs[row.attempt.job_id].runner == runner
            ][:limit]
            for row in expired:
                self.fail(row.token, transitions.WORKER_LOST, decide=True)
            return [self._jobs[row.attempt.job_id] for row in expired]

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that have not been started for the first time within their start timeout."""
        with self._lock:
            now = self._now()
            waiting = [job for job in self._jobs.values() if job.state is JobState.WAITING and job.runner == runner]
            overdue = [job for job in waiting if job.attempt == 0 and job.start_by is not None and job.start_by < now]
            return [self._give_up(job.id, transitions.not_started(job, types)) for job in overdue[:limit]]

    def cancel(self, job_id: int) -> JobRequest | None:
        """Fail a waiting job, request the cancellation of a running one."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state is JobState.WAITING:
                return self._give_up(job_id, transitions.CANCELLED)
            if job is not None and job.state is JobState.RUNNING and job.cancel_requested_at is None:
                return self._change(job_id, {"cancel_requested_at": self._now()})
            return job

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""
        with self._lock:
            rows = [row for token in tokens if (row := self._find(token)) is not None]
            return {row.token for row in rows if self._jobs[row.attempt.job_id].cancel_requested_at is not None}

    def retry(self, job_id: int) -> JobRequest | None:
        """Start a failed job's next run."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state is not JobState.FAILED:
                return job
            if (holder := self._holder(job.unique_key)) is not None:
                raise transitions.key_taken(job, holder.id)
            timeout = job.options.start_timeout_seconds
            return self._change(job_id, transitions.job_retried(self._clock(), job.run + 1, timeout))

    def prune(self, limit: int = 1000, runner: str | None = None, older_than_seconds: float | None = None) -> int:
        """Delete finished jobs, oldest first: see :meth:`spoke_jobs.ledger.port.Ledger.prune`."""
        with self._lock:
            now = self._now()

            def due(job: JobRequest) -> bool:
                if older_than_seconds is None:
                    return job.expires_at is not None and job.expires_at < now
                return job.finished_at is not None and job.finished_at < now - timedelta(seconds=older_than_seconds)

            over = [job for job in self._jobs.values() if job.state.final and due(job) and runner in (None, job.runner)]
            chosen = sorted(over, key=lambda job: job.expires_at or now)[:limit]
            for job in chosen:
                del self._jobs[job.id], self._attempts[job.id]
            return len(chosen)

    def _give_up(self, job_id: int, failure: Failure) -> JobRequest:
        retention = self._jobs[job_id].options.retention_seconds
        job = self._change(job_id, transitions.job_failed(self._clock(), failure, retention))
        if (following := after_final_failure(job)) is not None:
            self.insert(following)
        return job

    def _holder(self, unique_key: str | None) -> JobRequest | None:
        if unique_key is None:
            return None
        unfinished = (job for job in self._jobs.values() if not job.state.final)
        return next((job for job in unfinished if job.unique_key == unique_key), None)

    def _start(self, job: JobRequest, number: int, worker: str, lease_seconds: float) -> Claim:
        clock, token = self._clock(), uuid.uuid4()
        attempt = Attempt(**transitions.new_attempt(clock, job.id, job.run, number, worker, lease_seconds))
        self._attempts[job.id].append(_AttemptRow(attempt, token))
        if job.locks_queue:
            self._queue_locks[job.queue_name] = token
        started = self._change(job.id, transitions.job_claimed(clock, number, job.started_at))
        return Claim(started, number, token, lease_seconds)

    def _take_over(self, job: JobRequest, live: _AttemptRow, worker: str, lease_seconds: float) -> Claim:
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

    def _find(self, token: UUID) -> _AttemptRow | None:
        rows = (row for rows in self._attempts.values() for row in rows)
        return next((row for row in rows if row.token == token and row.running), None)

    def _release_queue(self, token: UUID) -> None:
        self._queue_locks = {name: holder for name, holder in self._queue_locks.items() if holder != token}

    def _clock(self) -> _FixedClock:
        return _FixedClock(self._now())

    def _change(self, job_id: int, changes: transitions.Changes) -> JobRequest:
        job = self._jobs[job_id] = self._jobs[job_id].evolve(**changes)
        return job

    def _change_attempt(self, row: _AttemptRow, changes: transitions.Changes, token: UUID | None = None) -> None:
        for_good = changes.pop("for_good", row.for_good)
        rows = self._attempts[row.attempt.job_id]
        rows[rows.index(row)] = _AttemptRow(replace(row.attempt, **changes), token or row.token, for_good)
