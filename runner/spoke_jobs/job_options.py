"""The options of jobs and tasks. Each option of a job is declared once, in :data:`OPTIONS`.

The rest is derived from that table: the checks of options, a row's JSON, a SpokeJob's spec, the flags of ``spoke-jobs
dispatch``, what ``spoke-jobs show`` prints, also with ``--json``, and docs/reference/options.md. A new option needs

1. here: its entry in :data:`OPTIONS`, and its field in :class:`JobData` (and in :class:`JobOptions` to be stored),
2. a keyword of :meth:`spoke_jobs.registry.Registry.job`, if it can be declared,
3. a field of :class:`spoke_jobs.contract.custom_resources.spokejob.SpokeJobSpec`, if the SpokeJob's spec is to hold it,
4. its effect in the operator's ``core/templates/build_job.py``, if it changes the pod.

``tests/unit/test_job_options.py`` names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self
from uuid import UUID

from spoke_jobs.contract.executors import LANES, Lane
from spoke_jobs.contract.labels import LABELS_LIMIT, problem_of_labels
from spoke_jobs.contract.names import KEY_LIMIT, PRIORITY_LIMIT, QUEUE_LIMIT, is_object_name
from spoke_jobs.contract.option_checks import (
    AFTER_LIMIT,
    AUTO,
    LARGEST_ID,
    LARGEST_NUMBER,
    Check,
    Dispatched,
    check_after,
    check_resources,
    check_retry,
    check_time,
    expect,
    is_text,
    is_whole,
)
from spoke_jobs.contract.retry import DURATION, WAIT, RetryPolicy, is_count, is_duration, is_wait
from spoke_jobs.contract.trace_context import MEANING, check_trace, is_traceparent
from spoke_jobs.type_names import TypeName

RETENTION_SECONDS = 7 * 86_400.0
TASK_TIMEOUT_LIMIT = 3600

Resources = Mapping[str, Mapping[str, str]] | Literal["auto"]
"""A container's resources: ``{"requests": {"memory": "512Mi"}, "limits": {"memory": "1Gi"}}``; or ``"auto"``: requests
that suit what earlier jobs of the type have used."""
Labels = Mapping[str, str]
"""Labels of a SpokeJob: ``{"team": "payments"}``."""


After = Sequence[Dispatched | int | UUID]
"""Jobs as `dispatch_job` returns them, or their ids or uids."""
AFTER_FAILED = ("fail", "run")


@dataclass(frozen=True, slots=True)
class JobData:
    """A dispatch of a job. An option that is None is taken from the job's declaration; see :data:`OPTIONS`.

    ``payload`` is an instance of the job's payload model, a mapping that validates as one, or plain JSON.
    """

    job_type: TypeName
    payload: Any = None
    queue_name: str | None = None
    locks_queue: bool | None = None
    organization_id: int | None = None
    campaign_id: int | None = None
    priority: int | None = None
    run_after: datetime | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    on_conflict: str | None = None
    after: After | None = None
    after_failed: str | None = None
    batch_id: int | None = None
    limit_key: str | None = None
    timeout_seconds: float | None = None
    start_timeout_seconds: float | None = None
    retention_seconds: float | None = None
    retry: RetryPolicy | None = None
    lane: str | None = None
    worker_seconds: float | None = None
    overflow_seconds: float | None = None
    pod_template: str | None = None
    resources: Resources | None = None
    labels: Labels | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is run. Fixed at its dispatch, and kept as JSON in its row; see :data:`OPTIONS`."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    start_timeout_seconds: float | None = None
    retention_seconds: float = RETENTION_SECONDS
    lane: str = Lane.POD.value
    worker_seconds: float | None = None
    overflow_seconds: float | None = None
    pod_template: str = "default"
    resources: Resources | None = None
    labels: Labels | None = None
    traceparent: str | None = None
    payload_version: int = 1
    on_failure: str = ""
    on_failure_as: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the options as the row keeps them."""
        return self.retry.to_json() | {key: getattr(self, name) for name, key in _KEYS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a row's options. Options that another release left out or wrote in another form get their defaults."""
        found = {
            option.name: option.read(stored)
            for option, default in _READ
            # A default, which most options have, needs no check.
            if (stored := value.get(option.json_key)) is not None and stored != default and option.readable(stored)
        }
        return cls(retry=RetryPolicy.from_json(value), **found)


class Capability(StrEnum):
    """An option that some runners can't honor. These runners refuse it at dispatch instead of ignoring it."""

    TIMEOUT = "timeout_seconds"
    START_TIMEOUT = "start_timeout_seconds"
    RUN_AFTER = "run_after"
    PRIORITY = "priority"


ALL_CAPABILITIES = frozenset(Capability)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a job. Its type and default are those of its field in :class:`JobData` or :class:`JobOptions`."""

    name: str
    doc: str
    """What the option means, for docs/reference/options.md and ``spoke-jobs dispatch --help``."""
    check: Check = lambda _value: ""
    json_key: str = ""
    """The option's key in the row's ``options``; empty if the option has a column of its own."""
    readable: Callable[[Any], bool] = lambda _value: True
    """Whether a stored value can be used. Another release may have written the row."""
    read: Callable[[Any], Any] = lambda value: value
    """Converts a stored value."""
    spec_field: str = ""
    """The option's field in :class:`~spoke_jobs.contract.custom_resources.spokejob.SpokeJobSpec`; empty if the spec has
    none."""
    in_metadata: bool = False
    """Whether the option is a field of the SpokeJob's metadata, under the same name."""
    capability: Capability | None = None
    placement: bool = False
    """Whether the option is about pods only, so that it is ignored without a cluster."""
    of_lanes: bool = False
    """Whether the option is about lanes only, so that it is ignored by runners that have none."""
    keyword: str = ""
    """The option's name in ``@job``, if that differs."""
    flag: str = ""
    """The option's flag in ``spoke-jobs dispatch``, if that isn't the name with dashes."""
    label: str = ""
    """The option's name in ``spoke-jobs show``, if that isn't the flag without dashes."""
    in_seconds: bool = False
    """Whether the value is a number of seconds, which people read as a duration."""
    internal: bool = False
    """Whether nobody gives the option, so that nobody is shown it."""


_SECONDS = expect(is_duration, f"{DURATION}, or None")
_NUMBER = expect(is_whole(0, LARGEST_NUMBER), f"a whole number from 0 to {LARGEST_NUMBER:,}")

OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option(
            "queue_name",
            "The job's queue, for example `12:edit_campaign`; empty for none.",
            expect(is_text(0, QUEUE_LIMIT), f"a string of at most {QUEUE_LIMIT} characters, of UTF-8 and without NUL,"),
            spec_field="queue",
            flag="--queue",
        ),
        Option(
            "locks_queue",
            "Whether the job locks its queue. Jobs that lock the same queue run one at a time.",
            expect(lambda value: isinstance(value, bool), "True or False"),
            spec_field="locks_queue",
        ),
        Option(
            "organization_id",
            "The organization that the job works for: recorded, given to the job, and used for fair turns.",
            _NUMBER,
            spec_field="organization",
            flag="--organization",
        ),
        Option(
            "campaign_id",
            "The campaign that the job belongs to: recorded, and given to the job.",
            _NUMBER,
            flag="--campaign",
        ),
        Option(
            "priority",
            f"From -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}. Of the due jobs, those with a higher priority start first, "
            "and among equals the oldest.",
            expect(
                is_whole(-PRIORITY_LIMIT, PRIORITY_LIMIT), f"a whole number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
            ),
            spec_field="priority",
            capability=Capability.PRIORITY,
        ),
        Option(
            "run_after",
            "The job does not start before this time, which must have a time zone.",
            check_time,
            capability=Capability.RUN_AFTER,
        ),
        Option(
            "unique_key",
            "Only one unfinished job may have this key. Another dispatch with the same key returns that job's row.",
            expect(is_text(1, KEY_LIMIT), f"a string of 1 to {KEY_LIMIT} characters"),
        ),
        Option(
            "unique_for",
            "Another dispatch with the same `unique_key` also returns the row of a job that has succeeded, if that was "
            "dispatched at most so many seconds before. At most its `retention_seconds`. None: only of an unfinished "
            "job.",
            _SECONDS,
            in_seconds=True,
        ),
        Option(
            "on_conflict",
            "What another dispatch with the same `unique_key` does: `keep`, the default, changes nothing; `replace` "
            "gives its payload and its `run_after` to that job, unless the job has begun or has another type.",
            expect(lambda value: value in ("keep", "replace"), "'keep' or 'replace'"),
        ),
        Option(
            "after",
            f"The jobs that this one runs after, at most {AFTER_LIMIT:,}: as dispatches return them, or their ids. "
            "Until they have ended, the job is `blocked`.",
            check_after,
        ),
        Option(
            "after_failed",
            "What follows the failure of one of these: `fail`, the default, fails this job with `DependencyFailed`; "
            "`run` runs it once all have ended.",
            expect(lambda value: value in AFTER_FAILED, "'fail' or 'run'"),
        ),
        Option(
            "batch_id",
            "The batch that the job is in, for example `ctx.job.batch_id` for a job that adds to its own batch.",
            expect(is_whole(1, LARGEST_ID), "the id of a batch"),
            flag="--batch",
        ),
        Option(
            "limit_key",
            "What the job uses, for example `carrier:twilio`. Limits, rates and pauses with the scope `key:NAME` "
            "apply to all jobs with that key.",
            expect(is_text(1, KEY_LIMIT), f"a string of 1 to {KEY_LIMIT} characters"),
            spec_field="limit_key",
        ),
        Option(
            "timeout_seconds",
            "How long one attempt may run. Then it is ended, even if it hangs. None: without limit.",
            _SECONDS,
            json_key="timeoutSeconds",
            readable=is_duration,
            spec_field="timeout_seconds",
            capability=Capability.TIMEOUT,
            flag="--timeout",
            in_seconds=True,
        ),
        Option(
            "start_timeout_seconds",
            "How long the job may wait for its first start, once it is due. Under `kubernetes`: how long the pod of "
            "each attempt may take until it runs (ten minutes by default).",
            _SECONDS,
            json_key="startTimeoutSeconds",
            readable=is_duration,
            spec_field="start_timeout_seconds",
            capability=Capability.START_TIMEOUT,
            flag="--start-timeout",
            in_seconds=True,
        ),
        Option(
            "retry",
            "How many failed attempts end the job, by class of cause, and what is never retried.",
            check_retry,
            spec_field="retry",
        ),
        Option(
            "retention_seconds",
            "How long the row stays after the job's end.",
            expect(is_wait, WAIT),
            json_key="retentionSeconds",
            readable=is_wait,
            read=float,
            flag="--retention",
            in_seconds=True,
        ),
        Option(
            "lane",
            "Under `kubernetes`, where the job runs: `pod`, each attempt in a pod of its own; `standby`, each in a "
            "standby pod if one is free; or `worker`, in `spoke-jobs worker --lane worker`.",
            expect(lambda value: value in LANES, " or ".join(map(repr, LANES))),
            json_key="lane",
            readable=lambda value: value in LANES,
            read=str,
            spec_field="lane",
            placement=True,
        ),
        Option(
            "worker_seconds",
            "In the lane `worker`, how long an attempt may run. Then it is ended, uncharged, and the next one runs in "
            "a pod. None: as long as the worker allows (`--worker-seconds`).",
            _SECONDS,
            json_key="workerSeconds",
            readable=is_duration,
            of_lanes=True,
            label="longest in a worker",
            in_seconds=True,
        ),
        Option(
            "overflow_seconds",
            "In the lane `worker`, for how long the job waits for a free worker. Then it moves to a pod. None: without "
            "limit.",
            _SECONDS,
            json_key="overflowSeconds",
            readable=is_duration,
            of_lanes=True,
            label="longest wait for a worker",
            in_seconds=True,
        ),
        Option(
            "pod_template",
            "Under `kubernetes`, the PodTemplate of the job's pods.",
            expect(is_object_name, "the name of a PodTemplate (a-z, 0-9, '-' and '.')"),
            json_key="podTemplate",
            read=str,
            spec_field="pod_template",
            placement=True,
            label="template",
        ),
        Option(
            "resources",
            "Under `kubernetes`, resources of the job's container. They override the template's. `auto`: what earlier "
            "jobs of the type have used. In a worker, only the limit for memory counts.",
            check_resources,
            json_key="resources",
            readable=lambda value: isinstance(value, Mapping) or value == AUTO,
            spec_field="resources",
            placement=True,
        ),
        Option(
            "labels",
            f"Under `kubernetes`, labels of the SpokeJob, at most {LABELS_LIMIT}. Its Jobs and pods get those that the "
            "PodTemplate's annotation `jobs.spoke.dev/copied-labels` names.",
            problem_of_labels,
            json_key="labels",
            readable=lambda value: not problem_of_labels(value),
            in_metadata=True,
            placement=True,
        ),
        Option(
            "traceparent", MEANING, check_trace, "traceparent", is_traceparent, spec_field="traceparent", placement=True
        ),
        Option(
            "payload_version",
            "The version of the payload's model, from 1. Raise it when the model no longer accepts older payloads.",
            expect(is_count, "a whole number from 1"),
            json_key="payloadVersion",
            readable=is_count,
            keyword="version",
        ),
        Option("upgrade", "`upgrade(payload, version)` converts a payload of an older version to the current one."),
        Option(
            "on_failure",
            "The job to dispatch when this one has failed for good. Its payload is a `FailedJob`.",
            json_key="onFailure",
            read=str,
        ),
        Option(
            "on_failure_as",
            "The declaration of the `on_failure` job, filled in at dispatch. The process that records a final failure "
            "may not have the application's code.",
            json_key="onFailureAs",
            readable=lambda value: isinstance(value, Mapping),
            internal=True,
        ),
    )
}
"""Every option of a job, by name, in the order of docs/reference/options.md."""

DISPATCH_NAMES = tuple(item.name for item in fields(JobData) if item.name in OPTIONS)
"""The options that a dispatch may give."""
OPTION_NAMES = tuple(item.name for item in fields(JobOptions))
"""The options that are kept in the row's ``options``."""
CAPABILITY_OPTIONS = tuple(option for option in OPTIONS.values() if option.capability is not None)
_STORED = tuple(option for option in OPTIONS.values() if option.json_key)
_KEYS = tuple((option.name, option.json_key) for option in _STORED)
_DEFAULTS: Mapping[str, Any] = {
    item.name: item.default for item in (*fields(JobData), *fields(JobOptions)) if item.default is not MISSING
} | {"queue_name": "", "locks_queue": False, "priority": 0, "retry": RetryPolicy()}
_READ = tuple((option, getattr(JobOptions(), option.name)) for option in _STORED)
"""Each option of a row, and its default."""


def label_of(option: Option) -> str:
    """Return the option's name for people: ``start timeout``."""
    return option.label or (option.flag.removeprefix("--") or option.name).replace("-", " ").replace("_", " ")


def default_of(option: Option) -> Any:
    """Return the option's default; None if it has no default."""
    return _DEFAULTS.get(option.name)


def check_declaration(values: Mapping[str, Any]) -> None:
    """Check the options of a declaration.

    :raises ValueError: naming the option, its value and what is expected.
    """
    for name, value in values.items():
        option = OPTIONS[name]
        if value is None and default_of(option) is None:
            continue
        if problem := option.check(value):
            raise ValueError(f"{option.keyword or name}{problem}")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is run."""

    timeout_seconds: float = 300.0
    """How long one run may take."""
    attempts: int = 3
    """How many failed runs end the task."""
    backoff_seconds: float = 0.5
    """The wait before the second run; it doubles with each run."""
    backoff_max_seconds: float = 30.0

    def check(self) -> None:
        """Check that every option can be honored.

        :raises ValueError: naming the option, its value and what is expected.
        """
        wait = expect(is_wait, WAIT)
        checks: Mapping[str, Check] = {
            "timeout_seconds": expect(
                lambda value: is_duration(value) and value <= TASK_TIMEOUT_LIMIT,
                f"a number of seconds up to {TASK_TIMEOUT_LIMIT:,} (longer work is a job)",
            ),
            "attempts": expect(is_count, "a whole number from 1"),
            "backoff_seconds": wait,
            "backoff_max_seconds": wait,
        }
        for name, check in checks.items():
            if problem := check(getattr(self, name)):
                raise ValueError(f"{name}{problem}")
