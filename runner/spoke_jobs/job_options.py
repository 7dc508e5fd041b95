"""What a job's options may say: pure, and the same for a declaration and for a dispatch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spoke_jobs.contract.names import TEMPLATE_NAME
from spoke_jobs.contract.retry import RetryPolicy, is_count, is_duration, is_quantity, is_wait
from spoke_jobs.model import JobOptions, TaskOptions
from spoke_jobs.type_names import is_storable

QUEUE_LIMIT = 200
TASK_TIMEOUT_LIMIT = 3600
PRIORITIES = range(-1000, 1001)
_TEMPLATE_LIMIT = 253


def check_options(options: JobOptions, *, queue_name: Any, locks_queue: Any, priority: Any) -> None:
    """See that every option says something that can be honoured.

    :raises ValueError: naming the option and what is expected.
    """
    if not isinstance(queue_name, str) or len(queue_name) > QUEUE_LIMIT or not is_storable(queue_name):
        raise ValueError(f"queue_name must be a string of at most {QUEUE_LIMIT} characters, of UTF-8 and without NUL")
    if not isinstance(locks_queue, bool):
        raise _wrong("locks_queue", locks_queue, "True or False")
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise _wrong("priority", priority, f"a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
    retry: Any = options.retry
    if not isinstance(retry, RetryPolicy):
        raise _wrong("retry", retry, "a spoke_jobs.RetryPolicy")
    try:
        retry.check()
    except ValueError as error:
        raise ValueError(f"retry: {error}") from None
    for name in ("timeout_seconds", "start_timeout_seconds"):
        seconds = getattr(options, name)
        if seconds is not None and not is_duration(seconds):
            raise _wrong(name, seconds, "a positive number of seconds, or None")
    if not is_wait(options.retention_seconds):
        raise _wrong("retention_seconds", options.retention_seconds, "a number of seconds from 0")
    if not is_count(options.payload_version):
        raise _wrong("version", options.payload_version, "a whole number from 1")
    template: Any = options.pod_template
    if not isinstance(template, str) or len(template) > _TEMPLATE_LIMIT or not re.fullmatch(TEMPLATE_NAME, template):
        raise _wrong("pod_template", template, "the name of a PodTemplate: a-z, 0-9, '-' and '.'")
    _check_resources(options.resources)


def check_task_options(options: TaskOptions) -> None:
    """See that every option says something that can be honoured.

    :raises ValueError: naming the option and what is expected.
    """
    seconds: Any = options.timeout_seconds
    if not is_duration(seconds) or seconds > TASK_TIMEOUT_LIMIT:
        raise _wrong("timeout_seconds", seconds, f"a number of seconds up to {TASK_TIMEOUT_LIMIT:,} (longer is a job)")
    if not is_count(options.attempts):
        raise _wrong("attempts", options.attempts, "a whole number from 1")
    for name in ("backoff_seconds", "backoff_max_seconds"):
        if not is_wait(getattr(options, name)):
            raise _wrong(name, getattr(options, name), "a number of seconds from 0")


def _check_resources(resources: Any) -> None:
    if resources is None:
        return
    expected = '{"requests": {"memory": "512Mi"}, "limits": {...}}'
    if not isinstance(resources, Mapping) or not set(resources) <= {"requests", "limits"}:
        raise _wrong("resources", resources, expected)
    for amounts in resources.values():
        if not isinstance(amounts, Mapping) or len(amounts) > 10:
            raise _wrong("resources", resources, expected)
        for name, amount in amounts.items():
            if not isinstance(name, str) or not is_quantity(amount):
                raise _wrong(f"resources: {name}", amount, "a quantity in a string, '500m' or '512Mi' say")


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name} is {value!r}, where {expected} is expected")
