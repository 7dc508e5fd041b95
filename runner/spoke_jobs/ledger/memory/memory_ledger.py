"""The ledger in memory, for tests without a database. It passes the same contract suite as ``sql_ledger``."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import event

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.errors import DependencyNotMet
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.claim_turns import in_turns
from spoke_jobs.ledger.claims.eligibility import NotSuspended, OfRunner, StartTimedOut, Waiting
from spoke_jobs.ledger.dependencies.batch_rows import held, not_met
from spoke_jobs.ledger.dependencies.dependency_rules import failure_of
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import start_rules, transitions
from spoke_jobs.ledger.memory.memory_rows import MemoryRows
from spoke_jobs.ledger.port import NO_PROGRESS, NO_USAGE, AlreadyFinal, ClaimRefusal, NotThisAttempt, QueueHeld
from spoke_jobs.model import (
    ANY_CLAIM,
    ANY_JOB,
    UNMEASURED,
    Attempt,
    AttemptState,
    AttemptUsage,
    Claim,
    ClaimFilter,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    JobState,
    NewJob,
    Progress,
    Pulse,
)
from spoke_jobs.shared.clean_text import storable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class MemoryLedger(MemoryRows):
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads."""

    rest_due: float | None = None
    """Always None: a claim sees all due jobs."""

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job. If an unfinished job has its unique key, return that one instead."""
        with self._lock:
            return self.publish(self.reserve(new))

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs."""
        with self._lock:
            for job in new:
                self._dependencies.check(job, self._batches)
                self._batches.check(job)
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
                return self._replace(job)
            if (holder := self._holder(job.unique_key)) is not None:
                return holder
            stands = self._dependencies.of(job.id)
            waits = stands.waits + self._dependencies.held.get(job.id, 0)
            if job.batch_id is not None:
                self._batches.add(job.batch_id)
            self._jobs[job.id] = job.evolve(open_dependencies=waits, state=transitions.dispatched_state(waits))
            self._attempts[job.id] = []
            self._await(job.id, stands.open)
            return self._jobs[job.id] if stands.failed is None else self._give_up(job.id, failure_of(stands.failed))

    def reserve(self, new: NewJob) -> JobRequest:
        """Make a job with an id that is not visible yet, as in an open transaction."""
        with self._lock:
            self._last_id += 1  # used up even if no job is written, like a database's sequence
            if (earlier := self._earlier(new)) is not None:
                return earlier
            clock = self._clock()
            fixed, seconds = transitions.start_deadline(new)
            self._batches.check(new)
            self._dependencies.check(new, self._batches)
            stands = self._dependencies.add(self._last_id, new)
            in_batch = new.batch_id is not None
            job = transitions.new_request(
                transitions.dispatched(new)
                | {
                    "open_dependencies": new.open_dependencies + stands.waits,
                    "batch_open": in_batch,
                    "awaited": in_batch,
                },
                id=self._last_id,
                uid=uuid.uuid4(),
                created_at=clock.now(),
                updated_at=clock.now(),
                start_by=fixed or clock.after(seconds),
            )
            self._dependencies.reserved[job.id] = job
            return job

    def open_batch(self, name: str, then: NewJob | None = None, on_failed: str = "fail") -> Batch:
        """Open a batch."""
        with self._lock:
            batch = self._batches.create(name, on_failed, self._now())
            return batch if then is None else self._batches.change(batch.id, then_id=self.insert(held(then)).id)

    def close_batch(self, batch_id: int) -> Batch | None:
        """Close a batch."""
        with self._lock:
            batch = self._batches.rows.get(batch_id)
            if batch is not None and batch.closed_at is None:
                self._finish_if_over(self._batches.change(batch_id, closed_at=self._now()))
            return self._batches.rows.get(batch_id)

    def batch(self, batch_id: int) -> Batch | None:
        """Get a batch."""
        with self._lock:
            return self._batches.rows.get(batch_id)

    def batches(self, limit: int = 100) -> Sequence[Batch]:
        """List the newest batches, newest first."""
        with self._lock:
            return sorted(self._batches.rows.values(), key=lambda batch: -batch.id)[:limit]

    def get(self, job_id: int | UUID) -> JobRequest | None:
        """Get the job with that id or uid."""
        with self._lock:
            if isinstance(job_id, UUID):
                return next((job for job in self._jobs.values() if job.uid == job_id), None)
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
        self,
        runner: str,
        types: Collection[str],
        worker: str,
        lease_seconds: float,
        limit: int = 1,
        only: ClaimFilter = ANY_CLAIM,
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types, by priority, then in turns among organizations, then by age."""
        granted: list[Claim] = []
        with self._lock:
            admission, running = self.limits.admission(self._jobs.values()), self._running()
            request = ClaimRequest(runner, types, worker, lease_seconds, limit, only)
            waiting = self._claimable(request, admission.closed())
            for job_id, _, organization in in_turns(waiting, running, self._turns):
                if len(granted) == limit:
                    break
                job = self._jobs[job_id]
                if not self._is_locked(job) and admission.admit(Subject.of(job)):
                    claim = self._start(job, job.attempt + 1, worker, lease_seconds)
                    granted.append(replace(claim, start_by=admission.start_by(Subject.of(job))))
                    running[organization] += 1
                    self._turns.take([organization])
            self.limits.spend(admission)
        return granted

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float, job_type: str = ""
    ) -> Claim | ClaimRefusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""
        with self._lock:
            job, now = self._jobs.get(job_id), self._now()
            row = next((row for row in self._attempts.get(job_id, []) if row.running), None)
            live = row.live(now) if row is not None else None
            if (refusal := transitions.claim_refusal(job, uid, run, number, live, job_type)) is not None:
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
            if self._is_locked(job):
                return QueueHeld()
            return self._start(job, number, worker, lease_seconds)

    def set_options(self, options: Mapping[UUID, JobOptions]) -> None:
        """Write the options of claimed jobs."""
        with self._lock:
            for token, given in options.items():
                if (row := self._find(token)) is not None:
                    self._change(row.attempt.job_id, {"options": given})

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""
        with self._lock:
            row = self._find(token)
            if row is None:
                return Pulse.GONE
            clock, job_id = self._clock(), row.attempt.job_id
            self._change_attempt(row, transitions.lease_renewed(clock, lease_seconds))
            if progress is not None:
                message = storable(progress.message)
                self._change(job_id, transitions.job_progressed(clock, progress.percent, message))
            return Pulse.HELD if self._jobs[job_id].cancel_requested_at is None else Pulse.CANCELLED

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress."""
        return {token: self.heartbeat(token, lease_seconds, given) for token, given in progress.items()}

    def keep_output(self, token: UUID, tail: str, *, ended: bool = False) -> None:
        """Keep the last lines that an attempt has printed."""
        with self._lock:
            if (row := self._find(token, AttemptState.SUCCEEDED if ended else AttemptState.RUNNING)) is not None:
                self._change_attempt(row, transitions.output_kept(tail))

    def fence(self, session: Session, token: UUID) -> None:
        """Check that the claim is valid now. It may become invalid before the commit: memory has no transactions."""
        with self._lock:
            self._claimed(token)

    def succeed(
        self,
        session: Session | None,
        token: UUID,
        result: Any,
        progress: Progress | None = None,
        usage: AttemptUsage = UNMEASURED,
    ) -> None:
        """Record success as soon as the session has committed."""
        if session is not None:
            self.fence(session, token)
            event.listen(
                session, "after_commit", lambda _session: self.succeed(None, token, result, progress, usage), once=True
            )
            return
        with self._lock:
            row = self._find(token)
            if row is None:
                raise transitions.superseded()
            clock, job_id = self._clock(), row.attempt.job_id
            self._change_attempt(row, transitions.attempt_succeeded(clock, transitions.used(usage)))
            self._release_queue(token)
            job = self._jobs[job_id]
            message = job.result_message if progress is None else storable(progress.message)
            self._change(job_id, transitions.job_succeeded(clock, result, message, job.options.retention_seconds))
            self._settle(job_id)

    def succeed_many(
        self,
        results: Mapping[UUID, Any],
        progress: Mapping[UUID, Progress] = NO_PROGRESS,
        usage: Mapping[UUID, AttemptUsage] = NO_USAGE,
    ) -> Set[UUID]:
        """Record successes. Return the tokens whose claims were valid."""
        with self._lock:
            held = {token for token in results if self._find(token) is not None}
            for token in held:
                self.succeed(None, token, results[token], progress.get(token), usage.get(token, UNMEASURED))
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
                seconds = follows.delay_seconds
                self._change(job.id, transitions.job_tried_again(clock, failure, seconds, job.runner, attempt.run + 1))
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
            due_at, created_at = row.attempt.due_at, self._jobs[job_id].created_at
            run_after = due_at if due_at is not None and due_at > created_at else None
            job = self._change(job_id, transitions.job_released(self._clock(), row.attempt.number, run_after))
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

    def settle(self, limit: int = 100) -> int:
        """Do nothing: each end handles all dependents."""
        return 0

    def end_strays(self) -> int:
        """Do nothing: no other code writes here."""
        return 0

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that have not been started for the first time within their start timeout."""
        with self._lock:
            overdue = self._fulfilling(Waiting(), OfRunner(runner), NotSuspended(), StartTimedOut())
            return [self._give_up(job.id, transitions.not_started(job, types)) for job in overdue[:limit]]

    def cancel(self, job_id: int, by: str = "") -> JobRequest | None:
        """Fail a waiting or blocked job, request the cancellation of a running one."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state in (JobState.WAITING, JobState.BLOCKED):
                return self._give_up(job_id, transitions.cancelled(by))
            if job is not None and job.state is JobState.RUNNING and job.cancel_requested_at is None:
                return self._change(job_id, transitions.cancellation_requested(self._clock()))
            return job

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""
        with self._lock:
            rows = [row for token in tokens if (row := self._find(token)) is not None]
            return {row.token for row in rows if self._jobs[row.attempt.job_id].cancel_requested_at is not None}

    def retry(self, job_id: int, by: str = "", *, clear_checkpoints: bool = False) -> JobRequest | None:
        """Start a failed job's next run."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state is not JobState.FAILED:
                return job
            if (holder := self._holder(job.unique_key)) is not None:
                raise transitions.key_taken(job, holder.id)
            if clear_checkpoints:
                self._saved.pop(job_id, None)
            again = {
                one
                for one in self._dependencies.failed_because_of(job_id)
                if self._holder(self._jobs[one].unique_key) is None
            }
            follows = self._dependencies.after_retry(job_id, again)
            before = self._batches.before(job_id)
            if before is not None and before.finished_at and before.failed and before.on_failed != "run":
                raise not_met(job_id, before)
            waits_for_batch = {job_id} if before is not None and before.finished_at is None else set()
            for one, waits in ((job_id, follows.open), *follows.blocked.items()):
                row = self._jobs[one]
                timeout = row.options.start_timeout_seconds
                number = len(waits) + (one in waits_for_batch)
                self._change(one, transitions.job_retried(self._clock(), row.run + 1, timeout, number))
                self._await(one, waits)
            for one in (job_id, *follows.blocked):
                self._reopen_batch(self._jobs[one])
            return self._jobs[job_id]

    def run_now(self, job_id: int, by: str = "") -> JobRequest | None:
        """Make a job due now that waits for its time."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            start_rules.refuse(start_rules.why_not_now(job, self._now()))
            return self._change(job_id, start_rules.due_now(self._clock(), job))

    def set_priority(self, job_id: int, priority: int, by: str = "") -> JobRequest | None:
        """Change the priority of a waiting or blocked job."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            start_rules.refuse(start_rules.why_no_priority(job, priority))
            return self._change(job_id, {"priority": priority})

    def suspend(self, job_id: int, reason: str = "", by: str = "") -> JobRequest | None:
        """Let no attempt of a job start until it is resumed."""
        start_rules.checked_reason(reason)
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            start_rules.refuse(start_rules.why_not_suspended(job))
            return self._change(job_id, start_rules.suspended(self._clock())) if job.suspended_at is None else job

    def resume(self, job_id: int, by: str = "") -> JobRequest | None:
        """Let attempts of a suspended job start again."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            start_rules.refuse(start_rules.why_not_resumed(job))
            return self._change(job_id, start_rules.resumed(self._clock(), job))

    def _reopen_batch(self, job: JobRequest) -> None:
        if job.batch_id is None:
            return
        self._change(job.id, {"awaited": True, "batch_open": True})
        then = self._jobs.get(self._batches.reopen(job.batch_id).then_id or 0)
        if then is not None and (then.state, then.cause) == (JobState.FAILED, Cause.DEPENDENCY_FAILED):
            with suppress(DependencyNotMet):  # another job that it depends on has failed
                self.retry(then.id)

    def prune(self, limit: int = 1000, older_than_seconds: float | None = None, which: JobFilter = ANY_JOB) -> int:
        """Delete finished jobs, oldest first: see :meth:`spoke_jobs.ledger.port.Ledger.prune`."""
        with self._lock:
            now = self._now()
            over = [job for job in self._jobs.values() if job.state.final and which.fits(job)]
            if older_than_seconds is None:
                over = [job for job in over if job.expires_at is not None and job.expires_at < now]
            else:
                before = now - timedelta(seconds=older_than_seconds)
                over = [job for job in over if job.finished_at is not None and job.finished_at < before]
            free = [job for job in over if not self._dependencies.needed_by_unfinished(job.id)]
            chosen = sorted(free, key=lambda job: job.expires_at or now)[:limit]
            for job in chosen:
                self._forget(job.id)
            return len(chosen)
