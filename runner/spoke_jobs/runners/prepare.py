"""Check a dispatch before anything is written. Pure, and the same for every runner."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC
from typing import Any
from uuid import UUID

from spoke_jobs.contract.executors import row_runner
from spoke_jobs.contract.trace_context import current_traceparent
from spoke_jobs.errors import InvalidJobData, InvalidPayload, UnknownName
from spoke_jobs.job_options import (
    ALL_CAPABILITIES,
    CAPABILITY_OPTIONS,
    DISPATCH_NAMES,
    OPTION_NAMES,
    OPTIONS,
    Capability,
    JobData,
    default_of,
)
from spoke_jobs.model import NewJob
from spoke_jobs.payloads import JOB_LIMIT_BYTES, NO_PAYLOAD, TASK_LIMIT_BYTES, encode_payload
from spoke_jobs.registry import Definition, Registry, with_follower
from spoke_jobs.shared.durations import seconds
from spoke_jobs.shared.validation_text import an
from spoke_jobs.type_names import TypeName, plain_name


def prepare_job(
    data: JobData,
    registry: Registry,
    *,
    runner: str,
    assigned: bool = False,
    capabilities: Collection[Capability] = ALL_CAPABILITIES,
) -> NewJob:
    """Return the row to write for a dispatch.

    :raises UnknownName: if no such job is registered.
    :raises InvalidPayload: if the payload isn't what the job takes, or is over 32 MiB.
    :raises InvalidJobData: if an option can't be honored, at all or by this runner.
    """
    definition = registry.jobs.get(data.job_type)
    name = _name_of(data.job_type)
    given = {option: value for option in DISPATCH_NAMES if (value := getattr(data, option)) is not None}
    for option, value in given.items():
        if problem := OPTIONS[option].check(value):
            raise InvalidJobData(f"the dispatch of {name!r}: {option}{problem}")
    options = definition.options
    if stored := {option: value for option, value in given.items() if option in OPTION_NAMES}:
        options = replace(options, **stored)
    if options.traceparent is None and (traceparent := current_traceparent()) is not None:
        options = replace(options, traceparent=traceparent)
    queue_name = given.get("queue_name", definition.queue_name)
    locks_queue = given.get("locks_queue", definition.locks_queue)
    priority = given.get("priority", definition.priority)
    if locks_queue and not queue_name:
        raise InvalidJobData(f"{name!r} has locks_queue=True and no queue: give queue_name, or leave locks_queue out")
    if problem := _problem_together(data, options.retention_seconds):
        raise InvalidJobData(f"the dispatch of {name!r}: {problem}")
    if options.on_failure:
        try:
            options = with_follower(options, registry)
        except UnknownName as error:
            raise InvalidJobData(f"on_failure of {name!r}: {error}") from None
    if len(capabilities) < len(ALL_CAPABILITIES):
        effective = {"priority": priority, "run_after": data.run_after}
        for option_ in CAPABILITY_OPTIONS:
            wanted = effective[option_.name] if option_.name in effective else getattr(options, option_.name)
            if option_.capability not in capabilities and wanted != default_of(option_):
                raise InvalidJobData(
                    f"the runner {runner!r}, as it is configured, can't honor {option_.name} of {name!r}: "
                    "leave it out, or use a runner that can (docs/reference/options.md)"
                )
    return NewJob(
        job_type=name,
        payload=_payload_json(name, definition, data.payload) if _has_payload(data, definition) else NO_PAYLOAD,
        queue_name=queue_name,
        locks_queue=locks_queue,
        organization_id=data.organization_id,
        campaign_id=data.campaign_id,
        runner=row_runner(runner, options.lane),
        assigned=assigned,
        options=options,
        priority=priority,
        run_after=data.run_after.astimezone(UTC) if data.run_after is not None else None,
        unique_key=data.unique_key,
        unique_for=data.unique_for,
        on_conflict=data.on_conflict or "keep",
        after=tuple(job if isinstance(job, int | UUID) else job.uid for job in data.after or ()),
        after_failed=data.after_failed or "fail",
        batch_id=data.batch_id,
        limit_key=data.limit_key,
    )


def prepare_task(name: TypeName, payload: Any, registry: Registry) -> tuple[Definition, str]:
    """Return a task's definition, and its payload as JSON text.

    :raises UnknownName: if no such task is registered.
    :raises InvalidPayload: if the payload isn't what the task takes, or is over 100 kB.
    """
    definition = registry.tasks.get(name)
    return definition, _payload_json(definition.name, definition, payload, TASK_LIMIT_BYTES)


def _problem_together(data: JobData, retention_seconds: float) -> str:
    """Return which option is given without the one that it is about, or does not fit to it; empty if none."""
    if data.after_failed is not None and data.after is None:
        return "after_failed is given, and no after"
    if data.unique_key is None and (data.unique_for is not None or data.on_conflict is not None):
        return f"{'unique_for' if data.unique_for is not None else 'on_conflict'} is given, and no unique_key"
    if data.unique_for is not None and data.unique_for > retention_seconds:
        return (
            f"unique_for is {seconds(data.unique_for)}, but the row is deleted {seconds(retention_seconds)} after the "
            "job's end: "
            "raise retention_seconds"
        )
    return ""


def _has_payload(data: JobData, definition: Definition) -> bool:
    return definition.takes_payload or data.payload is not None


def _payload_json(name: str, definition: Definition, payload: Any, limit_bytes: int = JOB_LIMIT_BYTES) -> str:
    if payload is not None and not definition.takes_payload:
        raise InvalidPayload(
            f"{name!r} takes no payload, and {an(type(payload).__name__)} is given: leave it out, "
            "or give the function a second parameter"
        )
    return encode_payload(name, definition.payload, payload, limit_bytes)


def _name_of(name: TypeName) -> str:
    text = plain_name(name)
    if text.endswith(".*"):
        raise InvalidJobData(
            f"{text!r} stands for many names: dispatch one of them, for example {text[:-1] + 'something'!r}"
        )
    return text
