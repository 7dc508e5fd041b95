"""Which tests pytest-xdist runs in one process, and in which order it begins them."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

_OWN_NAMESPACES = ("test_applications", "test_crash", "test_outages", "test_upgrades")
"""Modules of tests/e2e that install what they need in namespaces of their own."""
GROUPS = (
    *(f"tests/e2e/{module}.py" for module in _OWN_NAMESPACES),
    "tests/e2e/",
    "tests/integration/operator/causes/",
)
"""The tests of a group share an installation on the cluster, so one process runs them. The first match counts."""
_ORDER = (
    "tests/e2e/test_causes.py",
    "tests/integration/operator/",
    "tests/e2e/",
    "tests/integration/sync/",
    "tests/integration/tasks/server/test_fuzzing.py",
    "tests/integration/",
)
"""What waits long for the cluster begins first; the images that tests/e2e builds are then ready for the rest of it.
Unit tests come last: they are short, so all processes end together."""


class ByGroup(LoadScopeScheduling):
    """Give out a group as a whole, every other test by itself, in the order of collection (`--no-loadscope-reorder`).

    (xdist's own groups use a suffix of the tests' ids, which pytest 9 does not let it set.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group in GROUPS if nodeid.startswith(group)), nodeid)


def rank(nodeid: str) -> int:
    """Where a test stands in the order of beginning."""
    return next((place for place, start in enumerate(_ORDER) if nodeid.startswith(start)), len(_ORDER))
