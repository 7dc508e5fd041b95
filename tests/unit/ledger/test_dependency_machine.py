"""Random graphs of jobs, with ends, cancellations and retries: each job's state follows from its dependencies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies
from sqlalchemy import text
from tests.contract.dependency_moves import Graph, all_jobs, steps

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.ledger.sql_ledger import SqlLedger


def states(ledger: Any) -> list[tuple[object, ...]]:
    return [
        (job.state, job.cause, job.run, job.open_dependencies, job.result_message, job.awaited)
        for _, job in sorted(all_jobs(ledger).items())
    ]


@settings(max_examples=150, deadline=None)
@given(strategies.integers(0, 2**32))
def test_states_follow_from_dependencies(seed: int) -> None:
    ledger, graph = MemoryLedger(), Graph()
    for step in steps(seed, 40):
        graph.take(step, ledger)
        graph.check(all_jobs(ledger))
    graph.finish(ledger)


def agree(url: str, examples: int) -> None:
    engine = create_engine(url)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(strategies.integers(0, 2**32))
    @example(138)  # a retry of a job that has not failed
    @example(1_965_572_883)  # a job fails, is tried again, and fails again, while another that runs after it is blocked
    def run(seed: int) -> None:
        with engine.begin() as connection:
            for table in ("job_dependency", "job_attempt", "job_request"):
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("DELETE FROM sqlite_sequence"))
        memory, graph, same_graph = MemoryLedger(), Graph(), Graph()
        for step in steps(seed, 30):
            ledger = SqlLedger(engine)  # a new one has no position from which it searches
            graph.take(step, ledger)
            same_graph.take(step, memory)
            assert states(ledger) == states(memory)
        graph.check(all_jobs(ledger))
        graph.finish(SqlLedger(engine))

    run()
    engine.dispose()


def test_sqlite_agrees_with_the_ledger_in_memory(sqlite_ledger_url: str) -> None:
    agree(sqlite_ledger_url, 10)


@pytest.mark.long
def test_the_same_for_longer(sqlite_ledger_url: str) -> None:
    agree(sqlite_ledger_url, 300)
