"""Convert rows of the ledger's tables to the classes of ``model.py``, and back."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any, get_args, get_type_hints
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, RowMapping, select, type_coerce

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.columns.column_types import StorableText, byte_length
from spoke_jobs.ledger.columns.lenient import UNKNOWN_TIME, UNKNOWN_UID
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import UNDECLARED, Attempt, AttemptState, JobOptions, JobRequest, JobState, UnreadPayload

SMALL_PAYLOAD_BYTES = 2_000
"""What reads many jobs, also a claim, reads payloads of at most this size. The process that runs a job reads a larger
one by itself."""


def _with_payload(payload: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    columns = [payload.label("payload") if column.name == "payload" else column for column in job_request.c]
    return *columns, byte_length(job_request.c.payload).label("payload_bytes")


REQUEST_COLUMNS = _with_payload(job_request.c.payload)
"""The columns of one job. Each type in ``tables`` bounds what is read of its column."""
MANY_COLUMNS = _with_payload(type_coerce(job_request.c.payload, StorableText(SMALL_PAYLOAD_BYTES, whole=True)))
"""The columns of one of many jobs."""
ATTEMPT_COLUMNS = tuple(job_attempt.c[field.name] for field in fields(Attempt))


_NEUTRAL: dict[Any, Any] = {int: 0, bool: False, datetime: UNKNOWN_TIME, UUID: UNKNOWN_UID}
"""What replaces a value of another type. SQLite stores any type in any column."""


def _checks(row: type) -> tuple[tuple[str, tuple[type, ...], Any], ...]:
    """Derive from a dataclass: a column's name, its types, and what replaces a value of another type."""
    checks = []
    for name, hint in get_type_hints(row).items():
        kinds = get_args(hint) or (hint,)
        if any(kind in (*_NEUTRAL, str) for kind in kinds):
            optional = type(None) in kinds
            checks.append((name, kinds, None if optional else _NEUTRAL.get(kinds[0])))
    return tuple(checks)


_REQUEST_CHECKS = tuple(check for check in _checks(JobRequest) if check[0] not in ("state", "priority"))
_STATES = {state.value: state for state in JobState}


def to_request(row: RowMapping) -> JobRequest:
    """Read a row with :data:`REQUEST_COLUMNS`. Values that other code wrote in another form become neutral ones."""
    values: dict[str, Any] = dict(row)
    size = values.pop("payload_bytes")
    if values["payload"] is None:
        values["payload"] = UnreadPayload.of(size or 0)
    for name, kinds, neutral in _REQUEST_CHECKS:
        if not isinstance(values[name], kinds):
            values[name] = _as_text(values[name]) if str in kinds else neutral
    options, rank = values["options"], values.pop("rank")
    values["state"] = read_state(values["state"])
    values["options"] = JobOptions.from_json(options) if options and isinstance(options, dict) else UNDECLARED
    values["priority"] = -rank if isinstance(rank, int) else 0
    return JobRequest(**values)


def read_state(value: Any) -> JobState:
    """Read a state. One of a newer release counts as failed."""
    return _STATES.get(value, JobState.FAILED)


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else "" if value is None else str(value)


def read_job(connection: Connection, job_id: int | UUID) -> JobRequest | None:
    """Read the job with that id or uid, or None."""
    return _read(connection, job_id, REQUEST_COLUMNS)


def read_listed(connection: Connection, job_id: int | UUID) -> JobRequest | None:
    """Read the job with that id or uid, or None. Leave out its payload unless it is small."""
    return _read(connection, job_id, MANY_COLUMNS)


def _read(connection: Connection, job_id: int | UUID, columns: tuple[ColumnElement[Any], ...]) -> JobRequest | None:
    if isinstance(job_id, int) and abs(job_id) > LARGEST_ID:  # the column can't hold it
        return None
    column: Any = job_request.c.uid if isinstance(job_id, UUID) else job_request.c.id
    row = connection.execute(select(*columns).where(column == job_id)).mappings().first()
    return to_request(row) if row is not None else None


def to_attempt(row: RowMapping) -> Attempt:
    """Read a row with :data:`ATTEMPT_COLUMNS`."""
    values: dict[str, Any] = dict(row)
    return Attempt(**values | {"state": AttemptState(values["state"])})


def to_row(given: dict[str, Any]) -> dict[str, Any]:
    """Convert the fields that a dispatch sets (``transitions.dispatched``) to column values."""
    values = given | {"options": given["options"].to_json(), "rank": -given["priority"]}
    del values["priority"]
    return values
