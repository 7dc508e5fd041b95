"""Check a dispatch before anything is written. Pure, and the same for every runner."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC
from typing import Any

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
from spoke_jobs.model import NewJob, declared
from spoke_jobs.payloads import TASK_LIMIT_BYTES, encode_payload
from spoke_jobs.registry import Definition, Registry
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
    :raises InvalidPayload: if the payload isn't what the job takes.
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
    queue_name = given.get("queue_name", definition.queue_name)
    locks_queue = given.get("locks_queue", definition.locks_queue)
    priority = given.get("priority", definition.priority)
    if locks_queue and not queue_name:
        raise InvalidJobData(f"{name!r} is to lock its queue and names none: give queue_name, or leave locks_queue out")
    if options.on_failure:
        options = replace(options, on_failure_as=_follower(name, options.on_failure, registry))
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
        payload=_payload_json(name, definition, data.payload),
        queue_name=queue_name,
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
    """Return a task's definition, and its payload as JSON text.

    :raises UnknownName: if no such task is registered.
    :raises InvalidPayload: if the payload isn't what the task takes, or is over 100 kB.
    """
    definition = registry.tasks.get(name)
    return definition, _payload_json(definition.name, definition, payload, TASK_LIMIT_BYTES)


def _payload_json(name: str, definition: Definition, payload: Any, limit_bytes: int | None = None) -> str:
    if payload is not None and not definition.takes_payload:
        raise InvalidPayload(
            f"{name!r} takes no payload, and a {type(payload).__name__} is given: leave it out, "
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


def _follower(name: str, on_failure: str, registry: Registry) -> dict[str, Any]:
    """Return how the job to dispatch after a final failure is declared."""
    try:
        follower = registry.jobs.get(on_failure)
    except UnknownName as error:
        raise InvalidJobData(f"on_failure of {name!r}: {error}") from None
    return declared(
        follower.options,
        queue_name=follower.queue_name,
        locks_queue=follower.locks_queue and bool(follower.queue_name),
        priority=follower.priority,
    )
