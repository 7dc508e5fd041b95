"""Payloads and results as JSON text: pure, strict, and the same for jobs and tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel, ValidationError

from spoke_jobs.errors import InvalidPayload, InvalidResult

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TASK_LIMIT_BYTES = 100_000
"""A task's payload is sent with the task, so it is small. Larger payloads are for jobs."""
RESULT_LIMIT_BYTES = 64_000
_INTEGER_BITS = 14_000
"""Slightly less than 4,300 digits: Python converts no longer whole numbers to text or back."""
_Refuse = Callable[[str], Exception]


def encode_payload(name: str, model: type[BaseModel] | None, payload: Any, limit_bytes: int | None = None) -> str:
    """Return ``payload`` as JSON text, validated by ``model`` if there is one. Reading the text gives the same payload.

    :raises InvalidPayload: naming the job or task and the field.
    """
    valid = None if model is None else _validated(name, model, payload)
    text = None if model is None or valid is None else _quick_json(model, valid)
    if text is None:
        text = _checked_json(name, model, payload, valid)
    if limit_bytes is not None and len(text) > limit_bytes:
        raise InvalidPayload(
            f"the payload of {name!r} takes {len(text):,} bytes, and {limit_bytes:,} is the limit for a task: "
            "dispatch a job, or put the data in a table and send its id"
        )
    return text


def _checked_json(name: str, model: type[BaseModel] | None, payload: Any, valid: BaseModel | None) -> str:
    def refuse(what: str) -> InvalidPayload:
        return InvalidPayload(f"the payload of {name!r} {what}")

    if model is None or valid is None:
        return _strict_json(payload, refuse)
    text = _strict_json(_plain(valid, refuse), refuse)
    _check_round_trip(name, model, payload, valid, text, refuse)
    return text


def decode_payload(name: str, model: type[BaseModel] | None, text: str) -> Any:
    """Return the payload as the function takes it: an instance of ``model``, or plain JSON.

    :raises InvalidPayload: if it doesn't validate, for example because another release dispatched it.
    """
    try:
        return json.loads(text) if model is None else _read(model, text)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None
    except (ValueError, RecursionError):
        raise InvalidPayload(f"the payload of {name!r} isn't JSON") from None


def decode_versioned(
    name: str,
    model: type[BaseModel] | None,
    text: str,
    dispatched: int,
    current: int,
    upgrade: Callable[[Any, int], Any] | None,
) -> Any:
    """:func:`decode_payload` for a payload that another release may have dispatched.

    A payload of an older version is converted by ``upgrade`` first, if there is one.

    :raises InvalidPayload: naming the versions, if it doesn't validate.
    """
    if dispatched == current:
        return decode_payload(name, model, text)
    try:
        if dispatched < current and upgrade is not None:
            try:
                text = json.dumps(upgrade(json.loads(text), dispatched))
            except Exception as error:  # the error's text may hold values
                raise InvalidPayload(
                    f"the payload of {name!r} can't be upgraded: upgrade() raised {type(error).__name__}"
                ) from error
        return decode_payload(name, model, text)
    except InvalidPayload as error:
        raise InvalidPayload(f"{error} (dispatched as version {dispatched}; this release has {current})") from error


def encode_result(result: Any) -> Any:
    """Return a job's result as its row keeps it: plain JSON of a bounded size; None if there is no result.

    :raises InvalidResult: naming what is wrong.
    """

    def refuse(what: str) -> InvalidResult:
        return InvalidResult(f"the job's result {what}")

    if isinstance(result, BaseModel):
        plain = _plain(result, refuse, by_alias=True, round_trip=False)
        if (lost := _lost_float(result, "")) is not None:
            raise refuse(lost)
        result = plain
    text = _strict_json(result, refuse)
    if len(text) > RESULT_LIMIT_BYTES:
        raise InvalidResult(
            f"the job's result takes {len(text):,} bytes, and {RESULT_LIMIT_BYTES:,} is the limit: "
            "keep it in a table and return its id"
        )
    return json.loads(text)


def _validated(name: str, model: type[BaseModel], payload: Any) -> BaseModel:
    if type(payload) is model or isinstance(payload, model):  # pydantic's isinstance is slow
        # The instance may be invalid, through model_construct or a later change. Its JSON is validated later instead,
        # since some fields do not accept the value that they hold (a Json[...] field accepts only text).
        return payload
    try:
        return model.model_validate(payload, by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None


def _plain(value: BaseModel, refuse: _Refuse, *, by_alias: bool = False, round_trip: bool = True) -> Any:
    """Return ``value`` as plain JSON.

    A payload has the fields' own names, because a field's aliases for reading and for writing may differ. It has no
    computed fields, because nothing reads them.
    """

    def dump(include: set[str] | None = None) -> Any:
        return value.model_dump(mode="json", by_alias=by_alias, round_trip=round_trip, warnings=False, include=include)

    try:
        return dump()
    except (ValueError, TypeError, RecursionError):  # the error's text may hold values
        for field in type(value).model_fields:
            try:
                dump({field})
            except (ValueError, TypeError, RecursionError):
                raise refuse(f"holds something at .{field} that has no form in JSON") from None
    raise refuse("holds something that has no form in JSON")


def _read(model: type[BaseModel], text: str) -> BaseModel:
    return model.model_validate_json(text, by_alias=True, by_name=True)


def _quick_json(model: type[BaseModel], valid: BaseModel) -> str | None:
    """Return pydantic's own JSON text if reading it gives an equal payload, else None.

    It takes a fifth of the time of :func:`_checked_json`, which also reports what is wrong.
    """
    try:
        text = valid.model_dump_json(by_alias=False, round_trip=True, warnings=False)
        return text if text.isascii() and _read(model, text) == valid else None
    except Exception:  # _checked_json will fail, too, and reports why
        return None


def _check_round_trip(
    name: str, model: type[BaseModel], payload: Any, valid: BaseModel, text: str, refuse: _Refuse
) -> None:
    """Refuse a payload that its function would receive changed or incomplete: a masked secret, an excluded field."""
    try:
        found = _read(model, text)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None
    except (ValueError, RecursionError):
        raise refuse("can't be read again from its JSON") from None
    try:
        changed = _difference(valid, found, "")
        if changed is not None and valid is payload:
            # Validation may convert fields of an instance ("5" to 5). Then the converted payload is dispatched.
            items = valid.root if isinstance(valid, RootModel) else _items(valid)
            changed = _difference(model.model_validate(items, by_alias=False, by_name=True), found, "")
    except ValidationError:
        pass
    except RecursionError:
        changed = "is nested too deep or contains itself"
    if changed is not None:
        raise refuse(changed)


def _difference(given: Any, found: Any, path: str) -> str | None:
    """Return where ``found`` differs from ``given``, or None. A list may replace a tuple, as in plain JSON."""
    if _equal(given, found):
        return None
    if isinstance(given, BaseModel) and isinstance(found, type(given) if path else BaseModel):
        return _difference_of_items(_items(given), _items(found), path)
    if isinstance(given, dict) and isinstance(found, dict):
        return _difference_of_items(given, found, path)
    if isinstance(given, (list, tuple)) and isinstance(found, (list, tuple)) and len(given) == len(found):
        for index, (one, other) in enumerate(zip(given, found, strict=True)):
            if (changed := _difference(one, other, f"{path}[{index}]"[:200])) is not None:
                return changed
        return None
    if isinstance(given, float) and not math.isfinite(given):
        if isinstance(found, float) and math.isnan(given) and math.isnan(found):
            return None
        return f"holds {given}{_at(path)}, which JSON has no form for"
    if type(given) is type(found) and _has_no_equality(type(given)):
        return None  # its class defines no equality: trust its own validator and serializer
    return (
        f"holds a {type(given).__name__}{_at(path)} that JSON doesn't give back unchanged: "
        "give the field another type, or a serializer and a validator that match"
    )


def _difference_of_items(given: dict[Any, Any], found: dict[Any, Any], path: str) -> str | None:
    for key in {**given, **found}:
        inner = f"{path}.{key}"[:200]
        if key not in given or key not in found:
            return f"loses or gains a value{_at(inner)} when it is written as JSON and read again"
        if (changed := _difference(given[key], found[key], inner)) is not None:
            return changed
    return None


def _items(value: BaseModel) -> dict[str, Any]:
    """Return a model's fields, without private attributes and cached properties."""
    held = vars(value)
    return {field: held[field] for field in type(value).model_fields if field in held} | (value.model_extra or {})


def _equal(given: Any, found: Any) -> bool:
    try:
        return bool(given == found)
    except Exception:
        return False


def _has_no_equality(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _lost_float(value: Any, path: str) -> str | None:
    """Describe a float that JSON can't represent, for which pydantic may write null; None if there is no such float."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"holds {value}{_at(path)}, which JSON has no form for"
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, BaseModel):
        items = ((f".{key}", item) for key, item in _items(value).items())
    elif isinstance(value, dict):
        items = ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((f"[{index}]", item) for index, item in enumerate(value))
    for key, item in items:
        if (lost := _lost_float(item, f"{path}{key}"[:200])) is not None:
            return lost
    return None


def _at(path: str) -> str:
    return f" at {path}" if path else ""


def _refusal(name: str, error: ValidationError) -> str:
    """Name the fields, but never their values, since this text may be logged."""

    def line(item: ErrorDetails) -> str:
        return f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"

    fields = "; ".join(line(item) for item in error.errors(include_url=False, include_input=False)[:5])
    return f"the payload of {name!r} doesn't validate as {error.title}: {fields}"


def _strict_json(value: Any, refuse: _Refuse) -> str:
    """Return ``value`` as JSON text. Unlike json.dumps, convert no keys to strings, and write no NaN."""
    try:
        where = _not_json(value, "")
        if where is None:
            return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        where = "is nested too deep or contains itself"
    except ValueError:  # the error's text may hold values
        where = "holds something that has no form in JSON"
    raise refuse(where)


def _not_json(value: Any, path: str) -> str | None:
    """Return why ``value`` can't be written as JSON, with the place; None if it can."""
    place = _at(path)
    if value is None or isinstance(value, (str, bool)):
        return None
    if isinstance(value, int):
        too_long = value.bit_length() > _INTEGER_BITS
        return f"holds a whole number{place} of more digits than Python reads from JSON" if too_long else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"holds {value}{place}, which JSON has no form for"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"has a key of type {type(key).__name__}{place}, where JSON takes only strings"
            if (found := _not_json(item, f"{path}.{key}"[:200])) is not None:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if (found := _not_json(item, f"{path}[{index}]"[:200])) is not None:
                return found
        return None
    return f"holds a {type(value).__name__}{place}, which isn't JSON"
