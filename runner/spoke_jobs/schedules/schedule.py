"""A schedule: a name, when its occurrences are due, and the job to dispatch for each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import InvalidPayload, InvalidSchedule
from spoke_jobs.job_options import DISPATCH_NAMES, OPTIONS, JobData
from spoke_jobs.payloads import SCHEDULE_LIMIT_BYTES, PayloadType, decode_versioned, encode_payload
from spoke_jobs.schedules.timing import Cron, Every, Overlap, timing_of
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.shared.validation_text import wrong

NAME_LIMIT = 200
_OF_ONE_DISPATCH = ("run_after", "traceparent", "after", "after_failed", "batch_id", "unique_for", "on_conflict")
OPTION_NAMES = tuple(name for name in DISPATCH_NAMES if name not in _OF_ONE_DISPATCH)
"""The options of a dispatch that a schedule may give. Its due times decide ``run_after``."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a schedule's row defines. Two processes with the same definition have equal JSON."""

    name: str
    job_type: str
    timing: Cron | Every
    payload: Any = None
    """Plain JSON; for a job whose payload is ``str``, the text."""
    payload_version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a dispatch, as plain JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return the definition as the row keeps it, without the name."""
        return {
            "jobType": self.job_type,
            "timing": self.timing.to_json(),
            "payload": self.payload,
            "payloadVersion": self.payload_version,
            "options": dict(self.options),
        }

    @property
    def digest(self) -> str:
        """Identifies the name and the definition."""
        text = json.dumps([self.name, self.to_json()], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def from_json(cls, name: str, value: Any) -> Self:
        """Read the row's definition.

        :raises InvalidSchedule: if it can't be read, for example because another release wrote it.
        """
        try:
            return cls(
                name,
                value["jobType"],
                timing_of(value["timing"]),
                value.get("payload"),
                value.get("payloadVersion", 1),
                value.get("options", {}),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise InvalidSchedule(f"the stored definition can't be read: {type(error).__name__} {error}") from None

    def check_together(self) -> None:
        """Refuse parts that are right alone and contradict each other.

        :raises InvalidSchedule: saying what to leave out.
        """
        if self.timing.overlap == Overlap.REPLACE and self.options.get("unique_key") is not None:
            # The earlier job would be cancelled, and none dispatched in its place.
            raise InvalidSchedule(
                "overlap 'replace' takes no unique_key: a job that runs keeps its key until it has ended. "
                "Leave out the key, or choose overlap 'skip'"
            )

    def dispatch(self, payload: PayloadType, version: int, upgrade: Callable[[Any, int], Any] | None) -> JobData:
        """Return the dispatch of one occurrence.

        :param payload: the payload's type as the job declares it now; likewise ``version`` and ``upgrade``.
        :raises InvalidPayload: if the schedule's payload is no longer valid.
        :raises InvalidSchedule: if its parts contradict each other (a release that allowed it wrote the row).
        """
        self.check_together()
        given = self.payload
        if given is not None:
            text = given if payload is str else json.dumps(given)
            given = decode_versioned(self.job_type, payload, text, self.payload_version, version, upgrade)
        options = dict(self.options)
        if isinstance(policy := options.get("retry"), Mapping):
            options["retry"] = RetryPolicy.from_json(policy)
        return JobData(self.job_type, given, **{name: options[name] for name in OPTION_NAMES if name in options})


class _Options(Protocol):
    @property
    def payload_version(self) -> int: ...


class JobDeclaration(Protocol):
    """What a schedule needs to know of its job: a part of :class:`spoke_jobs.registry.Definition`."""

    @property
    def payload(self) -> PayloadType: ...

    @property
    def options(self) -> _Options: ...

    @property
    def takes_payload(self) -> bool: ...


def new_schedule(
    name: object, job_type: str, timing: object, payload: Any, options: Mapping[str, Any], job: JobDeclaration
) -> Schedule:
    """Check a schedule's parts and put them together.

    :param payload: as a dispatch takes it. None for a job with a payload model: the model's defaults.
    :raises InvalidSchedule: saying what is wrong.
    """
    if not isinstance(name, str) or not 0 < len(name.strip()) <= len(name) <= NAME_LIMIT or not is_storable(name):
        raise InvalidSchedule(f"its name{wrong(name, f'a string of 1 to {NAME_LIMIT} characters')}")
    if not isinstance(timing, (Cron, Every)):
        raise InvalidSchedule(f"its timing{wrong(timing, 'Cron(...) or Every(...)')}")
    schedule = Schedule(
        name, job_type, timing, _stored_payload(job_type, payload, job), job.options.payload_version, _stored(options)
    )
    schedule.check_together()
    if (size := len(json.dumps(schedule.to_json()))) > SCHEDULE_LIMIT_BYTES:
        raise InvalidSchedule(
            f"it takes {size:,} bytes with the payload of its jobs, and {SCHEDULE_LIMIT_BYTES:,} is the limit: "
            "put the data in a table, and give its id"
        )
    return schedule


def _stored(options: Mapping[str, Any]) -> dict[str, Any]:
    stored = {}
    for name, value in options.items():
        if name not in OPTION_NAMES:
            raise InvalidSchedule(f"it can't have the option {name!r}; options are {', '.join(OPTION_NAMES)}")
        if value is None:
            continue
        if problem := OPTIONS[name].check(value):
            raise InvalidSchedule(f"{name}{problem}")
        plain = value.to_json() if isinstance(value, RetryPolicy) else value
        stored[name] = json.loads(json.dumps(plain, default=dict))
    return stored


def _stored_payload(job_type: str, payload: Any, job: JobDeclaration) -> Any:
    if not job.takes_payload:
        if payload is not None:
            raise InvalidSchedule(f"the job {job_type!r} takes no payload")
        return None
    if payload is None and job.payload is None:
        return None
    if payload is None and job.payload is str:
        raise InvalidSchedule(f"the job {job_type!r} takes text: give payload=...")
    try:
        text = encode_payload(job_type, job.payload, {} if payload is None else payload)
    except InvalidPayload as error:
        raise InvalidSchedule(str(error)) from None
    return text if job.payload is str else json.loads(text)
