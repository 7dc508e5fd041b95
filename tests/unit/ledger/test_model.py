"""The ledger in memory is the model: after the same moves the ledger in SQLite has the same state."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, event, select
from tests.contract.ledger_moves import Known, Move, moves, perform
from tests.waiting import eventually

from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import metadata
from spoke_jobs.model import FailedJob

_OF_ITS_OWN = ("id", "uid", "payload", "options")
_TIMES = ("run_after", "start_by", "cancel_requested_at", "suspended_at", "started_at", "finished_at", "expires_at")


def seen(ledger: Ledger) -> list[Any]:
    """What must be equal in both: everything but times and random values."""
    found = []
    for job in ledger.list_jobs(1000):
        plain = {
            name: getattr(job, name)
            for name in job.__slots__
            if name not in (*_OF_ITS_OWN, *_TIMES, "created_at", "updated_at", "submitted_at")
        }
        plain |= {f"{name}?": getattr(job, name) is not None for name in _TIMES}
        if job.job_type == "tell":
            plain["told"] = FailedJob.model_validate_json(job.payload).id
        attempts = [
            (
                one.run,
                one.number,
                one.state,
                one.worker,
                one.cause,
                one.error_type,
                one.output_tail,
                one.finished_at is None,
            )
            for one in ledger.attempts(job.id)
        ]
        found.append((job.id, plain, attempts))
    return found


class Twins(RuleBasedStateMachine):
    """Makes the same moves on both ledgers."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
            connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        self.memory, self.sql = MemoryLedger(), SqlLedger(self.engine)
        self.of_memory, self.of_sql = Known(), Known()

    @rule(move=moves())
    def both_move(self, move: Move) -> None:
        if move.kind == "prune":
            self.let_the_clock_tick()
        self.sql._claims.cursors.clear()  # the model has no response times
        assert perform(move, self.sql, self.of_sql) == perform(move, self.memory, self.of_memory)

    @invariant()
    def they_are_alike(self) -> None:
        assert seen(self.sql) == seen(self.memory)
        assert [claim.number for claim in self.of_sql.claims] == [claim.number for claim in self.of_memory.claims]

    def let_the_clock_tick(self) -> None:
        """SQLite's clock has milliseconds, and a time has passed only when the clock is later."""
        over = [
            job.expires_at for job in self.sql.list_jobs(1000) if job.options.retention_seconds == 0 and job.expires_at
        ]

        def later() -> bool:
            with self.engine.connect() as connection:
                return all(connection.execute(select(clock_now())).scalar_one() > when for when in over)

        eventually(later)


def play(examples: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder)}/jobs.sqlite3")
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous = OFF"))
        migrate(engine)
        machine = type("Machine", (Twins,), {"engine": engine})
        chosen = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink) if examples > 100 else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(machine, settings=chosen)
        finally:
            engine.dispose()


def test_sqlite_agrees_with_the_model() -> None:
    play(15, 30)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_same_for_longer() -> None:
    play(200, 50)
