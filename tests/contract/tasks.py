"""What every runner must do with tasks: dispatched and committed means run, rolled back means nothing.

A stage is a runner's, see :mod:`tests.contract.runner`. Where effects count once and where at least once is each
runner's own; so is how often a task that raises is tried.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from tests.contract.app import Line, effect
from tests.contract.runner import Stage, effects, session_of


def send(stage: Stage, text: str = "task", session: Any = None, name: str = "note") -> None:
    """Dispatch one."""
    stage.runner.dispatch_task(name, Line(text=text), session=session)


class TaskContract:
    """See the module."""

    @pytest.mark.parametrize("session", [True, False])
    @pytest.mark.parametrize("name", ["note", "anote", "snote", "asnote"])
    def test_a_task_runs_once(self, stage: Stage, name: str, session: bool) -> None:
        if session:
            with session_of(stage) as opened:
                send(stage, "ran", opened, name)
                opened.commit()
        else:
            send(stage, "ran", None, name)
        stage.settle()
        assert effects(stage) == ["ran"]
        assert stage.jobs() == []

    def test_it_is_committed_with_the_caller_s_rows(self, stage: Stage) -> None:
        with session_of(stage) as session:
            session.execute(effect.insert().values(text="the caller's"))
            for number in range(3):
                send(stage, f"task {number}", session, "snote")
            session.commit()
        stage.settle()
        assert sorted(effects(stage)) == ["task 0", "task 1", "task 2", "the caller's"]

    def test_a_rollback_makes_nothing(self, stage: Stage) -> None:
        with session_of(stage) as session:
            send(stage, session=session)
            session.rollback()
            session.execute(effect.insert().values(text="later"))
            session.commit()
        stage.settle()
        assert effects(stage) == ["later"]

    def test_a_savepoint_rolled_back_takes_its_own_task(self, stage: Stage) -> None:
        with session_of(stage) as session:
            send(stage, "kept", session)
            savepoint = session.begin_nested()
            send(stage, "rolled back", session)
            savepoint.rollback()
            with session.begin_nested():
                send(stage, "released", session)
            session.commit()
        stage.settle()
        assert sorted(effects(stage)) == ["kept", "released"]

    @pytest.mark.parametrize("commits", [True, False])
    def test_joined_to_an_outer_transaction_its_end_counts(self, stage: Stage, commits: bool) -> None:
        with stage.engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                send(stage, session=session)
                session.commit()
            outer.commit() if commits else outer.rollback()
        stage.settle()
        assert effects(stage) == (["task"] if commits else [])

    def test_a_task_of_a_scoped_session_is_dispatched_in_the_thread_s_own(self, stage: Stage) -> None:
        sessions = scoped_session(sessionmaker(stage.engine))
        send(stage, "rolled back", sessions)
        sessions.rollback()
        send(stage, "kept", sessions)
        sessions.commit()
        sessions.remove()
        stage.settle()
        assert effects(stage) == ["kept"]

    async def test_the_async_twin_takes_an_async_session(self, stage: Stage) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        engine = create_async_engine(stage.async_url)
        for text, ends in (("kept", True), ("rolled back", False)):
            async with AsyncSession(engine) as session:
                await stage.runner.adispatch_task("note", Line(text=text), session=session)
                await (session.commit() if ends else session.rollback())
        await engine.dispose()
        await stage.runner.adispatch_task("note", Line(text="without a session"))
        stage.settle()
        assert sorted(effects(stage)) == ["kept", "without a session"]

    @pytest.mark.parametrize("session", [True, False])
    def test_what_a_task_has_not_committed_when_it_raises_is_rolled_back(self, stage: Stage, session: bool) -> None:
        with session_of(stage) as opened:
            send(stage, "committed", opened if session else None, "sfail")
            opened.commit()
        with suppress(ValueError):  # `drain()` raises what the task does
            stage.settle()
        assert effects(stage) == ["committed"]

    def test_a_task_is_told_who_it_is(self, stage: Stage) -> None:
        send(stage, name="tell")
        stage.settle()
        assert effects(stage) == ["attempt 1"]
