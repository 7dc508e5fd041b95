"""The job types that a process knows, as a condition on a column."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, func, or_

from spoke_jobs.type_names import SUFFIX


def known_in_sql(column: ColumnElement[str], types: Collection[str]) -> ColumnElement[bool]:
    """Whether the types have the column's name, or a prefix of it."""
    exact = [name for name in types if not name.endswith(SUFFIX)]
    prefixes = [name.removesuffix("*") for name in types if name.endswith(SUFFIX)]
    conditions: list[Any] = [column.in_(exact)]
    # Not LIKE, which takes a for A on SQLite.
    conditions += [func.substr(column, 1, len(prefix)) == prefix for prefix in prefixes]
    return or_(*conditions)
