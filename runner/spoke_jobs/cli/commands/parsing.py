"""Parse values of the command line. Each function raises a ValueError that says what it expects."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_DAY_AND_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}[+-]", re.ASCII)
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII)
_LONGEST_SECONDS = 36_500 * 86_400.0
"""Longer durations lead to times that Python or a database cannot represent."""
_RETRY_FIELDS = tuple(item.name for item in fields(RetryPolicy))


def duration(text: str) -> float:
    """Parse a duration (``90``, ``90s``, ``5m``, ``2h``, ``7d``) to seconds."""
    found = _DURATION.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a duration: give 90 (seconds), 90s, 5m, 2h or 7d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f"{text!r} is too long: give at most 36500d")
    return seconds


def moment(text: str, now: datetime | None = None) -> datetime:
    """Parse a time with a zone (``2026-03-01T09:00+01:00``, ``...Z``) or a duration from now (``+10m``)."""
    if text.startswith("+"):
        return (now or datetime.now(UTC)) + timedelta(seconds=duration(text[1:]))
    try:
        # Of a day with a zone, Python would read the zone as the time, behind a separator.
        when = datetime.fromisoformat("" if _DAY_AND_ZONE.match(text) else text)
        when.astimezone(UTC)  # in UTC, it may be before the year 1 or after 9999
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time: give 2026-03-01T09:00+01:00, 2026-03-01T08:00Z, or +10m (from now)"
        ) from None
    if when.tzinfo is None:
        whole = when.isoformat(timespec="auto" if when.second or when.microsecond else "minutes")
        raise ValueError(f"{text!r} has no time zone: write {whole}Z for UTC, or {whole}+01:00")
    return when


def job_ids(text: str) -> list[int]:
    """Parse ids of jobs (``12,13``)."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} are no ids of jobs: give 12, or 12,13") from None


def past(text: str, now: datetime | None = None) -> datetime:
    """Parse a time with a zone, or a duration before now (``2h``)."""
    if _DURATION.fullmatch(text):
        return (now or datetime.now(UTC)) - timedelta(seconds=duration(text))
    if text.startswith("+"):
        raise ValueError(f"{text!r} is a time in the future: give {text[1:]} (ago)")
    try:
        return moment(text)
    except ValueError as error:
        raise ValueError(str(error).replace("+10m (from now)", "10m (ago)")) from None


def payload(given: str | None, standard_input: IO[str]) -> Any:
    """Parse JSON from the argument, a file (``@file``) or standard input (``-``). Errors do not contain the text."""
    if given is None:
        return None
    text, where = given, "it"
    if given == "-":
        text, where = standard_input.read(), "standard input"
    elif given.startswith("@"):
        where = given[1:]
        try:
            text = Path(where).read_text("utf-8")
        except OSError as error:
            raise ValueError(f"the file {where} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {where} isn't UTF-8") from None
    return json_of(text, where)


def json_of(text: str, where: str) -> Any:
    """Parse JSON; an error says where the mistake is."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} isn't JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{where} can't be parsed as JSON: a number is too long, or the nesting is too deep") from None


def retry_policy(text: str) -> RetryPolicy:
    """Parse a RetryPolicy's fields from JSON. A field that is left out has the policy's default."""
    value = json_of(text, "it")
    if not isinstance(value, dict) or not set(value) <= set(_RETRY_FIELDS):
        raise ValueError(f"give a JSON object with some of {', '.join(_RETRY_FIELDS)}")
    if isinstance(value.get("never"), list):
        value["never"] = tuple(value["never"])
    if isinstance(value.get("budget"), dict):
        unknown = sorted(set(value["budget"]) - set(CauseClass))
        if unknown:
            raise ValueError(f"budget has {unknown[0]!r}, which is none of {', '.join(CauseClass)}")
        value["budget"] = {CauseClass(kind): allowed for kind, allowed in value["budget"].items()}
    policy = RetryPolicy(**value)
    try:
        policy.check()
    except ValueError as error:
        raise ValueError(str(error)) from None
    return policy
