"""Names of job types, and prefixes of them: ``ingest.*`` stands for every name that begins with ``ingest.``."""

from __future__ import annotations

from collections.abc import Collection, Iterator

SUFFIX = ".*"


def is_known(name: str, types: Collection[str]) -> bool:
    """Whether the types have the name, or a prefix of it."""
    return name in types or any(candidate in types for candidate in patterns_of(name))


def patterns_of(name: str) -> Iterator[str]:
    """The prefixes that a name has, the longest first: ``a.b.*`` and ``a.*`` for ``a.b.c``."""
    while (end := name.rfind(".")) > 0:
        name = name[:end]
        yield name + SUFFIX


def is_storable(text: str) -> bool:
    """Whether every database takes the text: NUL and half a character (a lone surrogate) have no place in one."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False
