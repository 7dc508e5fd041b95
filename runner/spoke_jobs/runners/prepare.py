"""A dispatch checked before anything is written: pure, and the same for every runner."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from spoke_jobs.errors import InvalidJobData, UnknownName
from spoke_jobs.job_options import check_options
from spoke_jobs.model import JobData, NewJob, declared
from spoke_jobs.payloads import TASK_LIMIT_BYTES, encode_payload
from spoke_jobs.registry import Definition, Registry
from spoke_jobs.type_names import TypeName, is_storable, plain_name

KEY_LIMIT = 200
_INTEGER_LIMIT = 2**31 - 1
_FIRST_YEAR, _LAST_YEAR = 1970, 9900
"""A start timeout later, and in every zone, it is still a date."""


class Capability(StrEnum):
    """What not every runner can honour. Placement (pod template, resources) is none: elsewhere it is ignored."""

    TIMEOUT = "timeout_seconds"
    """Ending an attempt that runs for too long, whatever it does."""
    START_TIMEOUT = "start_timeout_seconds"
    RUN_AFTER = "run_after"
    PRIORITY = "priority"


ALL_CAPABILITIES = frozenset(Capability)


def prepare_job(
    data: JobData,
    registry: Registry,
    *,
    runner: str,
    assigned: bool = False,
    capabilities: Collection[Capability] = ALL_CAPABILITIES,
) -> NewJob:
    """The row to write for a dispatch.

    :raises UnknownName: if no such job is registered.
    :raises InvalidPayload: if the payload isn't what the job takes.
    :raises InvalidJobData: if another field can't be honoured, at all or by this runner.
    """
    definition = registry.jobs.get(data.job_type)
    name = _name_of(data.job_type)

    def given(field: str, otherwise: Any) -> Any:
        value = getattr(data, field)
        return otherwise if value is None else value

    options = replace(
        definition.options,
        **{
            field: given(field, getattr(definition.options, field))
            for field in (
                "retry",
                "timeout_seconds",
                "start_timeout_seconds",
                "retention_seconds",
                "pod_template",
                "resources",
            )
        },
    )
    queue, priority = given("queue_name", definition.queue_name), given("priority", definition.priority)
    locks_queue = given("locks_queue", definition.locks_queue)
    try:
        check_options(options, queue_name=queue, locks_queue=locks_queue, priority=priority)
        _check_data(data)
    except ValueError as error:
        raise InvalidJobData(f"the dispatch of {name!r}: {error}") from None
    if locks_queue and not queue:
        raise InvalidJobData(f"{name!r} is to lock its queue and names none: give queue_name, or leave locks_queue out")
    if options.on_failure:
        try:
            follower = registry.jobs.get(options.on_failure)
        except UnknownName as error:
            raise InvalidJobData(f"on_failure of {name!r}: {error}") from None
        known = declared(
            follower.options,
            queue_name=follower.queue_name,
            locks_queue=follower.locks_queue and bool(follower.queue_name),
            priority=follower.priority,
        )
        options = replace(options, on_failure_as=known)
    asked = {
        Capability.TIMEOUT: options.timeout_seconds is not None,
        Capability.START_TIMEOUT: options.start_timeout_seconds is not None,
        Capability.RUN_AFTER: data.run_after is not None,
        Capability.PRIORITY: priority != 0,
    }
    for capability, wanted in asked.items():
        if wanted and capability not in capabilities:
            raise InvalidJobData(
                f"the runner {runner!r}, as it is configured, can't honour {capability} of {name!r}: "
                "leave it out, or use a runner that can (docs/reference/options.md)"
            )
    return NewJob(
        job_type=name,
        payload=encode_payload(name, definition.payload, data.payload),
        queue_name=queue,
        locks_queue=locks_queue,
        organization_id=data.organization_id,
        campaign_id=data.campaign_id,
        runner=runner,
        assigned=assigned,
        options=options,
        priority=priority,
        run_after=data.run_after.astimezone(UTC) if data.run_after is not None else None,
        unique_key=data.unique_key,
    )


def prepare_task(name: TypeName, payload: Any, registry: Registry) -> tuple[Definition, str]:
    """A task's definition, and its payload as JSON text.

    :raises UnknownName: if no such task is registered.
    :raises InvalidPayload: if the payload isn't what the task takes, or is over 100 kB.
    """
    definition = registry.tasks.get(name)
    return definition, encode_payload(definition.name, definition.payload, payload, TASK_LIMIT_BYTES)


def _name_of(name: TypeName) -> str:
    text = plain_name(name)
    if text.endswith(".*"):
        raise InvalidJobData(f"{text!r} stands for many names: dispatch one of them, {text[:-1] + 'something'!r} say")
    return text


def _check_data(data: JobData) -> None:
    for field in ("organization_id", "campaign_id"):
        value = getattr(data, field)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _INTEGER_LIMIT
        ):
            raise ValueError(f"{field} is {value!r}, where a whole number from 0 is expected")
    key: Any = data.unique_key
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= KEY_LIMIT and is_storable(key)):
        raise ValueError(f"unique_key is {key!r}, where a string of 1 to {KEY_LIMIT} characters is expected")
    when: Any = data.run_after
    if when is None:
        return
    if not isinstance(when, datetime):
        raise ValueError(f"run_after is {when!r}, where a datetime with a time zone is expected")  # noqa: TRY004
    if when.utcoffset() is None:
        raise ValueError(f"run_after is {when.isoformat()} without a time zone: datetime.now(UTC) + timedelta(...) say")
    if when.year > _LAST_YEAR:
        raise ValueError(f"run_after is {when.isoformat()}, later than the year {_LAST_YEAR}")
    if when.year < _FIRST_YEAR:
        raise ValueError(f"run_after is {when.isoformat()}, earlier than the year {_FIRST_YEAR}")
