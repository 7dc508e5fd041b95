"""Random graphs of jobs, with ends, cancellations and retries: each job's state follows from its dependencies."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies
from tests.contract.dependency_moves import Graph, all_jobs, steps

from spoke_jobs.ledger.memory_ledger import MemoryLedger


def play(examples: int, number: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(strategies.integers(0, 2**32))
    @example(138)  # a retry of a job that has not failed
    @example(1_965_572_883)  # a job fails, is tried again, and fails again, while another that runs after it is blocked
    def run(seed: int) -> None:
        ledger, graph = MemoryLedger(), Graph()
        for step in steps(seed, number):
            graph.take(step, ledger)
            graph.check(all_jobs(ledger))
        graph.finish(ledger)

    run()


def test_states_follow_from_dependencies() -> None:
    play(20, 30)


@pytest.mark.long
def test_the_same_for_longer() -> None:
    play(300, 40)
