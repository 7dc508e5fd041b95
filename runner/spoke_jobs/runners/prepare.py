"""A dispatch checked before anything is written: pure, and the same for every runner."""

from __future__ import annotations

from typing import Any

from spoke_jobs.errors import InvalidJobData
from spoke_jobs.model import JobData, NewJob, TypeName
from spoke_jobs.payloads import TASK_LIMIT_BYTES, encode_payload
from spoke_jobs.registry import Definition, Registry, is_storable

QUEUE_LIMIT = 200
_INTEGER_LIMIT = 2**31 - 1


def prepare_job(data: JobData, registry: Registry, *, runner: str, assigned: bool = False) -> NewJob:
    """The row to write for a dispatch.

    :raises UnknownName: if no such job is registered.
    :raises InvalidPayload: if the payload isn't what the job takes.
    :raises InvalidJobData: if another field can't be honoured.
    """
    definition = registry.jobs.get(data.job_type)
    name = definition.name
    queue: Any = data.queue_name
    if not isinstance(queue, str) or len(queue) > QUEUE_LIMIT or not is_storable(queue):
        raise InvalidJobData(
            f"the queue_name of {name!r} must be a string of at most {QUEUE_LIMIT} characters, of UTF-8 and without NUL"
        )
    if data.locks_queue and not queue:
        raise InvalidJobData(f"{name!r} is to lock its queue and names none: give queue_name, or leave locks_queue out")
    for field, value in (("organization_id", data.organization_id), ("campaign_id", data.campaign_id)):
        given: Any = value
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _INTEGER_LIMIT
        ):
            raise InvalidJobData(f"the {field} of {name!r} is {given!r}, where a whole number from 0 is expected")
    return NewJob(
        job_type=name,
        payload=encode_payload(name, definition.payload, data.payload),
        queue_name=queue,
        locks_queue=bool(data.locks_queue),
        organization_id=data.organization_id,
        campaign_id=data.campaign_id,
        runner=runner,
        assigned=assigned,
        options=definition.options,
    )


def prepare_task(name: TypeName, payload: Any, registry: Registry) -> tuple[Definition, str]:
    """A task's definition, and its payload as JSON text.

    :raises UnknownName: if no such task is registered.
    :raises InvalidPayload: if the payload isn't what the task takes, or is over 100 kB.
    """
    definition = registry.tasks.get(name)
    return definition, encode_payload(definition.name, definition.payload, payload, TASK_LIMIT_BYTES)
