"""The JSON that `--json` prints: stable, and documented from here in docs/reference/cli.md.

Fields are added, not renamed or removed. Times are ISO 8601 in UTC. Payloads are left out unless they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from spoke_jobs.cli.explaining.reasons import Code, Explanation
from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.model import Attempt, AttemptState, JobOptions, JobRequest, JobState


class Shape(BaseModel):
    """Its fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)


class Job(Shape):
    """A job's row."""

    id: int
    uid: UUID
    """Tells it from a job with the same id in another database."""
    job_type: str
    state: JobState
    percent: int
    """How far it says it has come: 0 to 100."""
    message: str
    """Its last words on its progress, or why it failed."""
    cause: str
    """Why its last attempt failed: a name of the table of causes; empty otherwise."""
    result: Any
    """What it returned."""
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    campaign_id: int | None
    priority: int
    unique_key: str | None
    runner: str
    run: int
    """From 1; a retry by hand starts the next."""
    attempt: int
    """The number of the newest attempt; 0 before the first."""
    created_at: datetime
    updated_at: datetime
    run_after: datetime | None
    """Not to be started before."""
    start_by: datetime | None
    """Until when it must have started for the first time."""
    cancel_requested_at: datetime | None
    submitted_at: datetime | None
    """When its SpokeJob was seen to exist (`kubernetes`)."""
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    """From when its row may be pruned."""

    @classmethod
    def of(cls, job: JobRequest) -> Self:
        """From the ledger's row."""
        values = {name: getattr(job, name) for name in cls.model_fields if name not in ("percent", "message")}
        return cls(percent=max(job.status, 0), message=job.result_message, **values)


class Jobs(Shape):
    """`ls`, and `watch` once every job has ended."""

    jobs: tuple[Job, ...]

    @classmethod
    def of(cls, jobs: Sequence[JobRequest]) -> Self:
        """From the ledger's rows."""
        return cls(jobs=tuple(Job.of(job) for job in jobs))


class Options(Shape):
    """How a job is to be run (docs/reference/options.md)."""

    timeout_seconds: float | None
    start_timeout_seconds: float | None
    retention_seconds: float
    retry: Mapping[str, Any]
    """`budget` (attempts by class of cause), and `backoff_seconds`, `backoff_max_seconds`, `jitter`, `never`,
    `memory_factor`, `memory_max`."""
    pod_template: str
    resources: Mapping[str, Mapping[str, str]] | None
    payload_version: int
    on_failure: str

    @classmethod
    def of(cls, options: JobOptions) -> Self:
        """From the row's options."""
        policy = options.retry
        retry = {
            "budget": {str(kind): allowed for kind, allowed in policy.budget.items()},
            "backoff_seconds": policy.backoff_seconds,
            "backoff_max_seconds": policy.backoff_max_seconds,
            "jitter": policy.jitter,
            "never": list(policy.never_names),
            "memory_factor": policy.memory_factor,
            "memory_max": policy.memory_max,
        }
        return cls(retry=retry, **{name: getattr(options, name) for name in cls.model_fields if name != "retry"})


class JobAttempt(Shape):
    """One try at a job."""

    run: int
    number: int
    state: AttemptState
    worker: str
    """Host and process, or the pod."""
    claimed_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    finished_at: datetime | None
    cause: str
    error_type: str
    output_tail: str
    """The last lines of the traceback, if one was raised. It may hold values."""

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """From the ledger's row."""
        return cls.model_validate(attempt)


class ClusterAttempt(Shape):
    """One attempt, as the operator saw it."""

    number: int
    job: str
    """Its Kubernetes Job."""
    pod: str
    """Empty if none was made."""
    node: str
    template: str
    """Uid and generation of the PodTemplate that it was made from."""
    started_at: datetime | None
    """When its Job was created."""
    finished_at: datetime | None
    cause: str
    error_type: str
    exit_code: int | None
    """The container's, if it ended by itself."""


class ClusterState(Shape):
    """What its SpokeJob says."""

    namespace: str
    spokejob: str
    """Its name, whether it is there or not."""
    problem: str
    """Why nothing is known of it: no access, or it isn't there (any more)."""
    outcome: str
    """Waiting, Running, Succeeded or Failed."""
    cause: str
    """Why it failed, or what it waits for."""
    attempts: tuple[ClusterAttempt, ...]
    """The last ten of its run."""

    @classmethod
    def of(cls, cluster: ClusterView) -> Self:
        """From what was found."""
        found = cluster.spokejob
        absent = f"can't be read: {', '.join(cluster.odd)}" if cluster.odd else "the SpokeJob is not there (any more)"
        return cls(
            namespace=cluster.namespace,
            spokejob=cluster.name,
            problem=cluster.problem or ("" if found else absent),
            outcome=(found.status.outcome or "") if found else "",
            cause=found.status.cause if found else "",
            attempts=tuple(ClusterAttempt.model_validate(item) for item in found.status.attempts) if found else (),
        )


class Shown(Shape):
    """`show`."""

    job: Job
    options: Options
    payload_bytes: int
    payload: Any = None
    """With `--payload`; null otherwise."""
    attempts: tuple[JobAttempt, ...]
    """By the ledger: each from its claim on."""
    cluster: ClusterState | None
    """Of a job of the runner `kubernetes`."""

    @classmethod
    def of(
        cls, job: JobRequest, attempts: Sequence[Attempt], cluster: ClusterView | None, *, with_payload: bool
    ) -> Self:
        """From the ledger's rows."""
        return cls(
            job=Job.of(job),
            options=Options.of(job.options),
            payload_bytes=len(job.payload.encode()),
            payload=json.loads(job.payload) if with_payload else None,
            attempts=tuple(JobAttempt.of(attempt) for attempt in attempts),
            cluster=ClusterState.of(cluster) if cluster else None,
        )


class JobReason(Shape):
    """One reason, as `why` gives it."""

    code: Code
    """Stable; the table of codes is below."""
    text: str
    """A sentence for people: it changes between releases."""
    advice: str
    """What to do; empty where nothing needs doing."""
    until: datetime | None
    """When it is over, where that is known."""
    job_id: int | None
    """The other job that it is about."""
    worker: str | None
    number: int | None
    """How many jobs it is about: those that come first, or that run."""
    cause: str
    """The operator's word: a reason to wait, or a cause, of docs/reference/causes.md. Empty where it has none."""


class Explained(Shape):
    """`why`."""

    job: Job
    reasons: tuple[JobReason, ...]
    """The weightiest first."""
    output_tail: str
    """Of a failed job's last attempt that left one."""

    @classmethod
    def of(cls, job: JobRequest, explanation: Explanation) -> Self:
        """From what was decided."""
        reasons = tuple(JobReason.model_validate(reason) for reason in explanation.reasons)
        return cls(job=Job.of(job), reasons=reasons, output_tail=explanation.output_tail)


class Part(Shape):
    """One part of the set-up."""

    name: str
    """What is set; never a password."""
    ok: bool
    problem: str
    """What is missing, and how to mend it."""


class ClusterLook(Shape):
    """One thing that was looked at in the cluster."""

    name: str
    """server, definition, rights, dry run, templates or operator."""
    said: str
    """What is there."""
    problems: tuple[str, ...]
    """What is wrong, and how to mend it; missing rights one by one."""
    unknown: str
    """Why it, or a part of it, could not be looked at, where that is no fault."""


class Checked(Shape):
    """`check`."""

    ok: bool
    runner: Part
    application: Part
    jobs: tuple[str, ...]
    tasks: tuple[str, ...]
    ledger: Part
    cluster: tuple[ClusterLook, ...]
    """Under `kubernetes`, or with `--as`."""


class Dispatched(Shape):
    """`dispatch`."""

    job: Job


DOCUMENTS: tuple[tuple[str, type[Shape]], ...] = (
    ("ls, watch", Jobs),
    ("show", Shown),
    ("why", Explained),
    ("check", Checked),
    ("dispatch", Dispatched),
)
"""By command; in the order of the documentation."""


def print_document(document: Shape) -> None:
    """Print one JSON document."""
    print(document.model_dump_json(indent=2))
