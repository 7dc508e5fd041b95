"""Which tests pytest-xdist runs in one process, and in which order it begins them."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_OWN_NAMESPACES = (
    "test_applications",
    "test_cluster_wide",
    "test_first_release",
    "test_maintenance",
    "test_outages",
    "test_random_kills",
    "test_upgrades",
)
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


_WITH_PODS = ("tests/e2e/", "tests/integration/operator/")
_WITH_PODS_AT_ONCE = 2
"""How many processes run tests whose jobs have pods on the cluster, while other tests are left. Pods of more tests
would starve each other on two cores: a kubelet that gets no core stops no container, and its node is taken for lost."""


class ByGroup(LoadScopeScheduling):
    """Give out a group as a whole, every other test by itself, in the order of collection (`--no-loadscope-reorder`).

    (xdist's own groups use a suffix of the tests' ids, which pytest 9 does not let it set.)
    """

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forget a group that has ended: for each test, xdist counts what is pending of all groups of a process."""
        scope = self._split_scope(self.registered_collections[node][item_index])
        super().mark_test_complete(node, item_index, duration)
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]

    def remove_node(self, node: WorkerController) -> str | None:
        """Give what a process had left to the others, and return the test that ended it, if one did.

        That test is not given out again: xdist would do so at once, and give up all tests after some more such ends.
        """
        work = self.assigned_work.pop(node)
        crashed = next((test for tests in work.values() for test, ended in tests.items() if not ended), None)
        if crashed is None:
            return None
        work[self._split_scope(crashed)][crashed] = True
        self.workqueue.update({scope: tests for scope, tests in work.items() if not all(tests.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = [work for other, work in self.assigned_work.items() if other is not node]
        if sum(map(_has_pods, others)) >= _WITH_PODS_AT_ONCE:  # groups with pods come first (`rank`)
            without = (scope for scope in self.workqueue if not scope.startswith(_WITH_PODS))
            if (scope := next(without, None)) is not None:
                self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group in GROUPS if nodeid.startswith(group)), nodeid)


def _has_pods(work: dict[str, dict[str, bool]]) -> bool:
    """Whether a process is yet to end a test with pods, of its work by group and test."""
    return any(scope.startswith(_WITH_PODS) and not all(ended.values()) for scope, ended in work.items())


def rank(nodeid: str) -> int:
    """Where a test stands in the order of beginning."""
    return next((place for place, start in enumerate(_ORDER) if nodeid.startswith(start)), len(_ORDER))
