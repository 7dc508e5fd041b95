"""Assign attempts to standby pods, and hand them over, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.standby import PodState, assignment_body
from spoke_jobs.shared.api_errors import ApiError, Conflict, NotFound
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs_operator.core.objects.api_objects import Job, Key, PodTemplate
from spoke_jobs_operator.core.reconciling.actions import LabelPod, TakeStandby, TellStandby
from spoke_jobs_operator.core.standby.assignment import Handover, Told, is_assigned
from spoke_jobs_operator.core.standby.standby_job import bounds_of
from spoke_jobs_operator.core.standby.standby_offer import Miss, offer
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.store.store import Store, key_of

from .pod_calls import PodCalls, Reply
from .standby_pods import StandbyPods, pool_of

TRIES = 3
"""How many calls without an answer a pod gets, at least, before its attempt is given up."""
TELL_AGAIN = Backoff(base=0.5, maximum=10.0)
"""The waits between the tries."""
REFUSALS = (400, 403, 422)
"""The statuses with which the API server refuses a write that it would refuse again: no right, a policy, a quota."""
logger = logging.getLogger(__name__)


class Assignments:
    """The attempts that are assigned to standby pods.

    What is kept in memory may be lost. Another leader finds the assigned attempts in the statuses of SpokeJobs.

    :param clock: returns the current time.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: OperatorMetrics,
        pods: StandbyPods,
        calls: PodCalls,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._pods = pods
        self._calls = calls
        self._clock = clock
        self._offers: dict[Key, Job | Miss] = {}

    def offer(self, spokejob: SpokeJob, template: PodTemplate | None) -> Job | Miss | None:
        """Return the standby pod for the SpokeJob's next attempt, or why it gets none."""
        if not self._pods.keeps or not spokejob.spec.lane or template is None:
            return None
        if spokejob.status.open_attempt is not None:
            return None
        key = key_of(spokejob)
        wants = bounds_of(template).maximum > 0
        members = self._pods.members(key.namespace, key).get(template.meta.key.name, []) if wants else []
        found = offer(spokejob, template, members, self._pods.digest(template) if wants else "")
        if found is not None:
            self._offers[key] = found
        return found

    def handover(self, spokejob: SpokeJob) -> Handover | None:
        """Return how far the open attempt is handed over; None if it was assigned to no standby pod."""
        record = spokejob.status.open_attempt
        if record is None or not is_assigned(record):
            return None
        job = self._store.jobs.get(Key(spokejob.namespace, record.job))
        if job is None:
            return Handover(None, None)
        memory = self._pods.of_job(job.meta.uid)
        return Handover(
            job,
            self._pods.pod_of(job),
            memory.told,
            memory.tell_at,
            untold=memory.took and not memory.reached,
            refusal=memory.refusal,
        )

    def decided(self, key: Key, status: SpokeJobStatus) -> None:
        """Reserve the standby pod that a SpokeJob's status names, or is about to name; release any other one."""
        record = status.open_attempt
        assigned = record is not None and is_assigned(record)
        self._pods.reserve(key, Key(key.namespace, record.job) if record is not None and assigned else None)

    def prime(self, spokejobs: Iterable[SpokeJob]) -> None:
        """Reserve what an earlier leader has assigned, before the first decision."""
        for spokejob in spokejobs:
            self.decided(key_of(spokejob), spokejob.status)

    def forget(self, key: Key) -> None:
        """Release the standby pod of a SpokeJob that is gone."""
        self._pods.reserve(key, None)
        self._offers.pop(key, None)

    def started(self, spokejob: SpokeJob) -> None:
        """Count an attempt of the lane: one that was assigned, or that got a pod of its own."""
        if (found := self._offers.pop(key_of(spokejob), None)) is None:
            return
        result = "hit" if isinstance(found, Job) else found.value
        self._metrics.jobs.standby_attempt(spokejob.namespace, result)
        if isinstance(found, Job) or found is Miss.NONE_FREE:
            memory = self._pods.memory(Key(spokejob.namespace, spokejob.spec.pod_template))
            memory.arrivals.append(self._clock())
        self._pods.on_change(pool_of(spokejob.namespace))

    async def take(self, namespace: str, take: TakeStandby) -> bool:
        """Make a SpokeJob the owner of a standby pod's Job; return False if the API server refuses.

        :raises Conflict: if the Job has changed since it was read.
        """
        metadata = {
            "uid": take.uid,
            "resourceVersion": take.resource_version,
            "labels": dict(take.labels),
            "ownerReferences": [dict(take.owner)],
        }
        try:
            body = await self._client.patch_metadata(Kind.JOB, Key(namespace, take.name), metadata)
        except NotFound:
            self._store.jobs.remove(Key(namespace, take.name), take.uid)
            return False
        except ApiError as error:
            return self._refused(take.name, take.uid, error)
        memory = self._pods.of_job(take.uid)
        memory.took, memory.refusal = True, ""
        self._store.job_seen(body)
        self._metrics.writes.labels("standby_take").inc()
        self._pods.on_change(pool_of(namespace))
        return True

    async def tell(self, namespace: str, tell: TellStandby) -> bool:
        """Tell a standby pod which attempt it has; return whether it accepts.

        :raises NotLeading: if this process doesn't lead; then the pod was not told.
        """
        if not self._client.may_write():
            raise NotLeading(f"assign an attempt to {tell.job}")
        job, memory = self._store.jobs.get(Key(namespace, tell.job)), self._pods.of_job(tell.job_uid)
        if job is not None and self._pods.is_ours(job):
            secret = self._pods.secret(namespace, tell.job)
            was_reached, memory.reached = memory.reached, True  # also if the call ends with an exception
            reply = await self._calls.assign(tell.ip, secret, assignment_body(tell.variables))
            if reply is Reply.NOT_CONNECTED:
                memory.reached = was_reached
        else:  # only an earlier leader could tell it: did it?
            (state,) = await self._calls.states([tell.ip])
            reply = {PodState.ASSIGNED: Reply.ACCEPTED, PodState.FREE: Reply.REFUSED, None: Reply.NONE}[state]
        now = self._clock()
        if reply is Reply.ACCEPTED:
            if memory.told is Told.NOT_YET:
                self._metrics.standby_seconds.observe((now - tell.assigned_at).total_seconds())
            memory.told, memory.tell_at = Told.DONE, None
            if job is not None and job.standby is not None:
                self._pods.memory(Key(namespace, job.standby.template)).recovered()
            return True
        memory.unanswered += 1
        memory.tell_at = now + timedelta(seconds=TELL_AGAIN.after(memory.unanswered))
        is_over = memory.unanswered >= TRIES and (memory.took or now >= tell.until)
        if reply is Reply.REFUSED or is_over:
            memory.fail()
            logger.warning("a standby pod does not take its attempt", extra={"job": tell.job, "reply": reply.value})
        return False

    async def label(self, namespace: str, label: LabelPod) -> bool:
        """Give a standby pod the labels of its attempt; return False if the API server refuses."""
        key = Key(namespace, label.name)
        metadata = {"uid": label.uid, "labels": dict(label.labels), "annotations": dict(label.annotations)}
        try:
            body = await self._client.patch_metadata(Kind.POD, key, metadata)
        except NotFound:
            self._store.pods.remove(key, label.uid)
            return True
        except ApiError as error:
            pod = self._store.pods.get(key)
            return self._refused(label.name, pod.job if pod is not None else "", error)
        self._store.pod_seen(body)
        if (pod := self._store.pods.get(key)) is not None:
            self._pods.of_job(pod.job).refusal = ""
        self._metrics.writes.labels("standby_label").inc()
        return True

    def _refused(self, name: str, job_uid: str, error: ApiError) -> bool:
        """Let the attempt end if a write of its standby pod is refused for good. Without it, its end is not seen.

        :raises ApiError: if the write may succeed later.
        """
        memory = self._pods.of_job(job_uid)
        if not isinstance(error, Conflict):
            memory.refusal = error.message
        if error.status not in REFUSALS:
            raise error
        logger.warning("the API server refuses an attempt's standby pod: %s", error, extra={"object": name})
        memory.fail()
        return False
