"""Names of job types, and patterns: ``ingest.*`` stands for every name that begins with ``ingest.``."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from spoke_jobs.contract.limit_scopes import SUFFIX as SUFFIX
from spoke_jobs.contract.limit_scopes import patterns_of as patterns_of
from spoke_jobs.errors import RegistrationError
from spoke_jobs.shared.clean_text import is_storable

TypeName = str | Enum
"""A job's or a task's name: a string, or an enum member whose value is one."""
NAME_LIMIT = 200


def plain_name(name: TypeName) -> str:
    """Return a name, given as a string or an enum member, as a string.

    :raises RegistrationError: if it isn't a name.
    """
    text = name.value if isinstance(name, Enum) else name
    if not isinstance(text, str) or not text.strip() or len(text) > NAME_LIMIT or not is_storable(text):
        raise RegistrationError(
            f"{text!r} can't name a job or a task: a name is a string of 1 to {NAME_LIMIT} characters (of UTF-8, "
            "without NUL), or an enum member whose value is one"
        )
    return str(text)


def matches(text: str, pattern: str) -> bool:
    """Whether the text matches a pattern of the command line, in which ``*`` stands for any characters or none."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    *middle, last = middle
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:  # a regular expression would try all ways to divide the text
        found = text.find(part, at, end)
        if found == -1:
            return False
        at = found + len(part)
    return True


def overlaps(prefix: str, pattern: str) -> bool:
    """Whether some name matches both a prefix like ``ingest.*`` and a pattern of the command line."""
    stem = prefix.removesuffix("*")
    first, *rest = pattern.split("*")
    return first.startswith(stem) or (bool(rest) and stem.startswith(first))


def is_known(name: str, types: Collection[str]) -> bool:
    """Return whether the types contain the name or a pattern that it matches."""
    return name in types or any(candidate in types for candidate in patterns_of(name))
