"""Carry out the core's decisions for one SpokeJob at a time.

A failed write may still have taken effect. So the next decision on that SpokeJob uses objects that are read live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from spoke_jobs.contract.api_errors import AlreadyExists, ApiError, api_error
from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs.contract.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.actions import (
    ApplyStatus,
    CheckAgain,
    CreateJob,
    Decision,
    DeleteJob,
    DeleteSpokeJob,
    ReadLive,
    Standing,
    Write,
)
from spoke_jobs_operator.core.api_objects import Key, Unreadable
from spoke_jobs_operator.core.build_job import is_template_name
from spoke_jobs_operator.core.cleanup import Retention
from spoke_jobs_operator.core.observed import Observed, candidate_of, unrecorded, wants_attempt
from spoke_jobs_operator.core.read_objects import read_job
from spoke_jobs_operator.core.reconcile import reconcile, reconcile_unreadable
from spoke_jobs_operator.core.refusals import Refusal, foreign_job, read_refusal
from spoke_jobs_operator.core.status import open_attempt

from .operator_client import Client, Kind, Listing
from .operator_metrics import OperatorMetrics
from .pacing import Pacer
from .status_throttle import StatusThrottle
from .store import Listed, ObjectIndex, Store, key_of
from .workqueue import WorkQueue

T = TypeVar("T")
logger = logging.getLogger(__name__)


def now() -> datetime:
    """Return the time in milliseconds: more digits only make statuses longer."""
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
    """Reconcile the SpokeJobs whose keys the work queue hands out."""

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: OperatorMetrics,
        retention: Retention,
        throttle: StatusThrottle,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._retention = retention
        self._throttle = throttle
        self._clock = clock
        self._stale: set[Key] = set()
        self._refusals: dict[Key, Refusal] = {}
        self._made: dict[
            Key, tuple[str, int]
        ] = {}  # uid, and the attempt whose Job was created or adopted and is not recorded yet
        self._seen_to_run: dict[Key, str] = {}
        self._warned_of_unchanged = False
        self._queue: WorkQueue[Key]
        self._pacer: Pacer

    def attach(self, queue: WorkQueue[Key], pacer: Pacer) -> None:
        """Set the queue that calls :meth:`process`, and the pacer that queues the admitted SpokeJobs."""
        self._queue = queue
        self._pacer = pacer

    def prime(self, is_served: Callable[[str], bool] = lambda _namespace: True) -> None:
        """Pass the SpokeJobs that have or want an attempt to the pacer, before the first admission.

        :param is_served: whether a namespace's SpokeJobs are reconciled yet; others must not take places.
        """
        running, waiting, now = [], [], self._clock()
        for spokejob in filter(lambda item: is_served(item.namespace), self._store.unfinished()):
            if open_attempt(spokejob.status) or unrecorded(spokejob, self._store.jobs.of(key_of(spokejob))):
                running.append(candidate_of(spokejob))
            elif wants_attempt(spokejob, now):
                waiting.append(candidate_of(spokejob))
        self._pacer.prime(running, waiting)

    def read_live_next(self, key: Key) -> None:
        """Read this SpokeJob live before the next decision on it."""
        self._stale.add(key)

    async def process(self, key: Key) -> None:
        """Reconcile a SpokeJob: decide, and carry the decision out.

        :raises ApiError: if a call failed; retry later.
        """
        live = key in self._stale
        if live:
            await self._read_live(key)
            self._stale.discard(key)
        item = self._store.spokejob(key)
        if item is None:
            self._forget(key)
            return
        if isinstance(item, Unreadable):
            await self._end_unreadable(item)
            return
        decision = self._decide(item, live=live)
        if any(isinstance(action, ReadLive) for action in decision.actions):
            await self._read_live(key)
            item = self._store.spokejob(key)
            if not isinstance(item, SpokeJob):
                self._queue.add(key)
                return
            decision = self._decide(item, live=True)
        await self._carry_out(item, decision)

    async def _end_unreadable(self, item: Unreadable) -> None:
        for action in reconcile_unreadable(item, self._clock()):
            if await self._apply_status(item.key, item.uid, item.resource_version, action):
                outcome, cause = Outcome.FAILED.value, action.status.cause
                self._metrics.finished.labels(outcome, cause).inc()
                logger.warning("finished: %s: not readable: %s", cause, item.problem, extra={"spokejob": str(item.key)})

    def _decide(self, spokejob: SpokeJob, *, live: bool) -> Decision:
        candidate = candidate_of(spokejob)
        decision = self._reconcile(spokejob, self._pacer.held(candidate), live=live)
        self._pacer.settle(candidate, decision.standing)
        if decision.standing is Standing.WAITS and self._pacer.held(candidate) is None:
            decision = self._reconcile(spokejob, None, live=live)
            self._pacer.settle(candidate, decision.standing)
        return decision

    def _reconcile(self, spokejob: SpokeJob, held: Wait | None, *, live: bool) -> Decision:
        key, now = key_of(spokejob), self._clock()
        jobs, pods = self._store.jobs.of(key), self._store.pods.of(key)
        seen = Observed(
            spokejob=spokejob,
            jobs=jobs,
            pods=pods,
            events=self._store.events_of((*jobs, *pods)),
            template=self._store.templates.get(Key(key.namespace, spokejob.spec.pod_template)),
            held=held,
            live=live,
            refusal=self._refusals.get(key),
            made=self._made_of(spokejob),
        )
        return reconcile(seen, now, self._retention)

    async def _carry_out(self, spokejob: SpokeJob, decision: Decision) -> None:
        key = key_of(spokejob)
        changed = False
        waits = [action.after_seconds for action in decision.actions if isinstance(action, CheckAgain)]
        for write in decision.writes:
            if isinstance(write, ApplyStatus):
                self._observe_start(spokejob, write)
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
            case ApplyStatus():
                if not await self._apply_status(key, spokejob.uid, spokejob.resource_version, write):
                    return Effect.UNCHANGED
                self._report(spokejob, write)
                if write.status.attempt > spokejob.status.attempt:
                    if write.status.attempt > self._made_of(spokejob):
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
            self._refuse(key, refusal)
            return Effect.REFUSED
        self._refusals.pop(key, None)
        self._made[key] = (spokejob.uid, create.attempt)
        self._store.job_seen(body)
        self._metrics.writes.labels("job_create").inc()
        if create.attempt == 1:
            self._metrics.creation_seconds.observe((self._clock() - spokejob.created_at).total_seconds())
        logger.info("attempt %d starts", create.attempt, extra=log_fields(spokejob) | {"job": create.name})
        return Effect.DONE

    def _refuse(self, key: Key, refusal: Refusal) -> None:
        """Record a refusal. Each consecutive one lengthens the backoff."""
        before = self._refusals.get(key)
        self._refusals[key] = replace(refusal, times=before.times + 1) if before else refusal

    async def _adopt(self, spokejob: SpokeJob, name: str, attempt: int) -> Effect:
        key = key_of(spokejob)
        body = await self._client.read(Kind.JOB, Key(key.namespace, name))
        if body is None:
            raise api_error(409, "AlreadyExists", f"Job {name!r} existed and was deleted in the meantime")
        if read_job(body).owner != spokejob.uid:
            self._refuse(key, foreign_job(name, self._clock()))
            return Effect.REFUSED
        self._made[key] = (spokejob.uid, attempt)
        self._metrics.adopted.inc()
        logger.info("adopted an existing Job", extra=log_fields(spokejob) | {"job": name})
        self._store.job_seen(body)
        return Effect.DONE

    async def _delete_job(self, key: Key, delete: DeleteJob) -> None:
        uid = delete.uid
        answer = await self._client.delete_job(key, uid, delete.resource_version, wait_for_pods=delete.wait_for_pods)
        if answer and answer.get("kind") == "Job":
            self._store.job_seen(answer)
        else:
            self._store.jobs.remove(key, uid)
        self._metrics.writes.labels("job_delete").inc()

    async def _apply_status(self, key: Key, uid: str, resource_version: str, apply: ApplyStatus) -> bool:
        """Write the status. Return False if nothing changed: an older CRD makes the API server drop unknown fields."""
        body = await self._client.apply_status(key, uid, resource_version, apply.status)
        self._store.spokejob_seen(body)
        self._metrics.writes.labels("status").inc()
        if body["metadata"]["resourceVersion"] != resource_version:
            return True
        self._metrics.status_unchanged.inc()
        if not self._warned_of_unchanged:
            self._warned_of_unchanged = True
            logger.warning("a status write changed nothing: is the installed CRD older than this operator?",
                           extra={"spokejob": str(key)})  # fmt: skip
        return False

    def _observe_start(self, spokejob: SpokeJob, apply: ApplyStatus) -> None:
        """Measure when the first attempt is observed running; the status may show it later, or never."""
        new, key = apply.status, key_of(spokejob)
        runs = new.outcome is Outcome.RUNNING and spokejob.status.outcome is not Outcome.RUNNING and new.attempt == 1
        if runs and self._seen_to_run.get(key) != spokejob.uid:
            self._seen_to_run[key] = spokejob.uid
            self._metrics.start_seconds.observe((self._clock() - spokejob.created_at).total_seconds())

    def _report(self, spokejob: SpokeJob, apply: ApplyStatus) -> None:
        old, new = spokejob.status, apply.status
        ended = [item for item in new.attempts[-1:] if item.finished_at and item not in old.attempts]
        for record in ended:
            if record.cause:
                self._metrics.attempts_failed.labels(record.cause).inc()
            logger.info("attempt %d ended: %s", record.number, record.cause or "Succeeded", extra=log_fields(spokejob))
        if new.outcome and new.outcome.final and new.outcome != old.outcome:
            self._seen_to_run.pop(key_of(spokejob), None)
            self._metrics.finished.labels(new.outcome.value, new.cause).inc()
            logger.info("finished: %s", new.cause or new.outcome.value, extra=log_fields(spokejob))

    async def _read_live(self, key: Key) -> None:
        body = await self._client.read(Kind.SPOKEJOB, key)
        cached = self._store.spokejobs.get(key)
        if cached and (body is None or body["metadata"]["uid"] != cached.uid):
            self._store.spokejobs.remove(key, cached.uid)
        if body is None:
            return
        self._store.spokejob_seen(body)
        labels = f"{LABEL_SPOKEJOB}={key.name}"
        jobs = self._client.listing(Kind.JOB, key.namespace, labels=labels)
        await self._refresh(jobs, self._store.job_seen, self._store.jobs, key)
        pods = self._client.listing(Kind.POD, key.namespace, labels=labels)
        await self._refresh(pods, self._store.pod_seen, self._store.pods, key, self._store.remove_pods)
        name = str((body.get("spec") or {}).get("podTemplate"))
        if not is_template_name(name):
            return
        template_key = Key(key.namespace, name)
        template = await self._client.read(Kind.TEMPLATE, template_key)
        if template:
            self._store.template_seen(template)
        elif cached_template := self._store.templates.get(template_key):
            self._store.templates.remove_all([cached_template])

    async def _refresh(
        self,
        listing: Listing,
        see: Callable[[Mapping[str, Any]], object],
        index: ObjectIndex[T],
        key: Key,
        remove_all: Callable[[list[T], float], None] | None = None,
    ) -> None:
        known = index.of(key)
        uids: set[str] = set()
        version = 0
        async for page in listing.pages:
            version = page.resource_version
            for item in page.items:
                uids.add(item["metadata"]["uid"])
                see(item)
        absent = index.absent(Listed(listing.namespace, frozenset(uids), version), known)
        (remove_all or index.remove_all)(absent, version)

    def _made_of(self, spokejob: SpokeJob) -> int:
        uid, attempt = self._made.get(key_of(spokejob), ("", 0))
        return attempt if uid == spokejob.uid else 0

    def _forget(self, key: Key) -> None:
        self._queue.forget(key)
        self._pacer.forget(key)
        self._throttle.forget(key)
        self._refusals.pop(key, None)
        self._made.pop(key, None)
        self._seen_to_run.pop(key, None)


def log_fields(spokejob: SpokeJob) -> dict[str, object]:
    """Return the fields for log lines about this SpokeJob."""
    return {
        "spokejob": str(key_of(spokejob)),
        "request_id": spokejob.spec.request_id,
        "job_type": spokejob.spec.job_type,
    }
