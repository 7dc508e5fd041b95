"""Carry out decisions. A failure delays only its own job, with exponential backoff."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.cluster.manifest import Measured, has_auto_requests, spokejob
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.trace_context import trace_id_of
from spoke_jobs.errors import DatabaseError
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.model import Failure
from spoke_jobs.shared.api_errors import AlreadyExists, ApiError, ApiUnavailable, Conflict, Invalid, NotFound
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.sync.auto_sizes import AutoSizes
from spoke_jobs.sync.decide import failure, type_not_allowed
from spoke_jobs.sync.sync_model import (
    Action,
    Cancel,
    ChangeStart,
    ConfirmGone,
    EndAttempt,
    FailJob,
    Launch,
    Mirror,
    RecordSubmitted,
    Row,
    SpokeJobView,
    SpokeJobWrite,
    read_view,
)
from spoke_jobs.sync.template_rules import TemplateRules
from spoke_jobs.sync.undecided import FAILED, FailedWrites, Undecided
from spoke_jobs.sync.writer import ConnectionLost, Writer

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
"""The shortest interval between two updates of a job's progress."""
_REFUSED_SECONDS = 60.0
"""After this time, sync sends a change of a start again that the API server has refused."""
_BACKOFF = Backoff(base=1.0, maximum=60.0)
_REFUSED_VALUES = (DataError, IntegrityError)
"""The same statement would be refused again."""


class NotAllowedYet(Exception):
    """A row's type may not use its PodTemplate. Somebody may still correct the PodTemplate."""


@dataclass(slots=True)
class JobBackoffs:
    """The backoffs of jobs whose actions failed."""

    clock: Callable[[], float]
    _failures: dict[int, int] = field(default_factory=dict)
    _until: dict[int, float] = field(default_factory=dict)

    def failed(self, job_id: int) -> None:
        """Record a failure; the job waits longer each time."""
        failures = self._failures[job_id] = self._failures.get(job_id, 0) + 1
        self._until[job_id] = self.clock() + _BACKOFF.after(failures)

    def done(self, job_id: int) -> None:
        """Record a success: the job's next failure counts as its first."""
        self._until.pop(job_id, None)
        self._failures.pop(job_id, None)

    def is_waiting(self, job_id: int) -> bool:
        """Whether the job still waits for its retry."""
        return self.clock() < self._until.get(job_id, 0.0)

    def waiting(self) -> set[int]:
        """Return the jobs that still wait for their retry."""
        now = self.clock()
        # If nothing was done for a job long after its wait, the job has ended: forget it.
        self._until = {job_id: until for job_id, until in self._until.items() if now < until + _BACKOFF.maximum}
        self._failures = {job_id: count for job_id, count in self._failures.items() if job_id in self._until}
        return {job_id for job_id, until in self._until.items() if now < until}


class Effects:
    """The actions of the active sync. ``spokejobs`` is its copy of the cluster's SpokeJobs, by name."""

    def __init__(
        self,
        writer: Writer,
        api: SpokeJobClient,
        clock: Callable[[], float] = time.monotonic,
        done: Counter[str] | None = None,
        failures: Counter[str] | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        """Make the actions.

        :param patience_seconds: the age until which a row is left to the process that dispatched it.
        """
        self._patience = patience_seconds
        self._writer = writer
        self._api = api
        self._clock = clock
        self._sizes = AutoSizes(clock)
        self._templates = TemplateRules(api, clock)
        self._mirrored: dict[str, float] = {}
        self._failed_writes = FailedWrites()
        self._refused: dict[tuple[str, int | None, bool | None], float] = {}
        """Until when changes of starts are not sent again that the API server has refused."""
        self.spokejobs: dict[str, SpokeJobView] = {}
        self.backoffs = JobBackoffs(clock)
        self.done: Counter[str] = Counter() if done is None else done
        """How many actions of each kind were carried out."""
        self.undecided = Undecided(Counter() if failures is None else failures)
        self.decide_again: set[str] = set()
        """SpokeJobs to decide on again, because an action changed them or their rows."""

    def carry_out(self, action: Action) -> bool:
        """Carry out an action; a failure is logged and retried later.

        :returns: whether anything was changed. False also if the action was no longer necessary.
        :raises ApiUnavailable: if the API server can't be used. An internal error about one SpokeJob does not say so.
        :raises ConnectionLost: if the database can't be used.
        """
        job_id = None if isinstance(action, Mirror) else action.row.job.id
        if job_id is not None and self.backoffs.is_waiting(job_id):
            return False
        try:
            done = self._do(action)
        except Exception as error:
            if _affects_all(error) and not self._failed_writes.concerns_one(_name(action), error):
                raise
            return self._failed(action, error)
        if done:
            self.done[type(action).__name__] += 1
            if isinstance(action, SpokeJobWrite):
                self._failed_writes.succeeded(_name(action))
        if not isinstance(action, Mirror):
            self.backoffs.done(action.row.job.id)
            self.undecided.succeeded(action.row, type(action).__name__)
        return done

    def _failed(self, action: Action, error: Exception) -> bool:
        """Handle an error of an action. A job whose actions raise unexpected errors again and again is given up."""
        if not isinstance(action, Mirror):
            self.backoffs.failed(action.row.job.id)
        if _is_transient(error):
            said = type(error.orig).__name__ if isinstance(error, DBAPIError) else error
            logger.warning("%s: %s", _describe(action), said, extra=_fields(action))
            return False
        if isinstance(action, Mirror):
            self.undecided.counts[FAILED] += 1
            logger.error("%s", _describe(action), exc_info=error, extra=_fields(action))
            return False
        ended = False
        for end in self.undecided.failed(action.row, error, type(action).__name__):
            try:
                ended = self._do(end)
            except Exception as refusal:
                if _affects_all(refusal):
                    raise
                logger.exception("%s", _describe(end), extra=_fields(end))
        return ended

    def remember(self, body: Body) -> SpokeJobView:
        """Store a SpokeJob that the API server has just sent."""
        seen = read_view(body)
        self.spokejobs[seen.name] = seen
        return seen

    def forget(self, name: str) -> None:
        """Remove a deleted SpokeJob."""
        self.spokejobs.pop(name, None)
        self._mirrored.pop(name, None)

    def replace(self, spokejobs: dict[str, SpokeJobView]) -> None:
        """Replace the copy with a complete listing."""
        self.spokejobs = spokejobs
        self._mirrored = {name: at for name, at in self._mirrored.items() if name in spokejobs}
        self._refused = {change: until for change, until in self._refused.items() if change[0] in spokejobs}

    def _do(self, action: Action) -> bool:
        match action:
            case Launch(row):
                return self._launch(row)
            case RecordSubmitted(row):
                return self._record_submitted(row)
            case EndAttempt(row, number, ended):
                return self._end_attempt(row, number, ended)
            case FailJob(row, final):
                return self._fail(row, final)
            case ConfirmGone(row):
                return self._confirm_gone(row)
            case Cancel(row, seen):
                return self._cancel(row, seen)
            case ChangeStart():
                return self._change_start(action)
            case Mirror():
                return self._mirror(action)

    def _launch(self, row: Row) -> bool:
        if not self._templates.allow(row.job.options.pod_template, row.job.job_type):
            return self._refuse_template(row)
        with self._writer.transaction() as connection:
            requests = self._sizes.of(connection, row.job.job_type) if has_auto_requests(row.job) else {}
            measured = Measured(syncing.memory_in_worker(connection, row.job), requests)
        try:
            body = spokejob(row.job, self._api.namespace, measured)
        except ValueError as error:
            text = f"the row can't be written as a SpokeJob: {type(error).__name__}"
            return self._fail(row, Failure(Cause.INVALID_SPEC, text))
        with self._writer.transaction() as connection:
            # The decision may be outdated. If the row was launched since, do not launch it again, even if its SpokeJob
            # was deleted. An older row of the same locked queue may still be tried by its process. Rows that are older
            # than that have been tried here before this one, and let it pass if they could not be launched.
            if not syncing.may_launch(connection, row.job, self._patience):
                return False
        try:
            self.remember(self._api.create(body))
            logger.info("job %d (%s): launched as %s", row.job.id, row.job.job_type, row.name, extra=_of_row(row))
        except Invalid as error:
            return self._fail(row, Failure(Cause.INVALID_SPEC, f"the API server refuses the SpokeJob: {error}"))
        except AlreadyExists:
            live = self._api.get(row.name)
            if live is None:
                return False  # deleted between the two calls: the row is found unlaunched again
            if not self.remember(live).is_of(row):
                return self._fail(row, failure(Cause.NAME_TAKEN))
            return self._record_submitted(row)
        self._record_submitted(row)
        return True

    def _refuse_template(self, row: Row) -> bool:
        with self._writer.transaction() as connection:
            now = read_clock(connection)
            assert now is not None
        for end in type_not_allowed(row, now):
            return self._do(end)
        template, job_type = row.job.options.pod_template, row.job.job_type
        raise NotAllowedYet(f"PodTemplate {template!r} is not for jobs of the type {job_type!r}")

    def _record_submitted(self, row: Row) -> bool:
        with self._writer.transaction() as connection:
            return syncing.record_submitted(connection, row.job)

    def _end_attempt(self, row: Row, number: int, ended: Failure) -> bool:
        with self._writer.transaction() as connection:
            done = syncing.end_attempt(connection, row.job, number, ended)
        if done:
            fields = _of_row(row) | {"attempt": number, "cause": ended.cause}
            logger.warning(
                "job %d, attempt %d: ended on the cluster (%s)", row.job.id, number, ended.cause, extra=fields
            )
            self.decide_again.add(row.name)
        return done

    def _fail(self, row: Row, final: Failure) -> bool:
        with self._writer.transaction() as connection:
            done = syncing.fail_job(connection, row.job, final)
        if done:
            log = logger.error if final.cause in _MISTAKES else logger.warning
            fields = _of_row(row) | {"cause": final.cause}
            log("job %d (%s) failed: %s, %s", row.job.id, row.job.job_type, final.cause, final.message, extra=fields)
            if final.cause == Cause.UNDIAGNOSABLE:
                self.undecided.ended(row)
        self.decide_again.add(row.name)
        return done

    def _confirm_gone(self, row: Row) -> bool:
        live = self._api.get(row.name)
        if live is not None and self.remember(live).is_of(row):
            self.decide_again.add(row.name)
            return False
        if live is None:
            self.forget(row.name)
        return self._fail(row, failure(Cause.SPOKE_JOB_DELETED))

    def _cancel(self, row: Row, seen: SpokeJobView) -> bool:
        try:
            self.remember(self._api.cancel(seen.name, seen.object_uid))
        except (NotFound, Conflict):  # deleted, or replaced: the next decision finds out
            self.decide_again.add(seen.name)
            return False
        fields = _of_row(row)
        logger.info("job %d (%s): cancellation passed on to the SpokeJob", row.job.id, row.job.job_type, extra=fields)
        return True

    def _change_start(self, action: ChangeStart) -> bool:
        row, seen = action.row, action.seen
        change = (seen.name, action.priority, action.suspend)
        if self._clock() >= self._refused.get(change, float("-inf")):
            try:
                self.remember(self._api.change_start(seen.name, seen.object_uid, action.priority, action.suspend))
            except (NotFound, Conflict):
                self.decide_again.add(seen.name)
                return False
            except Invalid as error:  # by a CustomResourceDefinition of an older release
                # No reason to delay other actions of the job. But each look at a running job would ask again.
                self._refused[change] = self._clock() + _REFUSED_SECONDS
                logger.warning("job %d: the SpokeJob can't be changed: %s", row.job.id, error, extra=_of_row(row))
            else:
                said = [] if action.priority is None else [f"priority {action.priority}"]
                said += [] if action.suspend is None else ["suspended" if action.suspend else "resumed"]
                text = "job %d (%s): passed on to the SpokeJob: %s"
                logger.info(text, row.job.id, row.job.job_type, ", ".join(said), extra=_of_row(row))
                return True
        if action.priority is None or action.suspend is None:
            return False
        return self._change_start(replace(action, priority=None))  # each definition allows a suspension

    def _mirror(self, action: Mirror) -> bool:
        seen, now = action.seen, self._clock()
        if action.ledger is seen.ledger and now < self._mirrored.get(seen.name, float("-inf")) + PROGRESS_SECONDS:
            return False  # the next update of running jobs shows it
        status: Body = {}
        if action.progress is not None:
            status["progress"] = {"percent": action.progress.percent, "message": action.progress.message}
        if action.ledger is not None:
            status["ledger"] = action.ledger.value
        self._mirrored[seen.name] = now
        try:
            self.remember(self._api.apply_status(seen.name, seen.object_uid, seen.resource_version, status))
        except Invalid:
            if action.ledger is None or action.progress is None:
                raise
            return self._mirror(replace(action, progress=None))  # the final state matters more
        except NotFound as error:
            if error.object_name != seen.name:
                raise
            self.forget(seen.name)  # the watch or the next comparison updates the row
            return False
        except Conflict:  # it has changed since it was read: decide again
            self._mirrored.pop(seen.name, None)
            live = self._api.get(seen.name)
            if live is not None:
                self.remember(live)
            self.decide_again.add(seen.name)
            return False
        return True


def _affects_all(error: Exception) -> bool:
    """Whether any other action would fail, too: the API server or the connection to the database can't be used."""
    if isinstance(error, SQLAlchemyError):
        return not isinstance(error, StatementError)
    return isinstance(error, (ApiUnavailable, ConnectionLost, DatabaseError))


def _is_transient(error: Exception) -> bool:
    """Whether the same action may succeed later, after a lock timeout for example."""
    if isinstance(error, DBAPIError):
        return not isinstance(error, _REFUSED_VALUES)
    return isinstance(error, ApiError | NotAllowedYet)


_MISTAKES = {
    Cause.NAME_TAKEN,
    Cause.SPOKE_JOB_DELETED,
    Cause.INVALID_SPEC,
    Cause.JOB_EXITED,
    Cause.TYPE_NOT_ALLOWED,
}
"""Causes that point to a mistake rather than to the job's own failure."""


def _describe(action: Action) -> str:
    if isinstance(action, Mirror):
        return f"SpokeJob {action.seen.name}: showing its progress failed; retrying"
    return f"job {action.row.job.id}: {type(action).__name__} failed; retrying"


def _name(action: Action) -> str:
    return action.seen.name if isinstance(action, Mirror) else action.row.name


def _fields(action: Action) -> dict[str, object]:
    return {"spokejob": action.seen.name} if isinstance(action, Mirror) else _of_row(action.row)


def _of_row(row: Row) -> dict[str, object]:
    fields = {"request_id": row.job.id, "job_type": row.job.job_type, "run": row.job.run, "spokejob": row.name}
    trace_id = trace_id_of(row.job.options.traceparent)
    return fields | {"trace_id": trace_id} if trace_id else fields
