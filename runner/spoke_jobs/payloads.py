"""Payloads and results as JSON text: pure, strict, and the same for jobs and tasks."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from spoke_jobs.errors import InvalidPayload, InvalidResult

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TASK_LIMIT_BYTES = 100_000
"""A task's payload travels whole, so it is small; larger work is a job's."""
RESULT_LIMIT_BYTES = 64_000


def encode_payload(name: str, model: type[BaseModel] | None, payload: Any, limit_bytes: int | None = None) -> str:
    """``payload`` as JSON text, validated by ``model`` if there is one.

    :raises InvalidPayload: naming the job or task and the field.
    """
    if model is not None:
        # By the fields' own names: an alias for reading may differ from the one for writing.
        payload = _validated(name, model, payload).model_dump(mode="json", by_alias=False)
    text = _strict_json(payload, lambda what: InvalidPayload(f"the payload of {name!r} {what}"))
    if limit_bytes is not None and len(text) > limit_bytes:
        raise InvalidPayload(
            f"the payload of {name!r} takes {len(text):,} bytes, and {limit_bytes:,} is the limit for a task: "
            "dispatch a job, or put the data in a table and send its id"
        )
    return text


def decode_payload(name: str, model: type[BaseModel] | None, text: str) -> Any:
    """The payload as the function takes it: an instance of ``model``, or plain JSON.

    :raises InvalidPayload: if it doesn't validate (another release dispatched it, say).
    """
    try:
        return json.loads(text) if model is None else model.model_validate_json(text, by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None
    except (ValueError, RecursionError):
        raise InvalidPayload(f"the payload of {name!r} isn't JSON") from None


def encode_result(result: Any) -> Any:
    """A job's result as it may stand in its row: plain JSON of a bounded size; None for none.

    :raises InvalidResult: naming what is wrong.
    """
    if isinstance(result, BaseModel):
        result = result.model_dump(mode="json", by_alias=True)
    text = _strict_json(result, lambda what: InvalidResult(f"the job's result {what}"))
    if len(text) > RESULT_LIMIT_BYTES:
        raise InvalidResult(
            f"the job's result takes {len(text):,} bytes, and {RESULT_LIMIT_BYTES:,} is the limit: "
            "keep it in a table and return its id"
        )
    return json.loads(text)


def _validated(name: str, model: type[BaseModel], payload: Any) -> BaseModel:
    try:
        if isinstance(payload, model):
            # Validated again: it may have been built by model_construct, or changed since.
            return model.model_validate(dict(payload), by_alias=False, by_name=True)
        return model.model_validate(payload, by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None


def _refusal(name: str, error: ValidationError) -> str:
    """Names the fields, never their values: this text may reach a log."""

    def line(item: ErrorDetails) -> str:
        return f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"

    fields = "; ".join(line(item) for item in error.errors(include_url=False, include_input=False)[:5])
    return f"the payload of {name!r} doesn't validate as {error.title}: {fields}"


def _strict_json(value: Any, refuse: Any) -> str:
    """JSON text of exactly ``value``: json.dumps would turn other keys into strings, and NaN into no JSON at all."""
    try:
        where = _misfit(value, "")
        if where is None:
            return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        where = "is nested too deep or contains itself"
    raise refuse(where)


def _misfit(value: Any, path: str) -> str | None:
    """What keeps ``value`` from being JSON, with its place; None if nothing does."""
    place = f" at {path}" if path else ""
    if value is None or isinstance(value, (str, bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"holds {value}{place}, which JSON has no form for"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"has a key of type {type(key).__name__}{place}, where JSON takes only strings"
            if (found := _misfit(item, f"{path}.{key}"[:200])) is not None:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if (found := _misfit(item, f"{path}[{index}]"[:200])) is not None:
                return found
        return None
    return f"holds a {type(value).__name__}{place}, which isn't JSON"
