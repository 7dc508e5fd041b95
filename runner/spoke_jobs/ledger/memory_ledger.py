"""The ledger in memory, for tests without a database. It passes the same contract suite as ``sql_ledger``."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session

from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.retry import GiveUp, TryAgain, after_failure
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Refusal, Taken
from spoke_jobs.ledger.transitions import key_taken, not_started, superseded
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
class _Held:
    """An attempt with what the port's callers don't see of it."""

    attempt: Attempt
    token: UUID
    for_good: bool = False


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryLedger:
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._last_id = 0
        self._jobs: dict[int, JobRequest] = {}
        self._attempts: dict[int, list[_Held]] = {}
        self._queue_locks: dict[str, UUID] = {}

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job; where an unfinished one has its uniqueness key, return that one."""
        with self._lock:
            return self.publish(self.reserve(new))

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs."""
        with self._lock:
            # In the order of the twin, which takes uniqueness keys first and in their own order.
            order = sorted(
                range(len(new)), key=lambda index: (new[index].unique_key is None, new[index].unique_key or "", index)
            )
            written = {index: self.insert(new[index]) for index in order}
            return [written[index] for index in range(len(new))]

    def publish(self, job: JobRequest) -> JobRequest:
        """Let a reserved job be seen, as a commit does; where another was quicker with its key, that one is it."""
        with self._lock:
            if job.id in self._jobs:
                return self._jobs[job.id]
            if (holder := self._holder(job.unique_key)) is not None:
                return holder
            self._jobs[job.id] = job
            self._attempts[job.id] = []
            return job

    def reserve(self, new: NewJob) -> JobRequest:
        """A job that is numbered and not yet seen, as in a transaction that is still open."""
        with self._lock:
            self._last_id += 1  # used up also by a job that isn't written, as a database's numbers are
            if (holder := self._holder(new.unique_key)) is not None:
                return holder
            now = self._now()
            start_by = None
            if (seconds := new.options.start_timeout_seconds) is not None:
                start_by = (new.run_after or now) + timedelta(seconds=seconds)
            return JobRequest(
                id=self._last_id,
                uid=uuid.uuid4(),
                job_type=new.job_type,
                payload=new.payload,
                queue_name=new.queue_name,
                locks_queue=new.locks_queue,
                organization_id=new.organization_id,
                campaign_id=new.campaign_id,
                assigned=new.assigned,
                status=0,
                result_message="",
                created_at=now,
                updated_at=now,
                state=JobState.WAITING,
                runner=new.runner,
                run=1,
                attempt=0,
                options=new.options,
                priority=new.priority,
                unique_key=new.unique_key,
                run_after=new.run_after,
                start_by=start_by,
                cancel_requested_at=None,
                submitted_at=None,
                started_at=None,
                finished_at=None,
                expires_at=None,
                cause="",
                result=None,
            )

    def get(self, job_id: int) -> JobRequest | None:
        """The job with that id."""
        with self._lock:
            return self._jobs.get(job_id)

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """The job's attempts, oldest first."""
        with self._lock:
            return [held.attempt for held in self._attempts.get(job_id, [])]

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """The newest jobs, newest first."""
        with self._lock:
            return [job for job in sorted(self._jobs.values(), key=lambda job: -job.id) if which.fits(job)][:limit]

    def claim_batch(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int = 1
    ) -> Sequence[Claim]:
        """Claim up to so many due jobs of the types, by priority, then by age."""
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
            job = self._jobs.get(job_id)
            if job is None or job.uid != uid:
                return NoRow()
            if job.state.final:
                return AlreadyFinal(job)
            if job.run != run:
                return NotThisAttempt()
            live = next((held for held in self._attempts[job_id] if _running(held)), None)
            if live is not None and (answer := self._from_another(job, live, number, worker, lease_seconds)):
                return answer
            job = self._jobs[job_id]
            if job.state.final:  # somebody had asked for its end
                return AlreadyFinal(job)
            for held in self._attempts[job_id]:
                if held.attempt.run == run and held.attempt.number == number:
                    return AttemptOver(
                        Failure(held.attempt.cause, error_type=held.attempt.error_type, for_good=held.for_good)
                    )
            if number <= job.attempt:
                return NotThisAttempt()
            if job.locks_queue and job.queue_name in self._queue_locks:
                return QueueHeld()
            return self._start(job, number, worker, lease_seconds)

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""
        with self._lock:
            held = self._find(token)
            if held is None:
                return Pulse.GONE
            now = self._now()
            expires = now + timedelta(seconds=lease_seconds)
            self._replace(held, replace(held.attempt, heartbeat_at=now, lease_expires_at=expires))
            if progress is not None:
                self._change(
                    held.attempt.job_id,
                    status=progress.percent,
                    result_message=progress.message,
                    updated_at=now,
                )
            asked = self._jobs[held.attempt.job_id].cancel_requested_at
            return Pulse.HELD if asked is None else Pulse.CANCELLED

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """The same for many claims at once."""
        return {token: self.heartbeat(token, lease_seconds, said) for token, said in progress.items()}

    def fence(self, session: Session, token: UUID) -> None:
        """See that the claim holds. Without a shared transaction that is all that memory can promise."""
        with self._lock:
            if self._find(token) is None:
                raise superseded()

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success, once the session has committed."""
        if session is not None:
            self.fence(session, token)
            event.listen(session, "after_commit", lambda _session: self.succeed(None, token, result), once=True)
            return
        with self._lock:
            held = self._find(token)
            if held is None:
                raise superseded()
            now = self._now()
            self._replace(held, replace(held.attempt, state=AttemptState.SUCCEEDED, finished_at=now))
            self._release(token)
            self._change(
                held.attempt.job_id,
                state=JobState.SUCCEEDED,
                status=100,
                result=result,
                cause="",
                finished_at=now,
                updated_at=now,
                expires_at=now + timedelta(seconds=self._jobs[held.attempt.job_id].options.retention_seconds),
            )

    def succeed_many(self, results: Mapping[UUID, Any]) -> Set[UUID]:
        """Record successes; the tokens that held their claims."""
        counted = set()
        with self._lock:
            for token, result in results.items():
                if self._find(token) is not None:
                    self.succeed(None, token, result)
                    counted.add(token)
        return counted

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure, and with ``decide`` what becomes of the job."""
        with self._lock:
            held = self._find(token)
            if held is None:
                return False
            now, attempt = self._now(), held.attempt
            job = self._jobs[attempt.job_id]
            follows: TryAgain | GiveUp = TryAgain(failure.retry_after_seconds or 0)
            if decide:
                follows = after_failure(
                    job.options.retry,
                    self._charged(attempt),
                    failure.cause,
                    for_good=failure.for_good,
                    retry_after_seconds=failure.retry_after_seconds,
                    key=f"{job.uid}-{attempt.run}-{attempt.number}",
                )
            ended = replace(
                attempt,
                state=AttemptState.FAILED,
                finished_at=now,
                cause=failure.cause,
                error_type=failure.error_type,
                output_tail=failure.output_tail,
            )
            self._replace(held, ended, for_good=failure.for_good)
            self._release(token)
            if job.cancel_requested_at is not None:
                self._give_up(job.id, Cause.CANCELLED, Cause.CANCELLED.meaning)
                return True
            match follows:
                case TryAgain(delay):
                    self._change(
                        job.id,
                        state=JobState.WAITING,
                        assigned=False,
                        cause=failure.cause,
                        result_message=failure.message,
                        run_after=now + timedelta(seconds=delay),
                        updated_at=now,
                    )
                case GiveUp():
                    self._give_up(job.id, failure.cause, failure.message)
            return True

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was never begun."""
        with self._lock:
            held = self._find(token)
            if held is None:
                return False
            job_id, number = held.attempt.job_id, held.attempt.number
            self._attempts[job_id].remove(held)
            self._release(token)
            job = self._change(
                job_id,
                state=JobState.WAITING,
                assigned=False,
                attempt=number - 1,
                started_at=None if number == 1 else self._jobs[job_id].started_at,
                updated_at=self._now(),
            )
            if job.cancel_requested_at is not None:
                self._give_up(job_id, Cause.CANCELLED, Cause.CANCELLED.meaning)
            return True

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed."""
        with self._lock:
            now = self._now()
            lapsed = [
                held
                for attempts in self._attempts.values()
                for held in attempts
                if _running(held)
                and held.attempt.lease_expires_at < now
                and self._jobs[held.attempt.job_id].runner == runner
            ][:limit]
            for held in lapsed:
                self.fail(held.token, Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning), decide=True)
            return [self._jobs[held.attempt.job_id] for held in lapsed]

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """End the jobs that have waited for their first start for longer than they may."""
        with self._lock:
            now = self._now()
            overdue = [
                job
                for job in self._jobs.values()
                if job.state is JobState.WAITING
                and job.runner == runner
                and job.attempt == 0
                and job.start_by is not None
                and job.start_by < now
            ][:limit]
            return [
                self._give_up(job.id, failure.cause, failure.message)
                for job in overdue
                for failure in [not_started(job, types)]
            ]

    def cancel(self, job_id: int) -> JobRequest | None:
        """End a job that waits, ask for the end of one that runs."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state is JobState.WAITING:
                return self._give_up(job_id, Cause.CANCELLED, Cause.CANCELLED.meaning)
            if job is not None and job.state is JobState.RUNNING and job.cancel_requested_at is None:
                return self._change(job_id, cancel_requested_at=self._now())
            return job

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Those of the claims whose job somebody has asked the end of."""
        with self._lock:
            held = [(token, self._find(token)) for token in tokens]
            return {
                token
                for token, item in held
                if item is not None and self._jobs[item.attempt.job_id].cancel_requested_at is not None
            }

    def retry(self, job_id: int) -> JobRequest | None:
        """Start a failed job's next run."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state is not JobState.FAILED:
                return job
            if (holder := self._holder(job.unique_key)) is not None:
                raise key_taken(job, holder.id)
            now, seconds = self._now(), job.options.start_timeout_seconds
            return self._change(
                job_id,
                state=JobState.WAITING,
                run=job.run + 1,
                attempt=0,
                status=0,
                assigned=False,
                result_message="",
                cause="",
                run_after=None,
                start_by=None if seconds is None else now + timedelta(seconds=seconds),
                cancel_requested_at=None,
                submitted_at=None,
                started_at=None,
                finished_at=None,
                expires_at=None,
                updated_at=now,
            )

    def prune(self, limit: int = 1000, runner: str | None = None, older_than_seconds: float | None = None) -> int:
        """Delete finished jobs whose retention is over, or which ended so long ago, the oldest first; how many."""
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

    def _give_up(self, job_id: int, cause: str, message: str) -> JobRequest:
        now = self._now()
        job = self._change(
            job_id,
            state=JobState.FAILED,
            status=-1,
            cause=cause,
            result_message=message,
            run_after=None,
            finished_at=now,
            updated_at=now,
            expires_at=now + timedelta(seconds=self._jobs[job_id].options.retention_seconds),
        )
        if (following := after_final_failure(job)) is not None:
            self.insert(following)
        return job

    def _holder(self, unique_key: str | None) -> JobRequest | None:
        if unique_key is None:
            return None
        unfinished = (job for job in self._jobs.values() if not job.state.final)
        return next((job for job in unfinished if job.unique_key == unique_key), None)

    def _start(self, job: JobRequest, number: int, worker: str, lease_seconds: float) -> Claim:
        now, token = self._now(), uuid.uuid4()
        attempt = Attempt(
            job_id=job.id,
            run=job.run,
            number=number,
            state=AttemptState.RUNNING,
            worker=worker,
            claimed_at=now,
            heartbeat_at=now,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
            finished_at=None,
            cause="",
            error_type="",
            output_tail="",
        )
        self._attempts[job.id].append(_Held(attempt, token))
        if job.locks_queue:
            self._queue_locks[job.queue_name] = token
        started = self._change(
            job.id,
            state=JobState.RUNNING,
            assigned=True,
            attempt=number,
            status=0,
            result_message="",
            run_after=None,
            started_at=job.started_at or now,
            updated_at=now,
        )
        return Claim(started, number, token, lease_seconds)

    def _from_another(
        self, job: JobRequest, live: _Held, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal | None:
        left = (live.attempt.lease_expires_at - self._now()).total_seconds()
        if live.attempt.number > number:
            return NotThisAttempt()
        if left > 0:
            return Taken(left)
        if live.attempt.number == number:
            return self._take_over(job, live, worker, lease_seconds)
        self.fail(live.token, Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning), decide=False)
        return None

    def _take_over(self, job: JobRequest, live: _Held, worker: str, lease_seconds: float) -> Claim:
        now, token = self._now(), uuid.uuid4()
        attempt = replace(
            live.attempt,
            worker=worker,
            claimed_at=now,
            heartbeat_at=now,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
        )
        attempts = self._attempts[job.id]
        attempts[attempts.index(live)] = _Held(attempt, token)
        if job.locks_queue:
            self._queue_locks[job.queue_name] = token
        return Claim(job, attempt.number, token, lease_seconds)

    def _charged(self, before: Attempt) -> dict[CauseClass, int]:
        counts: dict[CauseClass, int] = {}
        for held in self._attempts[before.job_id]:
            attempt = held.attempt
            if attempt.run == before.run and attempt.number < before.number and attempt.state is AttemptState.FAILED:
                kind = cause_class(attempt.cause)
                if kind is not CauseClass.UNCHARGED:
                    counts[kind] = counts.get(kind, 0) + 1
        return counts

    def _find(self, token: UUID) -> _Held | None:
        for attempts in self._attempts.values():
            for held in attempts:
                if held.token == token and _running(held):
                    return held
        return None

    def _replace(self, held: _Held, attempt: Attempt, *, for_good: bool = False) -> None:
        attempts = self._attempts[attempt.job_id]
        attempts[attempts.index(held)] = _Held(attempt, held.token, for_good)

    def _release(self, token: UUID) -> None:
        self._queue_locks = {name: holder for name, holder in self._queue_locks.items() if holder != token}

    def _change(self, job_id: int, **changes: Any) -> JobRequest:
        job = self._jobs[job_id] = self._jobs[job_id].evolve(**changes)
        return job


def _running(held: _Held) -> bool:
    return held.attempt.state is AttemptState.RUNNING
