"""Statements that SQLAlchemy compiles once for all engines of a test process, in place of once for each test's own.

To compile a statement takes longer than to run it in a small database. SQLAlchemy keeps what it has compiled with the
engine and its dialect. The texts are the same for equal dialects, so the engines of tests share them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

MOST = 1_000
"""How many statements a process keeps. One engine would keep 500."""


def share_compiled_statements() -> None:
    """Have all engines of this process keep them together."""
    kept: LRUCache[Any, Any] = LRUCache(MOST)
    Engine._compiled_cache = property(lambda _engine: kept, lambda _engine, _own: None)  # type: ignore[assignment]
    DefaultDialect.__hash__ = lambda dialect: hash(traits(dialect))  # type: ignore[method-assign]
    DefaultDialect.__eq__ = lambda dialect, other: (  # type: ignore[method-assign]
        dialect is other or (isinstance(other, DefaultDialect) and traits(dialect) == traits(other))
    )


def traits(dialect: object) -> tuple[object, ...]:
    """Return what the texts, and the conversions of values, may depend on."""
    known: tuple[object, ...] | None = vars(dialect).get("_traits_for_tests")
    if known is not None:
        return known
    own = vars(dialect)
    simple = {name: value for name, value in own.items() if isinstance(value, bool | int | str | tuple)}
    found = type(dialect), *sorted(simple.items(), key=repr), own.get("_json_serializer"), own.get("_json_deserializer")
    if "default_isolation_level" in own:  # it has connected, and does not change any more
        own["_traits_for_tests"] = found
    return found
