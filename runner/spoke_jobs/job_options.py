"""The options of jobs and tasks. Each option of a job is declared once, in :data:`OPTIONS`.

The rest is derived from that table: the checks of options, a row's JSON, a SpokeJob's spec, the flags of ``spoke-jobs
dispatch`` and docs/reference/options.md. A new option needs

1. here: its entry in :data:`OPTIONS`, and its field in :class:`JobData` (and in :class:`JobOptions` to be stored),
2. a keyword of :meth:`spoke_jobs.registry.Registry.job`, if it can be declared,
3. a field of :class:`spoke_jobs.contract.spokejob.SpokeJobSpec`, if the cluster is to know it.

``tests/unit/test_job_options.py`` names what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from spoke_jobs.contract.names import PRIORITY_LIMIT, QUEUE_LIMIT, TEMPLATE_LIMIT, TEMPLATE_NAME, is_storable
from spoke_jobs.contract.retry import RetryPolicy, is_count, is_duration, is_quantity, is_wait
from spoke_jobs.type_names import TypeName

RETENTION_SECONDS = 7 * 86_400.0
KEY_LIMIT = 200
TASK_TIMEOUT_LIMIT = 3600
_INTEGER_LIMIT = 2**31 - 1
_FIRST_YEAR, _LAST_YEAR = 1970, 9900
"""The last year leaves room for a start timeout and a time zone: their sum is still a valid date."""

Resources = Mapping[str, Mapping[str, str]]
"""A container's resources: ``{"requests": {"memory": "512Mi"}, "limits": {"memory": "1Gi"}}``."""
Check = Callable[[Any], str]
"""Returns what is wrong with a value, as text to follow the option's name: " is 5, where ... is expected"; empty if the
value is valid."""


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
    timeout_seconds: float | None = None
    start_timeout_seconds: float | None = None
    retention_seconds: float | None = None
    retry: RetryPolicy | None = None
    pod_template: str | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is run. Fixed at its dispatch, and kept as JSON in its row; see :data:`OPTIONS`."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    start_timeout_seconds: float | None = None
    retention_seconds: float = RETENTION_SECONDS
    pod_template: str = "default"
    resources: Resources | None = None
    payload_version: int = 1
    on_failure: str = ""
    on_failure_as: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the options as the row keeps them."""
        return self.retry.to_json() | {key: getattr(self, name) for name, key in _KEYS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a row's options. Those that another release left out, or wrote in another form, take their defaults."""
        found = {
            option.name: option.read(stored)
            for option in _STORED
            if (stored := value.get(option.json_key)) is not None and option.readable(stored)
        }
        return cls(retry=RetryPolicy.from_json(value), **found)


class Capability(StrEnum):
    """An option that some runners can't honor. These refuse it at dispatch, and don't ignore it."""

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
    """What it means, for docs/reference/options.md and ``spoke-jobs dispatch --help``."""
    check: Check = lambda _value: ""
    json_key: str = ""
    """Its key in the row's ``options``; empty if it has a column of its own."""
    readable: Callable[[Any], bool] = lambda _value: True
    """Whether a stored value can be used. The row may be of another release."""
    read: Callable[[Any], Any] = lambda value: value
    """Converts a stored value."""
    spec_field: str = ""
    """Its field in :class:`~spoke_jobs.contract.spokejob.SpokeJobSpec`; empty if the cluster doesn't know it."""
    capability: Capability | None = None
    placement: bool = False
    """Whether it is about pods only, so that it is ignored without a cluster."""
    keyword: str = ""
    """Its name in ``@job``, if that differs."""
    flag: str = ""
    """Its flag in ``spoke-jobs dispatch``, if that isn't the name with dashes."""


def _expect(fits: Callable[[Any], bool], expected: str) -> Check:
    def check(value: Any) -> str:
        return "" if fits(value) else _wrong(value, expected)

    return check


def _wrong(value: object, expected: str) -> str:
    shown = repr(value)
    return f" is {shown if len(shown) <= 100 else shown[:100] + '...'}, where {expected} is expected"


def _is_text(shortest: int, longest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and shortest <= len(value) <= longest and is_storable(value)


def _is_whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEMPLATE_LIMIT and re.fullmatch(TEMPLATE_NAME, value) is not None


def _check_retry(policy: Any) -> str:
    if not isinstance(policy, RetryPolicy):
        return _wrong(policy, "a spoke_jobs.RetryPolicy")
    try:
        policy.check()
    except ValueError as error:
        return f": {error}"
    return ""


def _check_resources(resources: Any) -> str:
    expected = '{"requests": {"memory": "512Mi"}, "limits": {...}}'
    if not isinstance(resources, Mapping) or not set(resources) <= {"requests", "limits"}:
        return _wrong(resources, expected)
    for amounts in resources.values():
        if not isinstance(amounts, Mapping) or len(amounts) > 10:
            return _wrong(resources, expected)
        for name, amount in amounts.items():
            if not isinstance(name, str) or not is_quantity(amount):
                return f": {name}{_wrong(amount, 'a quantity in a string, for example 500m or 512Mi,')}"
    return ""


def _check_time(when: Any) -> str:
    if not isinstance(when, datetime):
        return _wrong(when, "a datetime with a time zone")
    if when.utcoffset() is None:
        return f" is {when.isoformat()} without a time zone: use for example datetime.now(UTC) + timedelta(hours=1)"
    if when.year > _LAST_YEAR:
        return f" is {when.isoformat()}, later than the year {_LAST_YEAR}"
    return f" is {when.isoformat()}, earlier than the year {_FIRST_YEAR}" if when.year < _FIRST_YEAR else ""


_SECONDS = _expect(is_duration, "a positive number of seconds, or None")
_NUMBER = _expect(_is_whole(0, _INTEGER_LIMIT), "a whole number from 0")

OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option(
            "queue_name",
            "The job's queue, for example `12:edit_campaign`; empty for none.",
            _expect(
                _is_text(0, QUEUE_LIMIT), f"a string of at most {QUEUE_LIMIT} characters, of UTF-8 and without NUL,"
            ),
            spec_field="queue",
            flag="--queue",
        ),
        Option(
            "locks_queue",
            "Whether the job locks its queue. Of the jobs that lock one queue, one runs at a time.",
            _expect(lambda value: isinstance(value, bool), "True or False"),
            spec_field="locks_queue",
        ),
        Option(
            "organization_id",
            "The organization that the job works for: recorded, given to the job, and used for fair turns"
            " in the cluster.",
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
            "and with equal priority the oldest.",
            _expect(
                _is_whole(-PRIORITY_LIMIT, PRIORITY_LIMIT), f"a whole number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
            ),
            spec_field="priority",
            capability=Capability.PRIORITY,
        ),
        Option(
            "run_after",
            "The job does not start before this time, which must have a time zone.",
            _check_time,
            capability=Capability.RUN_AFTER,
        ),
        Option(
            "unique_key",
            "Only one unfinished job may have this key. Another dispatch with it returns that job's row.",
            _expect(_is_text(1, KEY_LIMIT), f"a string of 1 to {KEY_LIMIT} characters"),
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
        ),
        Option(
            "start_timeout_seconds",
            "How long the job may wait for its first start, once it is due. Under `kubernetes`: how long the pod of "
            "each attempt may take until it runs (ten minutes if it isn't given).",
            _SECONDS,
            json_key="startTimeoutSeconds",
            readable=is_duration,
            spec_field="start_timeout_seconds",
            capability=Capability.START_TIMEOUT,
            flag="--start-timeout",
        ),
        Option(
            "retention_seconds",
            "How long the row stays after the job's end.",
            _expect(is_wait, "a number of seconds from 0"),
            json_key="retentionSeconds",
            readable=is_wait,
            read=float,
            flag="--retention",
        ),
        Option(
            "retry",
            "How many failed attempts end the job, by class of cause, and what is never retried.",
            _check_retry,
            spec_field="retry",
        ),
        Option(
            "pod_template",
            "Under `kubernetes`, the PodTemplate of the job's pods.",
            _expect(_is_template, "the name of a PodTemplate (a-z, 0-9, '-' and '.')"),
            json_key="podTemplate",
            read=str,
            spec_field="pod_template",
            placement=True,
        ),
        Option(
            "resources",
            "Under `kubernetes`, resources of the job's container. They override those of its template.",
            _check_resources,
            json_key="resources",
            readable=lambda value: isinstance(value, Mapping),
            spec_field="resources",
            placement=True,
        ),
        Option(
            "payload_version",
            "The version of the payload's model, from 1. Raise it with every change that older payloads don't fit.",
            _expect(is_count, "a whole number from 1"),
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


def default_of(option: Option) -> Any:
    """Return the option's default; None also if it has none."""
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
        wait = _expect(is_wait, "a number of seconds from 0")
        checks: Mapping[str, Check] = {
            "timeout_seconds": _expect(
                lambda value: is_duration(value) and value <= TASK_TIMEOUT_LIMIT,
                f"a number of seconds up to {TASK_TIMEOUT_LIMIT:,} (longer work is a job)",
            ),
            "attempts": _expect(is_count, "a whole number from 1"),
            "backoff_seconds": wait,
            "backoff_max_seconds": wait,
        }
        for name, check in checks.items():
            if problem := check(getattr(self, name)):
                raise ValueError(f"{name}{problem}")
