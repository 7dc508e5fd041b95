"""Create, ask and delete standby pods as their PodTemplates want them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.standby import PodState, verifier_of
from spoke_jobs.shared.api_errors import AlreadyExists, ApiError
from spoke_jobs.shared.object_fields import uid_of
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, Key, PodTemplate, WarningEvent
from spoke_jobs_operator.core.objects.template_annotations import NO_STANDBY
from spoke_jobs_operator.core.reporting.job_events import standby_failed, standby_impossible
from spoke_jobs_operator.core.standby.pool import (
    RETRIES,
    WINDOW,
    Demand,
    Member,
    Removal,
    cause_of,
    failures,
    hindrance,
    is_free,
    late_at,
    lead_time,
    plan,
    recovered_at,
    wanted,
)
from spoke_jobs_operator.core.standby.standby_job import bounds_of, build_standby_job, problem_of, standby_name
from spoke_jobs_operator.core.standby.standby_offer import may_copy_labels
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.reporting.event_recorder import About
from spoke_jobs_operator.shell.reporting.status_reports import RecordEvents
from spoke_jobs_operator.shell.store.store import Store

from .assignments import REFUSALS
from .pod_calls import PodCalls
from .standby_pods import PoolMemory, StandbyPods, pool_of

POLL_SECONDS = 0.5
"""How often a pod that starts is asked whether it is ready."""
SLOWEST_POLL_SECONDS = 30.0
AT_ONCE = 20
"""The most Jobs that one pass creates for a PodTemplate, and the most pods that it asks."""
UNDELETABLE_AGAIN = timedelta(minutes=1)
"""When a Job is tried again whose deletion the API server refuses."""
FORGET_EVERY = 20
"""After how many passes the whole store is looked through for Jobs that are gone."""
_NONCE_BYTES = 6
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
logger = logging.getLogger(__name__)


class StandbyPools:
    """The pools: the standby pods of each PodTemplate that wants some.

    :param max_age: how long a standby pod waits at most until it is replaced.
    :param clock: returns the current time.
    :param record: called with Events about PodTemplates.
    :param later: queues a namespace's pool after some seconds.
    :param free: called with the number of free standby pods of a namespace, by PodTemplate.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: OperatorMetrics,
        pods: StandbyPods,
        calls: PodCalls,
        *,
        max_age: timedelta,
        clock: Callable[[], datetime],
        record: RecordEvents,
        later: Callable[[Key, float], None],
        free: Callable[[str, Mapping[str, int]], None],
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._pods = pods
        self._calls = calls
        self._max_age = max_age
        self._clock = clock
        self._record = record
        self._later = later
        self._free = free
        self._passes = 0

    def pools(self) -> set[Key]:
        """Return the pools of all namespaces that have standby pods, or PodTemplates that want some."""
        found = {job.meta.key.namespace for job in self._store.jobs if job.spokejob.name == STANDBY_POOL}
        return {pool_of(namespace) for namespace in found | {key.namespace for key in self._pods.wanting()}}

    async def process(self, namespace: str) -> None:
        """Bring the pools of a namespace to what is wanted.

        :raises ApiError: if a call failed; retry later.
        """
        await self._ask(namespace)
        now = self._clock()
        members = self._pods.members(namespace)
        wanting = {key.name for key in self._pods.wanting() if key.namespace == namespace}
        checks: list[datetime] = []
        errors: list[Exception] = []
        self._pods.forget_others(namespace, wanting | members.keys())
        for name in sorted(wanting | members.keys()):
            try:
                checks += await self._keep(Key(namespace, name), members.get(name, []), now)
            except Exception as error:
                errors.append(error)
        self._report(namespace, keeps=bool(wanting))
        if errors:
            raise errors[0]
        if (soonest := min(checks, default=None)) is not None:
            seconds = (soonest - now).total_seconds() + 0.01
            self._later(pool_of(namespace), max(seconds, POLL_SECONDS))

    async def _keep(self, key: Key, members: Sequence[Member], now: datetime) -> list[datetime]:
        """Do what the plan of one PodTemplate says; return when to look again."""
        template, memory = self._store.templates.get(key), self._pods.memory(key)
        bounds = bounds_of(template) if self._pods.keeps else NO_STANDBY
        memory.has_ready = any(item.ready and not item.ended for item in members)
        digest = self._pods.digest(template) if template is not None and bounds.maximum else ""
        current = [item for item in members if item.is_of(digest)]
        if template is not None and self._pods.keeps:
            self._warn(template, memory)
            self._count_failures(template, memory, current)
            self._note_hindrance(template, memory, current, now)
        if not bounds.maximum:
            memory.hindrance = ""
        works_at = recovered_at(memory.retry_at) if memory.has_ready else None
        if not bounds.maximum or (works_at is not None and works_at <= now):
            memory.recovered()
        number = wanted(bounds, memory.arrivals, lead_time(memory.starts), now)
        decided = plan(members, Demand(digest, number, memory.retry_at), now, self._max_age)
        for removal in decided.delete:
            await self._delete(removal, now)
        for _ in range(min(decided.create, AT_ONCE)):
            if template is None or not await self._create(template, memory):
                break
        checks = [] if decided.check_at is None else [decided.check_at]
        checks += [at for removal in decided.delete if (at := self._pods.of_job(removal.job.meta.uid).delete_at)]
        if decided.create > AT_ONCE:
            checks.append(now)
        if (late := late_at(current)) is not None and late > now:
            checks.append(late)
        if works_at is not None and works_at > now:
            checks.append(works_at)
        if memory.retry_at is not None and memory.retry_at > now and number:
            checks.append(memory.retry_at)
        if number > bounds.minimum:  # arrivals are forgotten
            checks.append(now + WINDOW / 10)
        return checks + [self._ask_at(item, now) for item in members if _is_asked(item)]

    async def _create(self, template: PodTemplate, memory: PoolMemory) -> bool:
        """Create the Job of a standby pod; return False if the API server refuses it."""
        namespace, name = template.meta.key.namespace, standby_name(template, secrets.token_hex(_NONCE_BYTES))
        verifier = verifier_of(self._pods.secret(namespace, name))
        body = build_standby_job(template, name, verifier, self._pods.seconds)
        try:
            created = await self._client.create_job(namespace, body)
        except AlreadyExists:  # the next pass takes another name
            return False
        except ApiError as error:
            if error.status not in REFUSALS:
                raise
            self._failed(template, memory, str(error))
            return False
        self._pods.of_job(uid_of(created)).made = True
        self._store.job_seen(created)
        self._metrics.writes.labels("job_create").inc()
        logger.info("a standby pod starts", extra={"template": str(template.meta.key), "job": name})
        return True

    async def _delete(self, removal: Removal, now: datetime) -> None:
        meta, memory = removal.job.meta, self._pods.of_job(removal.job.meta.uid)
        if self._pods.is_reserved(meta.key):  # meanwhile
            return
        if memory.delete_at is not None and now < memory.delete_at:
            return
        memory.ours = False  # no attempt is assigned to it while it is being deleted
        try:
            answer = await self._client.delete_job(meta.key, meta.uid, str(meta.resource_version), wait_for_pods=False)
        except ApiError as error:
            if error.status not in REFUSALS:
                raise
            memory.delete_at = now + UNDELETABLE_AGAIN
            logger.warning("a standby pod cannot be deleted: %s", error, extra={"job": str(meta.key)})
            return
        self._store.job_deleted(meta.key, meta.uid, answer)
        self._metrics.writes.labels("job_delete").inc()
        logger.info("a standby pod is deleted: %s", removal.why.value, extra={"job": str(meta.key)})

    async def _ask(self, namespace: str) -> None:
        """Ask the pods that start whether they are ready."""
        everyone, now = [item for own in self._pods.members(namespace).values() for item in own], self._clock()
        due = [item for item in everyone if _is_asked(item) and self._ask_at(item, now) <= now]
        asked = sorted(due, key=lambda item: self._pods.of_job(item.job.meta.uid).asked_at or _LONG_AGO)[:AT_ONCE]
        for item in asked:
            memory = self._pods.of_job(item.job.meta.uid)
            memory.asked_since, memory.asked_at = memory.asked_since or now, now
        states = await self._calls.states([item.pod.ip for item in asked if item.pod is not None])
        now = self._clock()
        for item, state in zip(asked, states, strict=True):
            job = item.job
            if state is PodState.FREE and job.standby is not None:
                memory, pool = self._pods.of_job(job.meta.uid), self._pods.memory(Key(namespace, job.standby.template))
                memory.ready = True
                pool.failure = None  # and the wait goes on: it may end like those before
                if memory.made:  # how long it took, not how long it has waited for this leader
                    memory.made = False
                    pool.starts.append(now - (job.meta.created_at or now))

    def _ask_at(self, member: Member, now: datetime) -> datetime:
        """Return when to ask a pod. One that takes long is asked less often."""
        last = self._pods.of_job(member.job.meta.uid).asked_at
        if last is None:
            return now
        age = (last - (member.job.meta.created_at or last)).total_seconds()
        return last + timedelta(seconds=min(max(POLL_SECONDS, age / 20), SLOWEST_POLL_SECONDS))

    def _count_failures(self, template: PodTemplate, memory: PoolMemory, members: Sequence[Member]) -> None:
        """Wait longer for the next standby pod after those that ended by themselves."""
        failed = {job.meta.uid for job in failures(members)}
        new = failed - memory.failed
        memory.failed = failed
        if new:
            last = next(item for item in members if item.job.meta.uid in new)
            self._failed(template, memory, cause_of(last))

    def _note_hindrance(
        self, template: PodTemplate, memory: PoolMemory, members: Sequence[Member], now: datetime
    ) -> None:
        """Say once what keeps standby pods from being ready."""
        found = hindrance(members, self._events_of, now)
        if found and found != memory.hindrance:
            logger.warning("no standby pod is ready: %s", found, extra={"template": str(template.meta.key)})
            self._record(_about(template), (standby_failed(found),))
        memory.hindrance = found

    def _events_of(self, member: Member) -> Sequence[WarningEvent]:
        return self._store.events_of((member.job, *([member.pod] if member.pod is not None else [])))

    def _failed(self, template: PodTemplate, memory: PoolMemory, why: str) -> None:
        memory.failures, memory.failure = memory.failures + 1, why
        seconds = RETRIES.after(memory.failures)
        memory.retry_at = self._clock() + timedelta(seconds=seconds)
        about = {"template": str(template.meta.key)}
        logger.warning("no standby pod starts: %s; trying again in %.0f s", why, seconds, extra=about)
        self._record(_about(template), (standby_failed(why),))

    def _warn(self, template: PodTemplate, memory: PoolMemory) -> None:
        """Say once why a PodTemplate that wants standby pods gets none."""
        problem = problem_of(template)
        if problem and problem != memory.warned_of:
            logger.warning("no standby pods: %s", problem, extra={"template": str(template.meta.key)})
            self._record(_about(template), (standby_impossible(problem),))
        memory.warned_of = problem

    def _report(self, namespace: str, *, keeps: bool) -> None:
        """Show how many there are now, tell admission how many are free, and forget those that are gone.

        :param keeps: whether the namespace is to have standby pods.
        """
        members, pools = self._pods.members(namespace), self._pods.counts(namespace)
        states = {state: sum(getattr(pool, state) for pool in pools) for state in ("free", "starting", "assigned")}
        shown = keeps or any(members.values()) or any(states.values())
        for state, number in states.items():
            if shown:
                self._metrics.standby_pods.labels(namespace, state).set(number)
            else:  # the namespace may be gone
                self._metrics.standby_pods.remove(namespace, state)
        self._free(namespace, {name: self._free_ones(Key(namespace, name), own) for name, own in members.items()})
        self._passes += 1
        if self._passes % FORGET_EVERY == 0:
            self._pods.forget_gone({job.meta.uid for job in self._store.jobs if job.standby is not None})

    def _free_ones(self, key: Key, members: Sequence[Member]) -> int:
        """Return how many are free for any job of the lane."""
        template = self._store.templates.get(key)
        if template is None or may_copy_labels(template) or not self._pods.keeps:
            return 0
        digest = self._pods.digest(template)
        return sum(1 for item in members if is_free(item) and item.is_of(digest))


def _is_asked(member: Member) -> bool:
    return member.runs and member.ours and not member.ready and not member.reserved


def _about(template: PodTemplate) -> About:
    return About(template.meta.key, template.meta.uid, Kind.TEMPLATE)
