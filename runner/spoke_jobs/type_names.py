"""Names of job types, and patterns: ``ingest.*`` stands for every name that begins with ``ingest.``."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from functools import lru_cache

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
    return closest(name, types) is not None


def closest(name: str, types: Collection[str]) -> str | None:
    """Return the name itself or its longest pattern, whichever the types contain; None if they contain neither."""
    return next((candidate for candidate in (name, *patterns_of(name)) if candidate in types), None)


@lru_cache(maxsize=64)
def apart(types: tuple[str, ...], others: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Divide types so that each job is asked for by the declaration that is closest to its name.

    :param types: names and patterns like ``ingest.*``.
    :param others: further ones, whose jobs are to be left out, also where a pattern among ``types`` matches them.
    :returns: groups of the types, each with those of the others to leave out of it: in nearly all cases one group. A
        type below one of the others, ``a.b.c`` below ``a.b.*`` below ``a.*``, is in a group of its own.
    """
    left_out = tuple(other for other in others if other not in types and is_known(other, types))
    below = tuple(name for name in types if is_known(name, left_out))
    if not below:
        return ((types, left_out),)
    rest = tuple(name for name in types if name not in below)
    return (*apart(rest, others), *apart(below, others))
