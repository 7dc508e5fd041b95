"""The JSON of jobs and checks, as `--json` prints it. docs/reference/cli.md is generated from the docstrings here.

The shapes are stable: later releases add fields, and never rename or remove one. Times are ISO 8601 in UTC. Payloads
are left out unless asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, get_type_hints
from uuid import UUID

from pydantic import Field, create_model

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain import set_up
from spoke_jobs.explain.option_facts import SHOWN, options_as_json
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.explain.set_up import SetUp
from spoke_jobs.explain.shape import AnyJson, Shape
from spoke_jobs.job_options import OPTION_NAMES
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.model import (
    Attempt,
    AttemptReport,
    JobOptions,
    JobRequest,
    JobState,
    Saved,
    UnreadPayload,
    payload_size,
)
from spoke_jobs.payloads import payload_as_json


class JobRow(Shape):
    """A job's row."""

    id: int
    uid: UUID
    """Distinguishes the job from one with the same id in another database."""
    job_type: str
    state: JobState
    percent: int
    """The job's progress, 0 to 100."""
    message: str
    """The job's last progress message, or why it failed."""
    cause: str
    """Why the last attempt failed (docs/reference/causes.md); empty if it did not fail."""
    result: AnyJson
    """The return value."""
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    campaign_id: int | None
    priority: int
    unique_key: str | None
    schedule: str | None
    """The schedule that dispatched it."""
    scheduled_for: datetime | None
    """When it was due by its schedule."""
    limit_key: str | None
    batch_id: int | None
    """The batch that it is in."""
    runner: str
    run: int
    """Counted from 1. A retry by hand starts the next run."""
    attempt: int
    """The number of the newest attempt; 0 before the first."""
    created_at: datetime
    updated_at: datetime
    run_after: datetime | None
    """The earliest start."""
    start_by: datetime | None
    """The job fails if it has not started by this time."""
    cancel_requested_at: datetime | None
    suspended_at: datetime | None
    """Since when no attempt starts, because somebody has suspended the job."""
    submitted_at: datetime | None
    """Since when its SpokeJob is known to exist (`kubernetes`)."""
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    """When the job's row may be pruned."""

    @classmethod
    def of(cls, job: JobRequest) -> Self:
        """Convert a row of the ledger."""
        values = {name: getattr(job, name) for name in cls.model_fields if name not in ("percent", "message")}
        return cls(percent=max(job.status, 0), message=job.result_message, **values)


class Jobs(Shape):
    """The output of `ls`, and of `watch` once every job has ended."""

    jobs: tuple[JobRow, ...]

    @classmethod
    def of(cls, jobs: Sequence[JobRequest]) -> Self:
        """Convert rows of the ledger."""
        return cls(jobs=tuple(JobRow.of(job) for job in jobs))


_RETRY = ", ".join(f"`{item.name}`" for item in fields(RetryPolicy) if item.name != "budget")
_TYPES: Mapping[str, Any] = get_type_hints(JobRequest) | get_type_hints(JobOptions) | {"retry": Mapping[str, Any]}
_MEANINGS = {"retry": f"`budget` (attempts by class of cause), and {_RETRY}."}
if TYPE_CHECKING:
    _EveryOption = Shape
else:
    _EveryOption = create_model(
        "_EveryOption",
        __base__=Shape,
        **{
            option.name: (_TYPES[option.name], Field(description=_MEANINGS.get(option.name)))
            for option in SHOWN
            if option.name in OPTION_NAMES or option.name not in JobRow.model_fields
        },
    )


class Options(_EveryOption):
    """A job's options (docs/reference/options.md). Its fields follow from their table."""

    @classmethod
    def of(cls, job: JobRequest) -> Self:
        """Convert a row's options."""
        return cls(**options_as_json(job))


if TYPE_CHECKING:
    _EveryAttemptField = Shape
else:
    _EveryAttemptField = create_model(
        "_EveryAttemptField",
        __base__=Shape,
        **{name: (kind, ...) for name, kind in get_type_hints(Attempt).items() if name != "job_id"},
    )


class JobAttempt(_EveryAttemptField):
    """One attempt at a job, as the ledger records it. Its fields are those of the record."""

    documented_by = Attempt

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Convert a row of the ledger."""
        return cls.model_validate(attempt)


class ClusterAttempt(Shape):
    """One attempt, as the operator records it."""

    number: int
    job: str
    """The attempt's Kubernetes Job."""
    pod: str
    """The attempt's pod; empty if there was none."""
    node: str
    template: str
    """Uid and generation of the attempt's PodTemplate."""
    started_at: datetime | None
    """When the attempt's Job was created."""
    finished_at: datetime | None
    cause: str
    error_type: str
    """The exception's class or, if a worker's process was killed, the signal."""
    exit_code: int | None
    """The container's exit code, if it exited by itself."""
    container: str
    """The container that failed or could not start, if it is not the job's."""
    message: str
    """What Kubernetes last said about the attempt."""


class ClusterState(Shape):
    """The job's SpokeJob."""

    namespace: str
    spokejob: str
    """The SpokeJob's name, even if it does not exist."""
    problem: str
    """Why nothing is known of the SpokeJob: no access, or it does not exist (any more)."""
    outcome: str
    """Waiting, Running, Succeeded or Failed."""
    cause: str
    """Why the job failed, or what it waits for."""
    attempts: tuple[ClusterAttempt, ...]
    """The last ten attempts of the job's run."""

    @classmethod
    def of(cls, cluster: ClusterView) -> Self:
        """Convert what was read in the cluster."""
        found = cluster.spokejob
        absent = "the SpokeJob does not exist (any more)"
        if cluster.unreadable:
            absent = f"can't be read: {', '.join(cluster.unreadable)}"
        return cls(
            namespace=cluster.namespace,
            spokejob=cluster.name,
            problem=cluster.problem or ("" if found else absent),
            outcome=(found.status.outcome or "") if found else "",
            cause=found.status.cause if found else "",
            attempts=tuple(ClusterAttempt.model_validate(item) for item in found.status.attempts) if found else (),
        )


class Output(Shape):
    """The last lines that one container printed."""

    container: str
    text: str
    """The lines; they may contain values."""


class Report(Shape):
    """What sync stored about a failed attempt, also about one that was never claimed."""

    run: int
    number: int
    cause: str
    message: str
    """What Kubernetes said about the failure."""
    pod: str
    outputs: tuple[Output, ...]


class Checkpoint(Shape):
    """What a job saved: its checkpoint, or the result of a step. The value is left out."""

    name: str
    """The step's name; empty for the checkpoint."""
    bytes: int
    """The size of the value, as JSON."""
    run: int
    """The run and the number of the attempt that saved it."""
    attempt: int
    saved_at: datetime


class Dependency(Shape):
    """A job that another one depends on."""

    job_id: int
    """The one that depends on it: the job shown, or another one that this depends on."""
    needs_id: int
    job_type: str
    state: JobState
    percent: int
    cause: str
    runs_after_failure: bool
    """Whether the other one also runs after its failure."""


class Shown(Shape):
    """The output of `show`."""

    job: JobRow
    options: Options
    payload_bytes: int
    payload: AnyJson = None
    """Null unless it was asked for, and if it is too large: over 32 MiB, or over 100,000 bytes in the dashboard's API.
    """
    attempts: tuple[JobAttempt, ...]
    """The ledger's attempts, at most the newest 200. An attempt is recorded when it is claimed."""
    reports: tuple[Report, ...]
    """What the cluster said about failed attempts, at most the newest 200, and the last lines of each container."""
    checkpoints: tuple[Checkpoint, ...]
    """What the job has saved for later attempts: its checkpoint, and at most the newest 200 steps."""
    dependencies: tuple[Dependency, ...]
    """What the job depends on, directly or not; at most 200."""
    cluster: ClusterState | None
    """Only for a job of the runner `kubernetes`."""

    @classmethod
    def of(
        cls,
        job: JobRequest,
        attempts: Sequence[Attempt],
        cluster: ClusterView | None,
        reports: Sequence[AttemptReport] = (),
        saved: Sequence[Saved] = (),
        links: Sequence[Link] = (),
        *,
        with_payload: bool,
    ) -> Self:
        """Convert rows of the ledger."""
        shows = with_payload and not isinstance(job.payload, UnreadPayload)
        return cls(
            job=JobRow.of(job),
            options=Options.of(job),
            payload_bytes=payload_size(job.payload),
            payload=payload_as_json(job.payload) if shows else None,
            attempts=tuple(JobAttempt.of(attempt) for attempt in attempts),
            reports=tuple(Report.model_validate(report) for report in reports),
            checkpoints=tuple(
                Checkpoint(name=row.name, bytes=len(row.value), run=row.run, attempt=row.number, saved_at=row.saved_at)
                for row in saved
            ),
            dependencies=tuple(Dependency.model_validate(link) for link in links),
            cluster=ClusterState.of(cluster) if cluster else None,
        )


class JobReason(Shape):
    """One reason of `why`."""

    code: Code
    """A stable name (docs/reference/cli.md lists them)."""
    text: str
    """A sentence for people. It may change between releases."""
    advice: str
    """What to do; empty if nothing needs to be done."""
    until: datetime | None
    """When the reason ends, if that is known."""
    job_id: int | None
    """The other job that the reason names."""
    worker: str | None
    number: int | None
    """How many jobs the reason counts: those that come first, or those that run."""
    cause: str
    """The operator's reason to wait, or a cause (docs/reference/causes.md); empty if there is none."""
    reason: str
    """The reason to wait or the cause as docs/reference/causes.md names it; empty if the code is a job's state."""


class Explained(Shape):
    """The output of `why`."""

    job: JobRow
    reasons: tuple[JobReason, ...]
    """The most important reason first."""
    output_tail: str
    """The last lines of output of a failed job's last attempt."""

    @classmethod
    def of(cls, job: JobRequest, explanation: Explanation) -> Self:
        """Convert an explanation."""
        reasons = tuple(JobReason.model_validate(reason) for reason in explanation.reasons)
        return cls(job=JobRow.of(job), reasons=reasons, output_tail=explanation.output_tail)


class Part(Shape):
    """One part of the set-up, as `check` found it."""

    name: str
    """The setting; never a password."""
    ok: bool
    problem: str
    """What is missing, and what to do."""

    @classmethod
    def of(cls, part: set_up.SetUpPart) -> Self:
        """Convert what was found."""
        return cls(name=part.name, ok=not part.problem, problem=part.problem)


class ClusterFinding(Shape):
    """One thing that `check` examined in the cluster."""

    name: str
    """server, definition, rights, dry run, templates or operator."""
    said: str
    """What was found."""
    problems: tuple[str, ...]
    """What is wrong, and what to do. Each missing right is a problem of its own."""
    unknown: str
    """Why it could not be examined completely, if that is not a problem."""


class DatabaseRole(Shape):
    """A role of the database, compared with what a kind of process needs."""

    role: str
    process: str
    excess: tuple[str, ...]
    lacking: tuple[str, ...]
    required: bool
    """Whether `--role` asked for it. Otherwise the excess is no problem."""


class Checked(Shape):
    """The output of `check`."""

    ok: bool
    runner: Part
    application: Part
    jobs: tuple[str, ...]
    tasks: tuple[str, ...]
    ledger: Part
    roles: tuple[DatabaseRole, ...]
    """Only on PostgreSQL."""
    cluster: tuple[ClusterFinding, ...]
    """Only under `kubernetes`, or with `--as`."""

    @classmethod
    def of(cls, found: SetUp) -> Self:
        """Convert what was found."""
        return cls(
            ok=found.ok,
            runner=Part.of(found.runner),
            application=Part.of(found.application),
            jobs=found.jobs,
            tasks=found.tasks,
            ledger=Part.of(found.ledger),
            roles=tuple(DatabaseRole.model_validate(role) for role in found.roles),
            cluster=tuple(ClusterFinding.model_validate(finding) for finding in found.cluster),
        )


class Dispatched(Shape):
    """The output of `dispatch`."""

    job: JobRow
