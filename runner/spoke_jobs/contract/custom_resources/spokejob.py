"""The model of the SpokeJob custom resource, which runner and operator write. The CRD is generated from the model.

``kubectl explain spokejob.spec`` prints the descriptions of the fields. Strings and lists are bounded, because the API
server multiplies the cost of a validation rule by the largest size of a field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from spoke_jobs.contract.api_model import ApiModel
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.condition import MESSAGE_LIMIT, Condition
from spoke_jobs.contract.labels import given_labels
from spoke_jobs.contract.names import KEY_LIMIT, PRIORITY_LIMIT, QUEUE_LIMIT, TEMPLATE_LIMIT, TEMPLATE_NAME
from spoke_jobs.contract.retry import (
    DEFAULT_BACKOFF_MAX_SECONDS,
    DEFAULT_BACKOFF_SECONDS,
    DEFAULT_BUDGET,
    DEFAULT_JITTER,
    DEFAULT_MEMORY_FACTOR,
    LARGEST_FACTOR,
    QUANTITY,
    RetryPolicy,
)
from spoke_jobs.contract.wait_status import WaitStatus
from spoke_jobs.shared.object_fields import Moment, mapping

LARGEST_MEASURED_BYTES = 2**50


class Outcome(StrEnum):
    """The state of a SpokeJob, as one word that field selectors can match."""

    WAITING = "Waiting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def final(self) -> bool:
        """Whether the outcome is Succeeded or Failed."""
        return self in (Outcome.SUCCEEDED, Outcome.FAILED)


class LedgerState(StrEnum):
    """The row's final state, which sync copies from the ledger."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Budget(ApiModel):
    """How many failed attempts of each class end the job."""

    error: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.ERROR]
    """The job's own code failed."""
    oom: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.OOM]
    """The job ran out of memory."""
    infrastructure: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.INFRASTRUCTURE]
    """A process, pod or Job was lost, and nothing explains why."""
    image: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.IMAGE]
    """An image, Secret or entrypoint was unusable."""
    timeout: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.TIMEOUT]
    """The job took too long."""
    disruption: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.DISRUPTION]
    """Maintenance ended the attempt: a drain, a rollout, a lost node."""
    dependency: Annotated[int, Field(ge=1, le=100)] = DEFAULT_BUDGET[CauseClass.DEPENDENCY]
    """The attempt's database did not answer."""


class Retry(ApiModel):
    """Whether and when a failed attempt is followed by another."""

    budget: Budget = Budget()
    """How many failed attempts of each class of cause end the job."""
    backoff_seconds: Annotated[float, Field(ge=0, le=86400)] = DEFAULT_BACKOFF_SECONDS
    """The wait before the second attempt; it doubles with each charged attempt."""
    backoff_max_seconds: Annotated[float, Field(ge=0, le=86400)] = DEFAULT_BACKOFF_MAX_SECONDS
    """The longest wait between attempts."""
    jitter: Annotated[float, Field(ge=0, le=1)] = DEFAULT_JITTER
    """The largest share by which a wait is lengthened."""
    memory_factor: Annotated[float, Field(ge=1, le=LARGEST_FACTOR)] = DEFAULT_MEMORY_FACTOR
    """The factor for memory after an attempt that ran out of memory."""
    memory_max: Annotated[str | None, Field(max_length=30, pattern=QUANTITY)] = None
    """The most memory that an attempt gets; if absent, four times the first attempt's."""

    def policy(self) -> RetryPolicy:
        """Return the policy that :func:`spoke_jobs.contract.retry.after_failure` takes."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        budget = {CauseClass(name): count for name, count in self.budget.model_dump().items()}
        return RetryPolicy(**{name: value for name, value in given.items() if value is not None} | {"budget": budget})


Amounts = Annotated[
    dict[
        Annotated[str, Field(max_length=100)],
        Annotated[str, Field(max_length=30, pattern=QUANTITY)],
    ],
    Field(max_length=10),
]
"""Quantities by resource: ``{"memory": "512Mi"}``."""


class Resources(ApiModel):
    """The resources of the job's container. Each amount replaces the template's amount of that name."""

    requests: Amounts = {}
    """What the scheduler reserves for the container."""
    limits: Amounts = {}
    """The most that the container may use."""


class SpokeJobSpec(ApiModel):
    """The job to run: identifiers and options, never a payload. Immutable except for suspend, cancel and priority."""

    uid: UUID
    """The JobRequest's uid, which distinguishes rows of different databases."""
    request_id: Annotated[int, Field(ge=1)]
    """The JobRequest's id in the application's database."""
    run: Annotated[int, Field(ge=1, le=9999)] = 1
    """The run's number, from 1."""
    job_type: Annotated[str, Field(min_length=1, max_length=200)]
    """The registered job that the pod runs."""
    queue: Annotated[str, Field(max_length=QUEUE_LIMIT)] = ""
    """The job's queue; empty for none."""
    locks_queue: bool = False
    """Whether an attempt runs only while no other job that locks the queue has one."""
    priority: Annotated[int, Field(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)] = 0
    """Jobs of a higher priority are admitted first. Sync keeps it at the priority of the job's row."""
    organization: Annotated[int | None, Field(ge=0)] = None
    """The organization that the job works for; organizations take turns."""
    limit_key: Annotated[str | None, Field(min_length=1, max_length=KEY_LIMIT)] = None
    """What the job uses; SpokeLimits with the scope key:NAME apply to all jobs with that key."""
    pod_template: Annotated[
        str,
        # in the CRD only, so that older objects stay readable
        Field(min_length=1, max_length=TEMPLATE_LIMIT, json_schema_extra={"pattern": TEMPLATE_NAME}),
    ] = "default"
    """The PodTemplate (core/v1, labeled jobs.spoke.dev/template: "true") of the job's pod."""
    lane: Annotated[str, Field(max_length=20)] = ""
    """Where attempts run. "standby": in a standby pod of the PodTemplate if one is free, otherwise, and with any other
    value, in a pod of their own."""
    resources: Resources | None = None
    """Resources of the job's container, in place of the template's."""
    auto_requests: Amounts | None = None
    """Requests that suit what earlier jobs of the type used. The PodTemplate's annotations jobs.spoke.dev/min-resources
    and jobs.spoke.dev/max-resources bound them; without a maximum, an amount does not apply."""
    measured_memory_bytes: Annotated[int | None, Field(ge=1, le=LARGEST_MEASURED_BYTES)] = None
    """The most memory that an attempt in a worker had when it ran out of it; absent if none did."""
    timeout_seconds: Annotated[int | None, Field(ge=1, le=2592000)] = None
    """How long one attempt may run; unlimited if absent."""
    start_timeout_seconds: Annotated[int, Field(ge=1, le=604800)] = 600
    """How long an attempt's pod may take to start running."""
    retry: Retry = Retry()
    """Whether and when a failed attempt is followed by another."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31536000)] = 604800
    """How long the SpokeJob is kept after its end is in the ledger."""
    suspend: bool = False
    """While true, no attempt is started. A running attempt continues."""
    cancel: bool = False
    """If true, a running attempt is ended, and the job fails as Cancelled. The field can't be unset."""
    traceparent: Annotated[str, Field(max_length=128)] = ""
    """W3C trace context of the dispatch; empty for none."""


class AttemptStatus(ApiModel):
    """One attempt, as the operator observed it."""

    number: Annotated[int, Field(ge=1)]
    """From 1."""
    job: Annotated[str, Field(max_length=63)]
    """The attempt's Kubernetes Job."""
    pod: Annotated[str, Field(max_length=253)] = ""
    """The attempt's pod; empty if none was created."""
    node: Annotated[str, Field(max_length=253)] = ""
    """The pod's node."""
    template: Annotated[str, Field(max_length=300)] = ""
    """Uid and generation of the PodTemplate."""
    lane: Annotated[str, Field(max_length=20)] = ""
    """"standby" if the attempt was assigned to a standby pod; else empty."""
    started_at: Moment | None = None
    """When the Job was created, or the attempt was assigned to a standby pod."""
    scheduled_at: Moment | None = None
    """When the pod got its node; absent of an attempt in a standby pod."""
    runs_since: Moment | None = None
    """When the job's container started, or the attempt was assigned to one that ran."""
    finished_at: Moment | None = None
    """When the operator observed the attempt's end."""
    memory_request: Annotated[str, Field(max_length=30)] = ""
    """The memory that the job's container requests; empty for none."""
    memory_limit: Annotated[str, Field(max_length=30)] = ""
    """The most memory that the job's container may use; empty for no bound."""
    timeout_seconds: Annotated[int | None, Field(ge=1)] = None
    """How long the attempt may run, if a SpokeLimit set that instead of the job."""
    cause: Annotated[str, Field(max_length=40)] = ""
    """Why the attempt failed; empty after a success."""
    error_type: Annotated[str, Field(max_length=200)] = ""
    """The exception's class, if one was raised."""
    exit_code: int | None = None
    """The container's exit code, if it exited."""
    container: Annotated[str, Field(max_length=63)] = ""
    """The container that failed or could not start, if it is not the job's."""
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT)] = ""
    """What Kubernetes last said about the attempt; empty after a success."""
    reason: Annotated[str, Field(max_length=40)] = ""
    """What the attempt waited for until it ended as StartTimeout; else empty."""


class ProgressStatus(ApiModel):
    """The progress of a running job, which sync copies from the ledger."""

    percent: Annotated[int, Field(ge=0, le=100)]
    """Percent done."""
    message: Annotated[str, Field(max_length=200)] = ""
    """The job's own message, if it gave one."""


class SpokeJobStatus(ApiModel):
    """The state of the job. Sync writes progress and ledger, the operator everything else."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The generation of the spec that this status describes."""
    outcome: Outcome | None = None
    """Waiting, Running, Succeeded or Failed; the last two are final."""
    cause: Annotated[str, Field(max_length=40)] = ""
    """Why the job failed, or what it waits for."""
    waiting: WaitStatus | None = None
    """What the job waits for; absent unless the outcome is Waiting."""
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT)] = ""
    """What Kubernetes said about the end; empty before it."""
    reason: Annotated[str, Field(max_length=40)] = ""
    """What the job waited for until it ended as StartTimeout; else empty."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """The number of the newest attempt."""
    charged: Annotated[dict[str, int], Field(max_length=10)] = {}
    """Failed attempts that count against the job's budgets, by class of cause."""
    not_charged: Annotated[dict[str, int], Field(max_length=10)] = {}
    """Attempts that maintenance or an absent dependency ended, by class of cause. Each class has a high bound of its
    own."""
    next_attempt_at: Moment | None = None
    """When the next attempt is due."""
    finished_at: Moment | None = None
    """When the SpokeJob became final."""
    attempts: Annotated[tuple[AttemptStatus, ...], Field(max_length=10)] = ()
    """The last ten attempts."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = ()
    """Admitted: an attempt has its Job. Running: its container runs. Succeeded: the job has succeeded; Unknown until it
    ends. Finished: the job has ended. Blocked, only while it is true: no Job can be created."""
    progress: ProgressStatus | None = None
    """The progress of the running job."""
    ledger: LedgerState | None = None
    """The final state of the job's row; decides the outcome."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.outcome is not None and self.outcome.final

    @property
    def newest(self) -> AttemptStatus | None:
        """The record of the newest attempt, if there is one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def open_attempt(self) -> AttemptStatus | None:
        """The record of the attempt that has not ended, if there is one."""
        newest = self.newest
        return newest if newest is not None and newest.finished_at is None else None

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type."""
        return next((item for item in self.conditions if item.type == kind), None)

    def said(self, reason: str) -> str:
        """Return the message of the condition with this reason; empty if there is none."""
        return next((item.message for item in self.conditions if item.reason == reason and item.message), "")


class SpokeJob(ApiModel):
    """A SpokeJob as read from the API server: the fields that runner and operator use."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 0
    created_at: Moment
    deleting: bool = False
    labels: dict[str, str] = {}
    """The labels that the job's dispatch gave."""
    spec: SpokeJobSpec
    status: SpokeJobStatus = SpokeJobStatus()

    @classmethod
    def from_object(cls, body: dict[str, object]) -> SpokeJob:
        """Read the API server's object.

        :raises pydantic.ValidationError: if a field violates the schema, for example in an object older than the CRD.
        """
        metadata = mapping(body, "metadata")
        return cls.model_validate(
            {
                "name": metadata.get("name"),
                "namespace": metadata.get("namespace"),
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
                "generation": metadata.get("generation", 0),
                "createdAt": metadata.get("creationTimestamp"),
                "deleting": metadata.get("deletionTimestamp") is not None,
                "labels": given_labels(mapping(metadata, "labels")),
                "spec": body.get("spec", {}),
                "status": body.get("status", {}),
            }
        )
