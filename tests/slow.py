"""The tests that `make test` leaves to `make test SLOW=1`: each repeats elsewhere what a quicker test shows.

A release and a weekly run of CI run all of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Slow(NamedTuple):
    """Tests that are slow for one reason."""

    path: str
    """Of a module, or of a folder that ends with a slash."""
    functions: tuple[str, ...]
    """How their names begin; all of the path if empty."""
    case: str
    """A word of the case in brackets; every case if empty."""
    shown_by: str
    """What shows the same in `make test`."""


SLOW: tuple[Slow, ...] = ()


def is_slow(nodeid: str) -> bool:
    """Whether `make test` leaves this test out."""
    module, _, rest = nodeid.partition("::")
    name, _, case = rest.rpartition("::")[2].partition("[")
    return any(
        module.startswith(slow.path)
        and (not slow.functions or name.startswith(slow.functions))
        and slow.case in case.rstrip("]")
        for slow in SLOW
    )
