"""The model of the SpokeJob custom resource, which runner and operator write. The CRD is generated from the model.

``kubectl explain spokejob.spec`` prints the descriptions of the fields. Strings and lists are bounded, because the API
server multiplies the cost of a validation rule by the largest size of a field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

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


class _Model(BaseModel):
    # Unknown fields come from a newer release: ignore them.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Budget(_Model):
    """How many failed attempts of each class end the job."""

    error: Annotated[int, Field(ge=1, le=100, description="The job's own code failed.")] = DEFAULT_BUDGET[
        CauseClass.ERROR
    ]
    oom: Annotated[int, Field(ge=1, le=100, description="The job ran out of memory.")] = DEFAULT_BUDGET[CauseClass.OOM]
    infrastructure: Annotated[
        int, Field(ge=1, le=100, description="A process, pod or Job was lost, and nothing explains why.")
    ] = DEFAULT_BUDGET[CauseClass.INFRASTRUCTURE]
    image: Annotated[int, Field(ge=1, le=100, description="An image, Secret or entrypoint was unusable.")] = (
        DEFAULT_BUDGET[CauseClass.IMAGE]
    )
    timeout: Annotated[int, Field(ge=1, le=100, description="The job took too long.")] = DEFAULT_BUDGET[
        CauseClass.TIMEOUT
    ]
    disruption: Annotated[
        int, Field(ge=1, le=100, description="Maintenance ended the attempt: a drain, a rollout, a lost node.")
    ] = DEFAULT_BUDGET[CauseClass.DISRUPTION]
    dependency: Annotated[int, Field(ge=1, le=100, description="The attempt's database did not answer.")] = (
        DEFAULT_BUDGET[CauseClass.DEPENDENCY]
    )


class Retry(_Model):
    """Whether and when a failed attempt is followed by another."""

    budget: Annotated[Budget, Field(description="How many failed attempts of each class of cause end the job.")] = (
        Budget()
    )
    backoff_seconds: Annotated[
        float,
        Field(ge=0, le=86400, description="The wait before the second attempt; it doubles with each charged attempt."),
    ] = DEFAULT_BACKOFF_SECONDS
    backoff_max_seconds: Annotated[float, Field(ge=0, le=86400, description="The longest wait between attempts.")] = (
        DEFAULT_BACKOFF_MAX_SECONDS
    )
    jitter: Annotated[float, Field(ge=0, le=1, description="The largest share by which a wait is lengthened.")] = (
        DEFAULT_JITTER
    )
    memory_factor: Annotated[
        float,
        Field(
            ge=1,
            le=LARGEST_FACTOR,
            description="The factor for memory after an attempt that ran out of memory.",
        ),
    ] = DEFAULT_MEMORY_FACTOR
    memory_max: Annotated[
        str | None,
        Field(
            max_length=30,
            pattern=QUANTITY,
            description="The most memory that an attempt gets; if absent, four times the first attempt's.",
        ),
    ] = None

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


class Resources(_Model):
    """The resources of the job's container. Each amount replaces the template's amount of that name."""

    requests: Annotated[Amounts, Field(description="What the scheduler reserves for the container.")] = {}
    limits: Annotated[Amounts, Field(description="The most that the container may use.")] = {}


class SpokeJobSpec(_Model):
    """The job to run: identifiers and options, never a payload. Immutable except for suspend, cancel and priority."""

    uid: Annotated[UUID, Field(description="The JobRequest's uid, which distinguishes rows of different databases.")]
    request_id: Annotated[int, Field(ge=1, description="The JobRequest's id in the application's database.")]
    run: Annotated[int, Field(ge=1, le=9999, description="The run's number, from 1.")] = 1
    job_type: Annotated[str, Field(min_length=1, max_length=200, description="The registered job that the pod runs.")]
    queue: Annotated[str, Field(max_length=QUEUE_LIMIT, description="The job's queue; empty for none.")] = ""
    locks_queue: Annotated[
        bool, Field(description="Whether an attempt runs only while no other job that locks the queue has one.")
    ] = False
    priority: Annotated[
        int,
        Field(
            ge=-PRIORITY_LIMIT,
            le=PRIORITY_LIMIT,
            description="Jobs of a higher priority are admitted first. Sync keeps it at the priority of the job's row.",
        ),
    ] = 0
    organization: Annotated[
        int | None, Field(ge=0, description="The organization that the job works for; organizations take turns.")
    ] = None
    limit_key: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=KEY_LIMIT,
            description="What the job uses; SpokeLimits with the scope key:NAME apply to all jobs with that key.",
        ),
    ] = None
    pod_template: Annotated[
        str,
        Field(
            min_length=1,
            max_length=TEMPLATE_LIMIT,
            json_schema_extra={"pattern": TEMPLATE_NAME},  # in the CRD only, so that older objects stay readable
            description='The PodTemplate (core/v1, labeled jobs.spoke.dev/template: "true") of the job\'s pod.',
        ),
    ] = "default"
    lane: Annotated[
        str,
        Field(
            max_length=20,
            description='Where attempts run. "standby": in a standby pod of the PodTemplate if one is free, otherwise, '
            "and with any other value, in a pod of their own.",
        ),
    ] = ""
    resources: Annotated[
        Resources | None, Field(description="Resources of the job's container, in place of the template's.")
    ] = None
    auto_requests: Annotated[
        Amounts | None,
        Field(
            description="Requests that suit what earlier jobs of the type used. The PodTemplate's annotations "
            "jobs.spoke.dev/min-resources and jobs.spoke.dev/max-resources bound them; without a maximum, an amount "
            "does not apply."
        ),
    ] = None
    measured_memory_bytes: Annotated[
        int | None,
        Field(
            ge=1,
            le=LARGEST_MEASURED_BYTES,
            description="The most memory that an attempt in a worker had when it ran out of it; absent if none did.",
        ),
    ] = None
    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=2592000, description="How long one attempt may run; unlimited if absent.")
    ] = None
    start_timeout_seconds: Annotated[
        int, Field(ge=1, le=604800, description="How long an attempt's pod may take to start running.")
    ] = 600
    retry: Annotated[Retry, Field(description="Whether and when a failed attempt is followed by another.")] = Retry()
    ttl_seconds_after_finished: Annotated[
        int,
        Field(ge=0, le=31536000, description="How long the SpokeJob is kept after its end is in the ledger."),
    ] = 604800
    suspend: Annotated[bool, Field(description="While true, no attempt is started. A running attempt continues.")] = (
        False
    )
    cancel: Annotated[
        bool,
        Field(
            description="If true, a running attempt is ended, and the job fails as Cancelled. The field can't be unset."
        ),
    ] = False
    traceparent: Annotated[
        str, Field(max_length=128, description="W3C trace context of the dispatch; empty for none.")
    ] = ""


class AttemptStatus(_Model):
    """One attempt, as the operator observed it."""

    number: Annotated[int, Field(ge=1, description="From 1.")]
    job: Annotated[str, Field(max_length=63, description="The attempt's Kubernetes Job.")]
    pod: Annotated[str, Field(max_length=253, description="The attempt's pod; empty if none was created.")] = ""
    node: Annotated[str, Field(max_length=253, description="The pod's node.")] = ""
    template: Annotated[str, Field(max_length=300, description="Uid and generation of the PodTemplate.")] = ""
    lane: Annotated[
        str, Field(max_length=20, description='"standby" if the attempt was assigned to a standby pod; else empty.')
    ] = ""
    started_at: Annotated[
        Moment | None, Field(description="When the Job was created, or the attempt was assigned to a standby pod.")
    ] = None
    scheduled_at: Annotated[
        Moment | None, Field(description="When the pod got its node; absent of an attempt in a standby pod.")
    ] = None
    runs_since: Annotated[
        Moment | None,
        Field(description="When the job's container started, or the attempt was assigned to one that ran."),
    ] = None
    finished_at: Annotated[Moment | None, Field(description="When the operator observed the attempt's end.")] = None
    memory_request: Annotated[
        str, Field(max_length=30, description="The memory that the job's container requests; empty for none.")
    ] = ""
    memory_limit: Annotated[
        str, Field(max_length=30, description="The most memory that the job's container may use; empty for no bound.")
    ] = ""
    timeout_seconds: Annotated[
        int | None,
        Field(ge=1, description="How long the attempt may run, if a SpokeLimit set that instead of the job."),
    ] = None
    cause: Annotated[str, Field(max_length=40, description="Why the attempt failed; empty after a success.")] = ""
    error_type: Annotated[str, Field(max_length=200, description="The exception's class, if one was raised.")] = ""
    exit_code: Annotated[int | None, Field(description="The container's exit code, if it exited.")] = None
    container: Annotated[
        str, Field(max_length=63, description="The container that failed or could not start, if it is not the job's.")
    ] = ""
    message: Annotated[
        str,
        Field(
            max_length=MESSAGE_LIMIT, description="What Kubernetes last said about the attempt; empty after a success."
        ),
    ] = ""
    reason: Annotated[
        str,
        Field(max_length=40, description="What the attempt waited for until it ended as StartTimeout; else empty."),
    ] = ""


class ProgressStatus(_Model):
    """The progress of a running job, which sync copies from the ledger."""

    percent: Annotated[int, Field(ge=0, le=100, description="Percent done.")]
    message: Annotated[str, Field(max_length=200, description="The job's own message, if it gave one.")] = ""


class SpokeJobStatus(_Model):
    """The state of the job. Sync writes progress and ledger, the operator everything else."""

    observed_generation: Annotated[
        int | None, Field(ge=0, description="The generation of the spec that this status describes.")
    ] = None
    outcome: Annotated[
        Outcome | None, Field(description="Waiting, Running, Succeeded or Failed; the last two are final.")
    ] = None
    cause: Annotated[str, Field(max_length=40, description="Why the job failed, or what it waits for.")] = ""
    waiting: Annotated[
        WaitStatus | None, Field(description="What the job waits for; absent unless the outcome is Waiting.")
    ] = None
    message: Annotated[
        str, Field(max_length=MESSAGE_LIMIT, description="What Kubernetes said about the end; empty before it.")
    ] = ""
    reason: Annotated[
        str, Field(max_length=40, description="What the job waited for until it ended as StartTimeout; else empty.")
    ] = ""
    attempt: Annotated[int, Field(ge=0, description="The number of the newest attempt.")] = 0
    charged: Annotated[
        dict[str, int],
        Field(max_length=10, description="Failed attempts that count against the job's budgets, by class of cause."),
    ] = {}
    not_charged: Annotated[
        dict[str, int],
        Field(
            max_length=10,
            description="Attempts that maintenance or an absent dependency ended, by class of cause. Each class has a "
            "high bound of its own.",
        ),
    ] = {}
    next_attempt_at: Annotated[Moment | None, Field(description="When the next attempt is due.")] = None
    finished_at: Annotated[Moment | None, Field(description="When the SpokeJob became final.")] = None
    attempts: Annotated[tuple[AttemptStatus, ...], Field(max_length=10, description="The last ten attempts.")] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8,
            description="Admitted: an attempt has its Job. Running: its container runs. Succeeded: the job has "
            "succeeded; Unknown until it ends. Finished: the job has ended. Blocked, only while it is true: no Job can "
            "be created.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    progress: Annotated[ProgressStatus | None, Field(description="The progress of the running job.")] = None
    ledger: Annotated[
        LedgerState | None, Field(description="The final state of the job's row; decides the outcome.")
    ] = None


class SpokeJob(_Model):
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
