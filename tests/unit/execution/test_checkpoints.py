"""What a running attempt saves is stored with its rows, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select
from tests.conftest import open_ledger
from tests.unit.execution.test_attempt import Attempt, metadata, steal, write, written

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard
from spoke_jobs.execution.context import JobContext
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState
from spoke_jobs.payloads import CHECKPOINT_LIMIT_BYTES


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    for opened in open_ledger(sqlite_ledger_url):
        metadata.create_all(opened.engine)
        yield opened


def saved(attempt: Attempt) -> dict[str, str]:
    return {row.name: row.value for row in attempt.ledger.saved(attempt.id)}


def run(ledger: SqlLedger, job: Callable[[JobContext], Any]) -> Attempt:
    """Run one attempt."""
    attempt = Attempt(ledger, lambda ctx, _payload: job(ctx))
    attempt.run()
    return attempt


class TestCheckpoint:
    def test_rows_and_checkpoint_are_one_commit(self, ledger: SqlLedger) -> None:
        seen: list[Any] = []

        def job(ctx: JobContext) -> None:
            seen.append(ctx.checkpoint)
            write(ctx.session)
            ctx.save({"row": 1})
            seen.extend([ctx.checkpoint, saved(attempt)])
            ctx.session.commit()
            seen.extend([ctx.checkpoint, saved(attempt)])
            write(ctx.session)
            ctx.save({"row": 2})
            ctx.session.rollback()
            seen.append(ctx.checkpoint)
            raise ValueError("no")

        attempt = Attempt(ledger, lambda ctx, _payload: job(ctx))
        attempt.run()
        assert seen == [None, {"row": 1}, {}, {"row": 1}, {"": '{"row":1}'}, {"row": 1}]
        assert (attempt.written, saved(attempt)) == (1, {"": '{"row":1}'})

    def test_what_is_saved_last_is_stored_with_the_success(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext) -> None:
            write(ctx.session)
            ctx.save("end")

        attempt = run(ledger, job)
        assert (attempt.row.state, attempt.written, saved(attempt)) == (JobState.SUCCEEDED, 1, {"": '"end"'})

    def test_a_value_that_is_changed_later_is_saved_as_it_was(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext) -> list[Any]:
            place = {"row": 1}
            ctx.save(place)
            place["row"] = 2
            ctx.session.commit()
            ctx.checkpoint["row"] = 3
            return [ctx.checkpoint]

        assert run(ledger, job).row.result == [{"row": 1}]

    def test_a_process_that_has_lost_its_job_saves_neither_rows_nor_checkpoint(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext) -> None:
            steal(ledger, claim)  # before the first write, because SQLite has one writer
            write(ctx.session)
            ctx.save("mine")
            ctx.session.commit()

        attempt = Attempt(ledger, lambda ctx, _payload: job(ctx))
        claim = attempt.claim()
        assert attempt.run(claim).exit_code is ExitCode.SUPERSEDED
        assert (attempt.written, saved(attempt)) == (0, {})

    @pytest.mark.parametrize(
        ("value", "wrong"),
        [
            ("x" * CHECKPOINT_LIMIT_BYTES, "takes 64,002 bytes, and 64,000 is the limit"),
            (object(), "the job's checkpoint"),
            ({1: 2}, "the job's checkpoint"),
            (float("nan"), "the job's checkpoint"),
        ],
    )
    def test_what_is_no_small_json_is_refused_by_name(self, ledger: SqlLedger, value: Any, wrong: str) -> None:
        attempt = run(ledger, lambda ctx: ctx.save(value))
        assert attempt.last.error_type.endswith("InvalidCheckpoint")
        assert wrong in attempt.row.result_message
        assert saved(attempt) == {}

    def test_a_job_that_saves_nothing_asks_the_ledger_nothing(
        self, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("save", "saved"):
            monkeypatch.setattr(ledger, name, None)
        assert run(ledger, lambda ctx: write(ctx.session)).row.state is JobState.SUCCEEDED


class TestStep:
    def test_a_failed_step_may_be_tried_again_in_the_attempt_and_leaves_no_rows(self, ledger: SqlLedger) -> None:
        def charge(ctx: JobContext, fails: bool) -> str:
            write(ctx.session)
            if fails:
                raise ConnectionError("no answer")
            return "charged"

        def job(ctx: JobContext) -> str:
            with suppress(ConnectionError):
                ctx.step("charge", lambda: charge(ctx, True))
            return ctx.step("charge", lambda: charge(ctx, False))

        attempt = run(ledger, job)
        assert (attempt.row.result, attempt.written) == ("charged", 1)

    def test_a_name_is_used_once_in_an_attempt(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext) -> None:
            for _ in range(2):
                ctx.step("charge", lambda: write(ctx.session))

        attempt = run(ledger, job)
        assert "the step 'charge' was called twice in this attempt" in attempt.row.result_message
        assert attempt.written == 1

    @pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, None])
    def test_a_name_that_can_t_be_used_is_refused(self, ledger: SqlLedger, name: Any) -> None:
        attempt = run(ledger, lambda ctx: ctx.step(name, lambda: write(ctx.session)))
        assert "a step's name is printable text" in attempt.row.result_message
        assert attempt.written == 0

    def test_every_attempt_gets_the_same_result(self, ledger: SqlLedger) -> None:
        attempt = run(ledger, lambda ctx: [type(ctx.step("pair", lambda: (1, 2))).__name__])
        assert attempt.row.result == ["list"], "as it is stored, also in the attempt that does the step"

    def test_a_step_without_a_result_is_done_too(self, ledger: SqlLedger) -> None:
        attempt = run(ledger, lambda ctx: ctx.step("charge", lambda: None))
        assert saved(attempt) == {"charge": "null"}

    def test_a_result_that_is_no_json_is_refused_and_the_step_is_not_done(self, ledger: SqlLedger) -> None:
        def charge(ctx: JobContext) -> object:
            write(ctx.session)
            return object()

        attempt = run(ledger, lambda ctx: ctx.step("charge", lambda: charge(ctx)))
        assert "the result of the step 'charge'" in attempt.row.result_message
        assert (attempt.written, saved(attempt)) == (0, {})

    def test_a_function_that_hides_a_coroutine_is_refused(self, ledger: SqlLedger) -> None:
        """A later attempt, which doesn't call it, could not know that the result is to be awaited."""

        async def charge() -> str:
            return "charged"

        attempt = run(ledger, lambda ctx: ctx.step("charge", lambda: charge()))
        assert "give the `async def` function itself" in attempt.row.result_message

    def test_a_checkpoint_saved_in_a_step_is_of_the_same_commit(self, ledger: SqlLedger) -> None:
        attempt = run(ledger, lambda ctx: ctx.step("charge", lambda: ctx.save(1)))
        assert saved(attempt) == {"": "1", "charge": "null"}

    def test_steps_of_an_async_job_may_run_together(self, ledger: SqlLedger) -> None:
        async def job(ctx: JobContext, _payload: Any) -> list[int]:
            async def ask(number: int) -> int:
                await asyncio.sleep(0)
                return number

            def asking(number: int) -> Any:
                async def asks() -> int:
                    return await ask(number)

                return ctx.step(f"ask {number}", asks)

            return list(await asyncio.gather(*(asking(number) for number in range(3))))

        attempt = Attempt(ledger, job)
        attempt.run()
        assert attempt.row.result == [0, 1, 2]
        assert sorted(saved(attempt)) == ["ask 0", "ask 1", "ask 2"]


class Transactions:
    """Adds rows, each with its number as the checkpoint, in a job's session."""

    OPERATIONS = ("add", "commit", "rollback", "savepoint", "savepoint below", "release", "undo")

    def __init__(self, ctx: JobContext) -> None:
        self.ctx = ctx
        self.added = 0
        self.savepoints: list[Any] = []

    def do(self, operation: str) -> None:
        session = self.ctx.session
        if operation == "add":
            self.added += 1
            session.execute(insert(written).values(n=self.added))
            self.ctx.save(self.added)
        elif operation in ("commit", "rollback"):
            while self.savepoints:  # those below the session's own don't end with its transaction
                self.do("release" if operation == "commit" else "undo")
            getattr(session, operation)()
        elif operation == "savepoint":
            self.savepoints.append(session.begin_nested())
        elif operation == "savepoint below":
            self.savepoints.append(session.connection().begin_nested())
        elif self.savepoints:
            last = self.savepoints.pop()
            (last.commit if operation == "release" else last.rollback)()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    """One ledger for all examples."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('saved') / 'ledger.sqlite3'}")
    migrate(engine)
    metadata.create_all(engine)
    yield SqlLedger(engine)
    engine.dispose()


@settings(deadline=None, max_examples=60)
@given(operations=st.lists(st.sampled_from(Transactions.OPERATIONS), max_size=25))
def test_the_checkpoint_is_always_that_of_the_newest_row(shared: SqlLedger, operations: list[str]) -> None:
    """Whatever is committed, rolled back or undone by a SAVEPOINT, also by one below the session's own."""
    newest = select(func.max(written.c.n))
    mismatches: list[Any] = []

    def job(ctx: JobContext, _payload: Any) -> None:
        transactions = Transactions(ctx)
        for operation in operations:
            transactions.do(operation)
            expected = ctx.session.scalar(newest)
            if ctx.checkpoint != expected:
                mismatches.append((operation, ctx.checkpoint, expected))
        raise Discard("the end")

    with shared.engine.begin() as connection:
        connection.execute(written.delete())
    attempt = Attempt(shared, job)
    attempt.run()
    assert "the end" in attempt.row.result_message
    assert mismatches == []
    with shared.engine.connect() as connection:
        expected = connection.scalar(newest)
    assert saved(attempt) == ({} if expected is None else {"": str(expected)})
