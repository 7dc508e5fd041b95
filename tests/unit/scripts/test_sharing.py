"""Which tests the processes of `make test` get, and when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pytest
from tests.sharing import ByGroup, rank

WITH_PODS = [f"tests/integration/operator/test_{name}.py::test_it" for name in "abcd"]
GROUP = ["tests/e2e/test_why.py::test_one", "tests/e2e/test_logs.py::test_two"]
OTHERS = [f"tests/unit/test_{name}.py::test_it" for name in "abcdef"]


class Process:
    """A process as xdist's scheduler knows it."""

    shutting_down = False

    def __init__(self) -> None:
        self.given: list[int] = []

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def scheduler() -> Any:
    """One that is about to give out these tests to three processes."""
    made: Any = ByGroup.__new__(ByGroup)
    tests = sorted([*OTHERS, *GROUP, *WITH_PODS], key=rank)
    made.collection, made.numnodes, made.log = tests, 3, lambda *_words: None
    made.assigned_work = {Process(): {} for _ in range(3)}
    made.registered_collections = dict.fromkeys(made.assigned_work, tests)
    made.workqueue = OrderedDict()
    for test in tests:
        made.workqueue.setdefault(made._split_scope(test), {})[test] = False
    return made


def have_pods(scheduler: Any) -> int:
    return sum(any("/unit/" not in scope for scope in work) for work in scheduler.assigned_work.values())


def test_at_most_two_have_tests_with_pods_and_all_are_given_once(scheduler: Any) -> None:
    for process in scheduler.nodes:
        scheduler._assign_work_unit(process)
    assert have_pods(scheduler) == 2
    ended: dict[Process, int] = dict.fromkeys(scheduler.nodes, 0)
    while any(ended[process] < len(process.given) for process in ended):
        for process in ended:
            if ended[process] < len(process.given):
                ended[process] += 1
                scheduler.mark_test_complete(process, process.given[ended[process] - 1])
            if any("/unit/" in scope for scope in scheduler.workqueue):
                assert have_pods(scheduler) <= 2
    assert sorted(index for process in ended for index in process.given) == list(range(len(scheduler.collection)))
    assert all(process.shutting_down for process in ended)


def test_one_process_runs_a_group_and_what_has_ended_is_forgotten(scheduler: Any) -> None:
    process = scheduler.nodes[0]
    while "tests/e2e/" not in scheduler.assigned_work[process]:
        scheduler._assign_work_unit(process)
    group = [index for index in process.given if scheduler.collection[index] in GROUP]
    assert len(group) == 2
    scheduler.mark_test_complete(process, group[0])
    assert "tests/e2e/" in scheduler.assigned_work[process]
    scheduler.mark_test_complete(process, group[1])
    assert "tests/e2e/" not in scheduler.assigned_work[process]


def test_what_a_process_had_left_when_a_test_ended_it_is_given_to_others_without_that_test(scheduler: Any) -> None:
    process, other, _ = scheduler.nodes
    while "tests/e2e/" not in scheduler.assigned_work[process]:
        scheduler._assign_work_unit(process)
    group = [scheduler.collection[index] for index in process.given if scheduler.collection[index] in GROUP]
    for index in process.given:
        if scheduler.collection[index] not in GROUP:
            scheduler.mark_test_complete(process, index)
    assert scheduler.remove_node(process) == group[0]
    while scheduler.workqueue:
        scheduler._assign_work_unit(other)
    given = [scheduler.collection[index] for index in other.given]
    assert group[1] in given
    assert group[0] not in given
