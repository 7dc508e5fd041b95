from __future__ import annotations

from collections import Counter, defaultdict, deque

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spoke_jobs_operator.core.process.fair_line import FairLine, SharedWorkers

GROUPS = "abcd"


@given(st.lists(st.booleans()))
def test_the_usual_items_of_a_group_are_not_starved_by_its_urgent_ones(urgent: list[bool]) -> None:
    line: FairLine[bool] = FairLine()
    for first in urgent:
        line.add("a", first, first=first)
    usual = urgent.count(False)
    in_a_row = 0
    while (taken := line.take()) is not None:
        in_a_row = in_a_row + 1 if taken[1] else 0
        usual -= not taken[1]
        assert in_a_row <= 3 or usual == 0


class Machine(RuleBasedStateMachine):
    """Any order of additions, takes and ends, compared with the rules."""

    @initialize(workers=st.integers(1, 20))
    def begin(self, workers: int) -> None:
        self.workers = workers
        self.share = max(1, workers // 4)
        self.shared: SharedWorkers[int] = SharedWorkers(workers)
        self.waiting: defaultdict[str, deque[int]] = defaultdict(deque)
        self.busy: Counter[str] = Counter()
        self.overtaken: Counter[str] = Counter()
        self.number = 0

    @rule(group=st.sampled_from(GROUPS), many=st.integers(1, 9))
    def add(self, group: str, many: int) -> None:
        for _ in range(many):
            self.number += 1
            self.shared.add(group, self.number)
            self.waiting[group].append(self.number)

    @rule()
    def take(self) -> None:
        before = Counter(self.busy)
        waiting = {group for group, items in self.waiting.items() if items}
        taken = self.shared.take()
        if taken is None:
            full = self.busy.total() == self.workers
            most = max(1, self.workers - self.share)
            assert full or all(self.busy[group] >= most for group in waiting), "no worker is idle without need"
            return
        group = str(taken[0])
        assert self.waiting[group].popleft() == taken[1], "nothing is lost, repeated or overtaken within its group"
        self.busy[group] += 1
        assert self.busy.total() <= self.workers
        assert self.busy[group] < self.workers or self.workers == 1, "a part of the workers is left for the others"
        small = {other for other in waiting - {group} if before[other] < self.share}
        assert before[group] < self.share or not small, "while others wait, a group has at most its share"
        for other in small:
            self.overtaken[other] += 1
            assert self.overtaken[other] <= len(GROUPS) - 1, "a turn comes after one turn of each other group"
        self.overtaken[group] = 0

    @precondition(lambda self: self.busy.total())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(sorted(self.busy.elements())))
        self.busy[group] -= 1
        self.shared.done(group)

    @invariant()
    def length(self) -> None:
        if hasattr(self, "shared"):
            assert len(self.shared) == sum(map(len, self.waiting.values()))


TestSharedWorkers = Machine.TestCase
TestSharedWorkers.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
