"""The ledger in memory, for tests without a database; a restart forgets it. The twin of ``sql``, held to its tests."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session

from spoke_jobs.contract.causes import CAUSES, CauseClass, cause_class
from spoke_jobs.contract.retry import GiveUp, TryAgain, after_failure
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Refusal, Taken
from spoke_jobs.ledger.transitions import superseded
from spoke_jobs.model import Attempt, AttemptState, Claim, Failure, JobRequest, JobState, NewJob, Progress


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
        """Write a job."""
        return self.publish(self.reserve(new))

    def publish(self, job: JobRequest) -> JobRequest:
        """Let a reserved job be seen, as a commit does."""
        with self._lock:
            self._jobs[job.id] = job
            self._attempts[job.id] = []
            return job

    def reserve(self, new: NewJob) -> JobRequest:
        """A job that is numbered and not yet seen, as in a transaction that is still open."""
        with self._lock:
            now = self._now()
            self._last_id += 1
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
                run_after=None,
                submitted_at=None,
                started_at=None,
                finished_at=None,
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

    def list_jobs(self, limit: int = 100) -> Sequence[JobRequest]:
        """The newest jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.id)[:limit]

    def claim_next(self, runner: str, types: Collection[str], worker: str, lease_seconds: float) -> Claim | None:
        """Claim the oldest due job of the types whose queue isn't held."""
        with self._lock:
            now = self._now()
            for job in sorted(self._jobs.values(), key=lambda job: job.id):
                if (
                    job.state is JobState.WAITING
                    and job.runner == runner
                    and job.job_type in types
                    and (job.run_after is None or job.run_after <= now)
                    and not (job.locks_queue and job.queue_name in self._queue_locks)
                ):
                    return self._start(job, job.attempt + 1, worker, lease_seconds)
            return None

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
            if live is not None:
                left = (live.attempt.lease_expires_at - self._now()).total_seconds()
                if live.attempt.number > number:
                    return NotThisAttempt()
                if left > 0:
                    return Taken(left)
                if live.attempt.number == number:
                    return self._take_over(job, live, worker, lease_seconds)
                self.fail(live.token, Failure("WorkerLost", CAUSES["WorkerLost"].meaning), decide=False)
                job = self._jobs[job_id]
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

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> bool:
        """Renew the lease and record progress; False if the token holds no claim any more."""
        with self._lock:
            held = self._find(token)
            if held is None:
                return False
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
            return True

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
            )

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure, and with ``decide`` what becomes of the job."""
        with self._lock:
            held = self._find(token)
            if held is None:
                return False
            now, attempt = self._now(), held.attempt
            follows: TryAgain | GiveUp = TryAgain(0)
            if decide:
                policy = self._jobs[attempt.job_id].options.retry
                follows = after_failure(policy, self._charged(attempt), failure.cause, for_good=failure.for_good)
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
            changes: dict[str, Any] = {"cause": failure.cause, "result_message": failure.message, "updated_at": now}
            match follows:
                case TryAgain(delay):
                    due = now + timedelta(seconds=delay)
                    changes |= {"state": JobState.WAITING, "assigned": False, "run_after": due}
                case GiveUp():
                    changes |= {"state": JobState.FAILED, "status": -1, "finished_at": now}
            self._change(attempt.job_id, **changes)
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
                self.fail(held.token, Failure("WorkerLost", CAUSES["WorkerLost"].meaning), decide=True)
            return [self._jobs[held.attempt.job_id] for held in lapsed]

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
