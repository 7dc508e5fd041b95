"""A job's options, as texts and as JSON. Both follow from their table, :data:`spoke_jobs.job_options.OPTIONS`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.executors import Executor, lane_of
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.explain.words import line, seconds
from spoke_jobs.job_options import OPTION_NAMES, OPTIONS, Option, default_of, label_of
from spoke_jobs.model import JobRequest

_COLUMNS = {item.name for item in fields(JobRequest)}
_TOLD_ELSEWHERE = {"queue_name", "locks_queue", "run_after", "payload_version", "lane"}
"""Options that `show` names together with another fact."""
_FAILURES: Mapping[str, str] = {
    CauseClass.ERROR: "errors of its code",
    CauseClass.OOM: "too much memory",
    CauseClass.INFRASTRUCTURE: "a lost process or pod",
    CauseClass.DISRUPTION: "maintenance",
    CauseClass.DEPENDENCY: "a database that is away",
    CauseClass.IMAGE: "an image that can't be started",
    CauseClass.TIMEOUT: "a timeout",
    CauseClass.INVALID: "what another attempt can't change",
}
"""The classes of causes that a budget counts, in words."""
_TOLD_OF_RETRIES = {"budget", "never", "backoff_seconds", "backoff_max_seconds"}

SHOWN = tuple(
    option for option in OPTIONS.values() if not option.internal and option.name in {*OPTION_NAMES, *_COLUMNS}
)
"""The options that a row keeps and that people may want to know."""


def value_of(option: Option, job: JobRequest) -> Any:
    """Return the option's value for a job."""
    return getattr(job.options if option.name in OPTION_NAMES else job, option.name)


def stored_options(job: JobRequest) -> Iterator[tuple[str, str]]:
    """Name the options that the row keeps in its ``options``, and their values. What says nothing is left out."""
    for option in SHOWN:
        if option.name == "retry":
            yield from _retries(job.options.retry)
        elif option.name in OPTION_NAMES and _says_something(option, job, ("", None, {})):
            yield label_of(option), _text(option, value_of(option, job))


def column_options(job: JobRequest) -> Iterator[tuple[str, str]]:
    """Name the options that have columns of their own, and their values. Defaults are left out."""
    for option in SHOWN:
        if option.name not in OPTION_NAMES and _says_something(option, job, ("", None, {}, default_of(option))):
            yield label_of(option), _text(option, value_of(option, job))


def options_as_json(job: JobRequest) -> dict[str, Any]:
    """Return the values of all options for a JSON document."""
    return {option.name: value_of(option, job) for option in SHOWN} | {"retry": _policy_as_json(job.options.retry)}


def _says_something(option: Option, job: JobRequest, nothing: tuple[Any, ...]) -> bool:
    if option.name in _TOLD_ELSEWHERE or (option.placement and job.executor is not Executor.CLUSTER):
        return False
    if option.of_lanes and lane_of(job.runner) is None:
        return False
    return value_of(option, job) not in nothing


def _text(option: Option, value: Any) -> str:
    if option.in_seconds:
        return seconds(value)
    return line(json.dumps(dict(value)) if isinstance(value, Mapping) else str(value))


def _retries(policy: RetryPolicy) -> Iterator[tuple[str, str]]:
    alike: dict[int, list[str]] = {}
    for kind, allowed in policy.budget.items():
        alike.setdefault(allowed, []).append(_FAILURES.get(kind, kind))
    budget = [f"at most {allowed} with: {', '.join(kinds)}" for allowed, kinds in alike.items()]
    never = [f"none after {', '.join(line(name) for name in policy.never_names)}"] if policy.never else []
    yield "failed attempts", "; ".join(budget + never)
    yield (
        "backoff",
        f"{seconds(policy.backoff_seconds)}, doubling to at most {seconds(policy.backoff_max_seconds)}"
        if policy.backoff_seconds
        else "none",
    )
    usual = RetryPolicy()
    for item in fields(policy):
        value = getattr(policy, item.name)
        if item.name not in _TOLD_OF_RETRIES and value != getattr(usual, item.name):
            yield item.name.replace("_", " "), line(str(value))


def _policy_as_json(policy: RetryPolicy) -> dict[str, Any]:
    values = {item.name: getattr(policy, item.name) for item in fields(policy)}
    budget = {str(kind): allowed for kind, allowed in policy.budget.items()}
    return values | {"budget": budget, "never": list(policy.never_names)}
