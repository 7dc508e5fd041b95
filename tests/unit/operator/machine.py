"""What happens to any operator: streams, workers, faults, comparisons, restarts, time: for state machines."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from tests.unit.operator.fake_client import Fault
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import World

NEWS = st.sampled_from([(), (0.2, 1, 10)])
"""No bound on what is told of attempts that go on, or a tight one."""


class OperatorMachine(RuleBasedStateMachine):
    """The rules that need no more than a world and an operator in it."""

    world: World
    sim: Simulation

    @rule(index=st.integers(0, 20), count=st.integers(1, 10))
    def events_come(self, index: int, count: int) -> None:
        for _ in range(count):
            self.sim.deliver(index)

    @precondition(lambda self: self.world.news)
    @rule(index=st.integers(0, 20))
    def an_event_is_lost(self, index: int) -> None:
        index %= len(self.world.news)
        if self.world.news[index][0] != "events":  # comparisons don't bring these back; a stream of them has no gaps
            self.world.news.pop(index)

    @rule(count=st.integers(1, 6))
    def workers_work(self, count: int) -> None:
        for _ in range(count):
            self.sim.work()

    @rule(calls=st.integers(0, 5), fault=st.sampled_from(Fault))
    def a_worker_works_with_a_fault(self, calls: int, fault: Fault) -> None:
        self.sim.client.faults = [None] * calls + [fault]
        self.sim.work()
        self.sim.client.faults = []

    @rule(everything=st.booleans())
    def a_comparison(self, everything: bool) -> None:
        self.sim.compare(everything=everything)

    @rule()
    def the_operator_is_restarted(self) -> None:
        self.sim.restart()

    @rule()
    def the_operator_catches_up(self) -> None:
        self.sim.pass_time(1)

    @rule(seconds=st.sampled_from([0.5, 2, 15, 60]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule()
    def the_job_controller_steps(self) -> None:
        self.world.job_controller()

    @rule()
    def the_garbage_collector_steps(self) -> None:
        self.world.garbage_collector()
