"""Payloads and results as JSON text: pure, strict, and the same for jobs and tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel, ValidationError

from spoke_jobs.errors import InvalidCheckpoint, InvalidPayload, InvalidResult
from spoke_jobs.shared import validation_text
from spoke_jobs.shared.clean_text import is_storable

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

JOB_LIMIT_BYTES = 32 * 2**20
"""A job's payload is in its row. Larger data are for a table or a file."""
TASK_LIMIT_BYTES = 100_000
"""A task's payload is sent with the task, so it is small. Larger payloads are for jobs."""
RESULT_LIMIT_BYTES = 64_000
CHECKPOINT_LIMIT_BYTES = 64_000
"""Of a checkpoint, and of a step's result."""
SCHEDULE_LIMIT_BYTES = 1_000_000
"""Of a schedule's definition. Most of it is the payload of its jobs."""
_LIMITED = {
    JOB_LIMIT_BYTES: ("a job", "put the data in a table or a file, and send where it is"),
    TASK_LIMIT_BYTES: ("a task", "dispatch a job, or put the data in a table and send its id"),
}
_INTEGER_BITS = 14_000
"""Slightly less than 4,300 digits. Python refuses to convert a number with more digits to text or back."""
_Refuse = Callable[[str], Exception]
PayloadType = type[BaseModel] | type[str] | None
"""What a declaration gives as ``payload``: a model; ``str`` for text that is stored as it is; None for plain JSON."""
NO_PAYLOAD = "{}"
"""The stored payload of a job without one, as the reference stores it: its code reads fields of it."""


def encode_payload(name: str, model: PayloadType, payload: Any, limit_bytes: int = JOB_LIMIT_BYTES) -> str:
    """Return ``payload`` as JSON text, validated by ``model`` if there is one. Reading the text gives the same payload.

    :raises InvalidPayload: naming the job or task and the field.
    """
    text = _payload_text(name, model, payload)
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit_bytes:
        kind, advice = _LIMITED[limit_bytes]
        raise InvalidPayload(
            f"the payload of {name!r} takes {size:,} bytes, and {limit_bytes:,} is the limit for {kind}: {advice}"
        )
    return text


def _payload_text(name: str, model: PayloadType, payload: Any) -> str:
    if model is str:
        if not isinstance(payload, str) or not is_storable(payload):
            found = "other text" if isinstance(payload, str) else validation_text.an(type(payload).__name__)
            raise InvalidPayload(f"the payload of {name!r} is a str of UTF-8 without NUL, and {found} is given")
        return payload
    assert not (isinstance(model, type) and issubclass(model, str))
    valid = None if model is None else _validated(name, model, payload)
    text = None if model is None or valid is None else _quick_json(model, valid)
    return _checked_json(name, model, payload, valid) if text is None else text


def _checked_json(name: str, model: type[BaseModel] | None, payload: Any, valid: BaseModel | None) -> str:
    def refuse(what: str) -> InvalidPayload:
        return InvalidPayload(f"the payload of {name!r} {what}")

    if model is None or valid is None:
        return _strict_json(payload, refuse)
    text = _strict_json(_plain(valid, refuse), refuse)
    _check_round_trip(name, model, payload, valid, text, refuse)
    return text


def decode_payload(name: str, model: PayloadType, text: str) -> Any:
    """Return the payload as the function takes it: an instance of ``model``, plain JSON, or text.

    :raises InvalidPayload: if it doesn't validate, for example because another release dispatched it.
    """
    if model is str:
        return text
    assert not (isinstance(model, type) and issubclass(model, str))
    try:
        return json.loads(text) if model is None else _read(model, text)
    except ValidationError as error:
        raise InvalidPayload(_refusal(name, error)) from None
    except (ValueError, RecursionError):
        raise InvalidPayload(f"the payload of {name!r} isn't JSON") from None


def payload_as_json(text: str) -> Any:
    """Return a stored payload for people: as plain JSON, or as the text that it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def decode_versioned(
    name: str,
    model: PayloadType,
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
                text = upgrade(text, dispatched) if model is str else json.dumps(upgrade(json.loads(text), dispatched))
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

    advice = "keep it in a table and return its id"
    return json.loads(_small_json(result, "the job's result", RESULT_LIMIT_BYTES, advice, InvalidResult))


def encode_checkpoint(value: Any, what: str) -> str:
    """Return what a running job saves as its row keeps it: JSON text of a bounded size.

    :param what: what it is, for the error.
    :raises InvalidCheckpoint: naming what is wrong.
    """
    advice = "keep the data in a table, and save where it is"
    return _small_json(value, what, CHECKPOINT_LIMIT_BYTES, advice, InvalidCheckpoint)


def _small_json(value: Any, what: str, limit_bytes: int, advice: str, error: Callable[[str], Exception]) -> str:
    def refuse(found: str) -> Exception:
        return error(f"{what} {found}")

    if isinstance(value, BaseModel):
        plain = _plain(value, refuse, by_alias=True, round_trip=False)
        if (lost := _lost_float(value, "")) is not None:
            raise refuse(lost)
        value = plain
    text = _strict_json(value, refuse)
    if len(text) > limit_bytes:
        raise refuse(f"takes {len(text):,} bytes, and {limit_bytes:,} is the limit: {advice}")
    return text


def _validated(name: str, model: type[BaseModel], payload: Any) -> BaseModel:
    if type(payload) is model or isinstance(payload, model):  # pydantic's isinstance is slow
        # The instance may be invalid, through model_construct or a later change. Its JSON is validated later instead,
        # since some fields do not accept the value that they hold (a Json[...] field accepts only text).
        return payload
    try:
        return model.model_validate(payload, by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidPayload(_missing(name, model) if payload is None else _refusal(name, error)) from None


def _missing(name: str, model: type[BaseModel]) -> str:
    fields = {} if issubclass(model, RootModel) else model.model_fields
    named = ", ".join(key if field.is_required() else f"{key} (optional)" for key, field in fields.items())
    return (
        f"{name!r} needs a payload, and none is given: it takes {validation_text.an(model.__name__)}"
        f"{f' with the fields {named}' if named else ''}"
    )


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
                raise refuse(f"holds something at .{field} that JSON cannot represent") from None
    raise refuse("holds something that JSON cannot represent")


def _read(model: type[BaseModel], text: str) -> BaseModel:
    return model.model_validate_json(text, by_alias=True, by_name=True)


def _quick_json(model: type[BaseModel], valid: BaseModel) -> str | None:
    """Return pydantic's own JSON text if reading it gives an equal payload, else None.

    This takes a fifth of the time of :func:`_checked_json`, which also reports what is wrong.
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
        return f"holds {given}{_at(path)}, which JSON cannot represent"
    if type(given) is type(found) and _has_no_equality(type(given)):
        return None  # the class defines no equality: trust its own validator and serializer
    return (
        f"holds {validation_text.an(type(given).__name__)}{_at(path)} that JSON doesn't give back unchanged: "
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
        return f"holds {value}{_at(path)}, which JSON cannot represent"
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
        return f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}{validation_text.hidden(item)}"

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
        where = "holds something that JSON cannot represent"
    raise refuse(where)


def _not_json(value: Any, path: str) -> str | None:
    """Return why ``value`` can't be written as JSON, with the path; None if it can."""
    place = _at(path)
    if value is None or isinstance(value, (str, bool)):
        return None
    if isinstance(value, int):
        too_long = value.bit_length() > _INTEGER_BITS
        return f"holds a whole number{place} of more digits than Python reads from JSON" if too_long else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"holds {value}{place}, which JSON cannot represent"
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
    return f"holds {validation_text.an(type(value).__name__)}{place}, which isn't JSON"
