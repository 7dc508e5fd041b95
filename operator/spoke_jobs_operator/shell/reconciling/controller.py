"""Carry out the core's decisions for one SpokeJob at a time.

A failed write may still have taken effect. So the next decision on that SpokeJob uses objects that are read live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.failed_decisions import REFUSED_TRIES, TRIES, FailedDecisions
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.shared.api_errors import AlreadyExists, ApiError, api_error
from spoke_jobs.shared.object_fields import version_of
from spoke_jobs_operator.core.diagnosis.refusals import REFUSED_VALUES, Refusal, foreign_job, read_refusal
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, Key, Unreadable
from spoke_jobs_operator.core.objects.read_objects import read_job
from spoke_jobs_operator.core.reconciling.actions import (
    ApplyStatus,
    CheckAgain,
    CreateJob,
    Decision,
    DeleteJob,
    DeleteSpokeJob,
    LabelPod,
    ReadLive,
    ReadTemplate,
    Standing,
    TakeStandby,
    TellStandby,
    Write,
)
from spoke_jobs_operator.core.reconciling.cleanup import Retention
from spoke_jobs_operator.core.reconciling.observed import (
    Observed,
    candidate_of,
    holds_shown,
    is_an_attempt_of,
    unrecorded,
    wants_attempt,
)
from spoke_jobs_operator.core.reconciling.reconcile import (
    orphan_deletions,
    reconcile,
    reconcile_unreadable,
    undiagnosable,
)
from spoke_jobs_operator.core.reconciling.status import newly_ended
from spoke_jobs_operator.core.standby.assignment import is_assigned
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.reporting.status_reports import RecordEvents, RecordSpans, StatusReports, log_fields
from spoke_jobs_operator.shell.standby.assignments import Assignments
from spoke_jobs_operator.shell.standby.standby_pools import StandbyPools
from spoke_jobs_operator.shell.store.store import Store, key_of

from .kept_failures import KeptFailures
from .live_reads import LiveReads
from .status_throttle import StatusThrottle
from .workqueue import WorkQueue

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time, rounded down to milliseconds: more digits only make statuses longer."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Effect(Enum):
    """The result of a write."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """The write changed nothing; repeating it at once would loop."""
    REFUSED = "refused"
    """The API server refused; the remaining writes of the decision no longer make sense."""


class Controller:
    """Reconcile the SpokeJobs whose keys the work queue hands out.

    :param record: called with the Events that an accepted status write stands for.
    :param record_spans: called with the spans that it ends; None if traces are off.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: OperatorMetrics,
        retention: Retention,
        throttle: StatusThrottle,
        clock: Callable[[], datetime] = utc_now,
        record: RecordEvents = lambda _about, _events: None,
        record_spans: RecordSpans | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._live_reads = LiveReads(client, store, clock, self._wake)
        self._metrics = metrics
        self._retention = retention
        self._throttle = throttle
        self._clock = clock
        self._reports = StatusReports(store, metrics, clock, record, record_spans)
        self._failed: FailedDecisions[Key] = FailedDecisions()
        self._stale: set[Key] = set()
        self._uids: dict[Key, str] = {}  # of the SpokeJobs that the rest of this state is about
        self._refusals: dict[Key, Refusal] = {}
        self._made: dict[Key, tuple[str, int]] = {}  # uid, and the attempt whose Job exists and is not recorded yet
        self._warned_of_unchanged = False
        self._leads_since: datetime | None = None
        self._kept = KeptFailures(retention.failed_jobs, self._wake)
        self._queue: WorkQueue[Key]
        self._pacer: Pacer
        self._assignments: Assignments
        self._pools: StandbyPools

    def attach(self, queue: WorkQueue[Key], pacer: Pacer, assignments: Assignments, pools: StandbyPools) -> None:
        """Set the queue that calls :meth:`process`, the pacer that queues admitted SpokeJobs, and the standby pods."""
        self._queue, self._pacer = queue, pacer
        self._assignments, self._pools = assignments, pools

    def prime(self, is_served: Callable[[str], bool] = lambda _namespace: True, *, begun: str | None = None) -> None:
        """Pass the SpokeJobs that have or want an attempt to the pacer, before the first admission.

        :param is_served: whether a namespace's SpokeJobs are reconciled yet. Those of other namespaces get no place.
        :param begun: the namespace whose holds are continued; None for all. In others a hold may have ended since.
        """
        running, waiting, held, now = [], [], [], self._clock()
        self._assignments.prime(self._store.unfinished())
        self._leads_since = self._leads_since or now
        for spokejob in filter(lambda item: is_served(item.namespace), self._store.unfinished()):
            try:
                self._forget_earlier(key_of(spokejob), spokejob.uid)
                if spokejob.status.open_attempt or unrecorded(spokejob, self._store.jobs.of(key_of(spokejob))):
                    running.append(candidate_of(spokejob))
                elif wants_attempt(spokejob, now):
                    waiting.append(candidate_of(spokejob))
                if begun in (None, spokejob.namespace):
                    held.extend(holds_shown(spokejob))
            except Exception:  # its own reconcile raises the error again, and counts it
                logger.exception("no place could be given in advance", extra={"spokejob": str(key_of(spokejob))})
        self._pacer.prime(running, waiting, sorted(held, key=lambda item: item[1].since or now))

    def _wake(self, key: Key) -> None:
        self._queue.add(key)

    def read_live_next(self, key: Key) -> None:
        """Read this SpokeJob live before the next decision on it."""
        self._stale.add(key)

    async def process(self, key: Key) -> None:
        """Reconcile a SpokeJob: decide, and carry the decision out.

        A SpokeJob about which no decision can be made ends after :data:`TRIES` tries.

        :raises ApiError: if a call failed; retry later.
        """
        try:
            await self._process(key)
        except Exception as error:
            refused = isinstance(error, ApiError)
            if isinstance(error, NotLeading) or (isinstance(error, ApiError) and error.status not in REFUSED_VALUES):
                raise
            if key.name == STANDBY_POOL:  # it is no SpokeJob that could end
                raise
            self._stale.add(key)
            if not self._failed.failed(key, REFUSED_TRIES if refused else TRIES):
                raise
            await self._give_up(key, error)
        else:
            self._failed.succeeded(key)

    async def _give_up(self, key: Key, error: Exception) -> None:
        """End a SpokeJob whose decisions keep raising an error, and release its place first."""
        try:
            self._pacer.forget(key)
        except Exception as broken:  # the end is written in any case
            self._pacer.on_error(broken)
        item = self._store.spokejob(key)
        about = log_fields(item) if isinstance(item, SpokeJob) else {"spokejob": str(key)}
        logger.error("no decision is possible; giving up", exc_info=error, extra=about)
        if not isinstance(item, SpokeJob) or item.deleting or item.status.is_final:
            return  # there is nothing to end
        await self._carry_out(item, undiagnosable(item, self._store.jobs.of(key), error, self._clock()))
        self._metrics.undiagnosable.inc()

    async def _process(self, key: Key) -> None:
        if key.name == STANDBY_POOL:
            self._stale.discard(key)
            await self._pools.process(key.namespace)
            return
        live = key in self._stale
        if live:
            await self._live_reads.all_of(key)
            self._stale.discard(key)
        item = self._current(key)
        if item is None:
            self._forget(key)
            await self._delete_orphans(key)
            return
        if isinstance(item, Unreadable):
            await self._end_unreadable(item)
            return
        decision = self._decide(item, live=live)
        for wanted, read in ((ReadTemplate, self._live_reads.template_of), (ReadLive, self._live_reads.all_of)):
            if not any(isinstance(action, wanted) for action in decision.actions):
                continue
            await read(key)
            live = live or wanted is ReadLive
            item = self._current(key)
            if not isinstance(item, SpokeJob):
                self._queue.add(key)
                return
            decision = self._decide(item, live=live, template_live=True)
        self._kept.update(key, decision.kept)
        await self._carry_out(item, decision)

    def _current(self, key: Key) -> SpokeJob | Unreadable | None:
        """Return the SpokeJob of this name, after forgetting one that had the name before."""
        item = self._store.spokejob(key)
        if item is not None:
            self._forget_earlier(key, item.uid)
        return item

    def _forget_earlier(self, key: Key, uid: str) -> None:
        """Forget a SpokeJob of the same name that was deleted, if it was never seen to be missing.

        Otherwise the new one would have its place, or wait for what the earlier one waited for.
        """
        if self._uids.get(key, uid) != uid:
            self._forget(key)
        self._uids[key] = uid

    async def _delete_orphans(self, key: Key) -> None:
        """Delete the Jobs that a SpokeJob left behind. The garbage collector deletes those that still have an owner."""
        for action in orphan_deletions(key, self._store.jobs.of(key)):
            logger.warning(
                "deleting a Job whose SpokeJob was deleted without it", extra={"spokejob": str(key), "job": action.name}
            )
            await self._delete_job(Key(key.namespace, action.name), action)

    async def _end_unreadable(self, item: Unreadable) -> None:
        for action in reconcile_unreadable(item, self._clock()):
            if await self._apply_status(item.key, item.uid, item.resource_version, action):
                self._reports.ended_unreadable(item, action.status)

    def _decide(self, spokejob: SpokeJob, *, live: bool, template_live: bool = False) -> Decision:
        candidate = candidate_of(spokejob)
        decision = self._reconcile(spokejob, self._pacer.held(candidate), live=live, template_live=template_live)
        self._pass_ends(spokejob, decision)
        self._pacer.settle(candidate, decision.standing, decision.seen, decision.rejected)
        if decision.standing is Standing.WAITS and self._pacer.held(candidate) is None:
            decision = self._reconcile(spokejob, None, live=live, template_live=template_live)
            self._pacer.settle(candidate, decision.standing, decision.seen)
        written = (item.status for item in reversed(decision.actions) if isinstance(item, ApplyStatus))
        self._assignments.decided(key_of(spokejob), next(written, spokejob.status))
        return decision

    def _pass_ends(self, spokejob: SpokeJob, decision: Decision) -> None:
        """Report the ends of attempts to the pacer, before it releases their places."""
        recorded = decision.seen is not None and decision.seen.recorded
        for action in decision.actions:
            if isinstance(action, ApplyStatus):
                for record in newly_ended(spokejob.status, action.status):
                    self._pacer.ended(key_of(spokejob), record.cause, recorded=recorded)

    def _reconcile(self, spokejob: SpokeJob, held: Wait | None, *, live: bool, template_live: bool) -> Decision:
        key, now = key_of(spokejob), self._clock()
        template = Key(key.namespace, spokejob.spec.pod_template)
        jobs, pods = self._store.jobs.of(key), self._store.pods.of(key)
        seen = Observed(
            spokejob=spokejob,
            jobs=jobs,
            pods=pods,
            events=self._store.events_of((*jobs, *pods)),
            template=(found := self._store.templates.get(template)),
            held=held,
            limits=self._pacer.limits.of(key.namespace),
            others_wait=self._pacer.room is not None and len(self._pacer) > 0,
            live=live,
            template_live=live or template_live or self._live_reads.has_read_template(template),
            refusal=self._refusals.get(key),
            observed_since=self._leads_since,
            followed=self._store.has_next_run(spokejob),
            made=self._made_of(spokejob),
            offer=self._assignments.offer(spokejob, found) if held is None else None,
            handover=self._assignments.handover(spokejob),
            surplus=self._kept.surplus(key),
        )
        return reconcile(seen, now, self._retention)

    async def _carry_out(self, spokejob: SpokeJob, decision: Decision) -> None:
        key = key_of(spokejob)
        changed = False
        waits = [action.after_seconds for action in decision.actions if isinstance(action, CheckAgain)]
        for write in decision.writes:
            if isinstance(write, ApplyStatus):
                self._reports.decided(spokejob, write.status)
                if write.may_wait and (wait := self._throttle.wait(key)):
                    waits.append(wait + 0.01)  # slightly late rather than slightly early
                    continue
                self._throttle.forget(key)
            try:
                effect = await self._write(spokejob, write)
            except Exception:
                self._stale.add(key)
                raise
            changed = changed or effect is not Effect.UNCHANGED
            if effect is Effect.REFUSED:
                break
        if changed:
            self._queue.add(key)
            return
        if waits:
            self._queue.add_after(key, min(waits))

    async def _write(self, spokejob: SpokeJob, write: Write) -> Effect:
        """Carry out one write."""
        key = key_of(spokejob)
        match write:
            case CreateJob():
                return await self._create_job(spokejob, write)
            case DeleteJob():
                await self._delete_job(Key(key.namespace, write.name), write)
            case TakeStandby() | TellStandby() | LabelPod():
                return Effect.DONE if await self._hand_over(key.namespace, write) else Effect.REFUSED
            case ApplyStatus():
                if not await self._apply_status(key, spokejob.uid, spokejob.resource_version, write):
                    return Effect.UNCHANGED
                self._reports.written(spokejob, write.status)
                if write.status.attempt > spokejob.status.attempt:
                    if is_assigned(write.status.attempts[-1]):
                        self._started(spokejob, write.status.attempt, write.status.attempts[-1].job)
                    elif write.status.attempt > self._made_of(spokejob):
                        self._metrics.adopted.inc()
                    self._made.pop(key, None)
            case DeleteSpokeJob():
                await self._client.delete_spokejob(key, spokejob.uid, spokejob.resource_version)
                self._store.spokejobs.remove(key, spokejob.uid)
                self._metrics.writes.labels("spokejob_delete").inc()
        return Effect.DONE

    async def _create_job(self, spokejob: SpokeJob, create: CreateJob) -> Effect:
        key = key_of(spokejob)
        try:
            body = await self._client.create_job(key.namespace, create.body)
        except AlreadyExists:
            return await self._adopt(spokejob, create.name, create.attempt)
        except ApiError as error:
            refusal = read_refusal(error.status, error.message, self._clock())
            if refusal is None:
                raise
            logger.warning("the API server refuses the Job: %s", error, extra=log_fields(spokejob))
            if not self._pacer.job_refused(candidate_of(spokejob), refusal.wait):
                self._refuse(key, refusal)
            return Effect.REFUSED
        self._refusals.pop(key, None)
        self._made[key] = (spokejob.uid, create.attempt)
        self._store.job_seen(body)
        self._metrics.writes.labels("job_create").inc()
        self._started(spokejob, create.attempt, create.name)
        return Effect.DONE

    def _started(self, spokejob: SpokeJob, attempt: int, job: str) -> None:
        if attempt == 1:
            self._metrics.jobs.created(spokejob, (self._clock() - spokejob.created_at).total_seconds())
        self._assignments.started(spokejob)
        logger.info("attempt %d starts", attempt, extra=log_fields(spokejob) | {"job": job})

    async def _hand_over(self, namespace: str, step: TakeStandby | TellStandby | LabelPod) -> bool:
        match step:
            case TakeStandby():
                return await self._assignments.take(namespace, step)
            case TellStandby():
                return await self._assignments.tell(namespace, step)
            case LabelPod():
                return await self._assignments.label(namespace, step)

    def _refuse(self, key: Key, refusal: Refusal) -> None:
        """Record a refusal. Each consecutive one lengthens the backoff."""
        before = self._refusals.get(key)
        self._refusals[key] = replace(refusal, times=before.times + 1) if before else refusal

    async def _adopt(self, spokejob: SpokeJob, name: str, attempt: int) -> Effect:
        key = key_of(spokejob)
        body = await self._client.read(Kind.JOB, Key(key.namespace, name))
        if body is None:
            raise api_error(409, "AlreadyExists", f"Job {name!r} existed and was deleted in the meantime")
        if not is_an_attempt_of(spokejob, read_job(body)):
            self._refuse(key, foreign_job(name, self._clock()))
            return Effect.REFUSED
        self._made[key] = (spokejob.uid, attempt)
        self._metrics.adopted.inc()
        logger.info("adopted an existing Job", extra=log_fields(spokejob) | {"job": name})
        self._store.job_seen(body)
        return Effect.DONE

    async def _delete_job(self, key: Key, delete: DeleteJob) -> None:
        answer = await self._client.delete_job(
            key, delete.uid, delete.resource_version, wait_for_pods=delete.wait_for_pods
        )
        self._store.job_deleted(key, delete.uid, answer)
        self._metrics.writes.labels("job_delete").inc()

    async def _apply_status(self, key: Key, uid: str, resource_version: str, apply: ApplyStatus) -> bool:
        """Write the status. Return False if nothing changed: an older CRD makes the API server drop unknown fields."""
        body = await self._client.apply_status(key, uid, resource_version, apply.status)
        self._store.spokejob_seen(body)
        self._metrics.writes.labels("status").inc()
        if version_of(body) != resource_version:
            return True
        self._metrics.status_unchanged.inc()
        if not self._warned_of_unchanged:
            self._warned_of_unchanged = True
            logger.warning("a status write changed nothing: is the installed CRD older than this operator?",
                           extra={"spokejob": str(key)})  # fmt: skip
        return False

    def _made_of(self, spokejob: SpokeJob) -> int:
        uid, attempt = self._made.get(key_of(spokejob), ("", 0))
        return attempt if uid == spokejob.uid else 0

    def _forget(self, key: Key) -> None:
        self._uids.pop(key, None)
        self._queue.forget(key)
        self._pacer.forget(key)
        self._assignments.forget(key)
        self._throttle.forget(key)
        self._kept.update(key, ())
        self._failed.succeeded(key)
        self._refusals.pop(key, None)
        self._made.pop(key, None)
        self._reports.forget(key)
