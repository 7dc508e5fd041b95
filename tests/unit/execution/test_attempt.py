"""One attempt, from claim to recorded end, whatever the job does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tests.conftest import given_back, open_ledger
from tests.contract.ledger import claim_one, new_job
from tests.waiting import eventually

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import RetryLater, Superseded
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.job_options import JobOptions
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptState, AttemptUsage, Claim, JobState, Pulse, UnreadPayload
from spoke_jobs.payloads import JOB_LIMIT_BYTES
from spoke_jobs.registry import Registry

metadata = MetaData()
written = Table("written", metadata, Column("n", Integer))


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    for opened in open_ledger(sqlite_ledger_url):
        metadata.create_all(opened.engine)
        yield opened
        given_back(opened.engine)


class Attempt:
    """A claimed job with a function, ready to run."""

    def __init__(self, ledger: SqlLedger, function: Callable[..., Any], **changes: Any) -> None:
        self.ledger = ledger
        self.registry = Registry()
        self.registry.job("report", payload=changes.pop("model", None))(function)
        self.id = ledger.insert(new_job(**changes)).id
        self.cancel = threading.Event()
        self.lost: list[str] = []

    def claim(self, lease: float = 30) -> Claim:
        claim = claim_one(self.ledger, "legacy", ["report"], "w", lease)
        assert claim is not None
        return claim

    def run(self, claim: Claim | None = None, *, decide: bool = True, **others: Any) -> AttemptEnd:
        services = AttemptServices(
            self.ledger,
            self.registry,
            lambda: Session(self.ledger.engine),
            decide=decide,
            on_stop=self.lost.append,
            **others,
        )
        return run_attempt(claim or self.claim(), services, self.cancel)

    @property
    def row(self) -> Any:
        return self.ledger.get(self.id)

    @property
    def last(self) -> Any:
        return self.ledger.attempts(self.id)[-1]

    @property
    def written(self) -> int:
        with self.ledger.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(written)) or 0


def write(session: Session) -> None:
    session.execute(insert(written).values(n=1))


def test_a_payload_that_was_not_read_with_the_claim_is_read_before_the_job_runs(ledger: SqlLedger) -> None:
    payload = '"' + "x" * 5_000 + '"'
    seen: list[tuple[str, Any]] = []
    attempt = Attempt(ledger, lambda ctx, given: seen.append((ctx.job.payload, given)), payload=payload)
    claim = attempt.claim()
    assert isinstance(claim.job.payload, UnreadPayload)
    assert attempt.run(claim).exit_code is ExitCode.DONE
    assert seen == [(payload, "x" * 5_000)]


def test_a_payload_that_is_too_large_for_any_process_is_refused_by_name(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda _ctx, _payload: None)
    with ledger.engine.begin() as connection:
        connection.execute(text(f"UPDATE job_request SET payload = hex(zeroblob({JOB_LIMIT_BYTES // 2 + 1}))"))
    assert attempt.run().exit_code is ExitCode.FAILED_FOR_GOOD
    assert attempt.last.cause == "InvalidPayload"
    assert attempt.row.result_message == "the payload takes 33,554,434 bytes, and 33,554,432 is the limit for a job"


@pytest.mark.parametrize(("fails", "with_session"), [(False, True), (True, False)])
def test_what_an_attempt_used_is_recorded_with_its_end(ledger: SqlLedger, fails: bool, with_session: bool) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        if with_session:
            write(ctx.session)
        if fails:
            raise ValueError("no")

    attempt = Attempt(ledger, job)
    attempt.run(meter=lambda: lambda: AttemptUsage(5, 6, 7))
    last = attempt.last
    assert last.state is (AttemptState.FAILED if fails else AttemptState.SUCCEEDED)
    assert (last.peak_memory_bytes, last.cpu_milliseconds, last.wall_milliseconds) == (5, 6, 7)


def test_in_a_process_that_others_use_only_the_time_is_measured(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda _ctx, _payload: None)
    attempt.run()
    assert (attempt.last.peak_memory_bytes, attempt.last.cpu_milliseconds) == (None, None)
    assert attempt.last.wall_milliseconds is not None


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_does_not_wait_until_the_output_is_copied_to_the_log(ledger: SqlLedger, fails: bool) -> None:
    def job(_ctx: JobContext, _payload: Any) -> None:
        if fails:
            raise ValueError("no")

    attempt = Attempt(ledger, job)
    found: list[object] = []

    def copy() -> None:
        found.append((attempt.last.state, attempt.last.output_tail[:8]))

    attempt.run(copy_output=copy, output=lambda: "printed\n", output_kept_after=0.0)
    assert found == [(AttemptState.FAILED if fails else AttemptState.SUCCEEDED, "printed\n")]


@pytest.mark.parametrize("with_session", [False, True])
def test_the_last_progress_before_the_end_is_recorded(ledger: SqlLedger, with_session: bool) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        if with_session:
            write(ctx.session)
        for page in range(40):
            ctx.progress(page, f"page {page + 1} of 40")

    attempt = Attempt(ledger, job)
    assert attempt.run() == AttemptEnd(ExitCode.DONE)
    assert (attempt.row.status, attempt.row.result_message) == (100, "page 40 of 40")


def test_a_failed_attempt_leaves_its_last_progress(ledger: SqlLedger) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        for page in range(40):
            ctx.progress(page, f"page {page + 1} of 40")
        raise ValueError("page 41 is missing")

    attempt = Attempt(ledger, job)
    attempt.run()
    assert (attempt.row.state, attempt.row.status) == (JobState.WAITING, 39)


def test_complete_commits_writes_and_success_together(ledger: SqlLedger) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        with ctx.complete({"rows": 1}) as session:
            write(session)

    attempt = Attempt(ledger, job)
    assert attempt.run().exit_code is ExitCode.DONE
    assert (attempt.row.result, attempt.written) == ({"rows": 1}, 1)


def test_a_block_that_raises_completes_nothing(ledger: SqlLedger) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        with ctx.complete() as session:
            write(session)
            raise ValueError("half-way")

    attempt = Attempt(ledger, job)
    assert attempt.run().exit_code is ExitCode.FAILED
    assert (attempt.row.state, attempt.written) == (JobState.WAITING, 0)


def test_a_job_that_raises_after_it_completed_has_succeeded(
    ledger: SqlLedger, caplog: pytest.LogCaptureFixture
) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        with ctx.complete():
            pass
        raise ValueError("too late")

    attempt = Attempt(ledger, job)
    with caplog.at_level(logging.WARNING):
        assert attempt.run().exit_code is ExitCode.DONE
    assert attempt.row.state is JobState.SUCCEEDED
    assert "raised after it had completed: ValueError" in caplog.text


def test_completing_twice_is_an_error_of_the_job_s(ledger: SqlLedger) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        with ctx.complete():
            pass
        with pytest.raises(RuntimeError, match="completes once"), ctx.complete():
            pass

    assert Attempt(ledger, job).run().exit_code is ExitCode.DONE


class Odd(Exception):
    pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "cause", "error_type"),
    [
        (ValueError("secret words"), "JobError", "ValueError"),
        (Odd(), "JobError", f"{Odd.__module__}.Odd"),
        (SystemExit(3), "JobExited", "SystemExit"),
        (KeyboardInterrupt(), "Interrupted", "KeyboardInterrupt"),
        (MemoryError(), "JobError", "MemoryError"),
        (Unspeakable(), "JobError", f"{__name__}.Unspeakable"),
    ],
)
def test_whatever_a_job_raises_ends_the_attempt_with_a_cause(
    ledger: SqlLedger, error: BaseException, cause: str, error_type: str
) -> None:
    def job(_ctx: JobContext, _payload: Any) -> None:
        raise error

    attempt = Attempt(ledger, job)
    ending = attempt.run()
    assert ending.exit_code is (ExitCode.INTERRUPTED if cause == "Interrupted" else ExitCode.FAILED)
    assert (attempt.last.cause, attempt.last.error_type) == (cause, error_type)
    assert "Traceback" in attempt.last.output_tail
    assert attempt.row.state is JobState.WAITING


def test_what_was_written_before_an_error_is_lost_and_what_was_committed_stays(ledger: SqlLedger) -> None:
    def job(ctx: JobContext, _payload: Any) -> None:
        write(ctx.session)
        ctx.session.commit()
        write(ctx.session)
        raise ValueError

    attempt = Attempt(ledger, job)
    attempt.run()
    assert attempt.written == 1


@pytest.mark.parametrize("copy_raises", [False, True])
def test_a_forked_copy_that_comes_back_ends_nothing(ledger: SqlLedger, copy_raises: bool) -> None:
    def job(_ctx: JobContext, _payload: Any) -> str:
        copy = os.fork()
        if copy == 0 and copy_raises:
            raise ValueError("the copy's")
        if copy == 0:
            return "the copy's"
        os.waitpid(copy, 0)
        return "the job's"

    attempt = Attempt(ledger, job)
    assert attempt.run().exit_code is ExitCode.DONE
    assert attempt.row.result == "the job's"


def test_the_lease_of_an_attempt_that_cannot_be_described_is_not_kept(ledger: SqlLedger) -> None:
    """The lease lapses, and another process runs the job again."""

    class Unsaid(RetryLater):
        def __init__(self) -> None:
            pass  # without what RetryLater keeps

    def job(ctx: JobContext) -> None:
        raise Unsaid

    attempt = Attempt(ledger, job)
    before = {thread.ident for thread in threading.enumerate()}
    with pytest.raises(AttributeError):
        attempt.run()
    left = [thread.name for thread in threading.enumerate() if thread.ident not in before]
    assert [name for name in left if name in ("spoke-heartbeat", "spoke-watchdog")] == []


def test_a_wrapper_around_an_async_job_runs_it(ledger: SqlLedger) -> None:
    async def job(_ctx: JobContext, _payload: Any) -> str:
        return "ran"

    attempt = Attempt(ledger, lambda ctx, payload: job(ctx, payload))
    attempt.run()
    assert attempt.row.result == "ran"


@pytest.mark.parametrize("result", [object(), float("nan"), "x" * 70_000])
def test_a_result_that_cannot_be_kept_is_final(ledger: SqlLedger, result: Any) -> None:
    attempt = Attempt(ledger, lambda ctx, _payload: (write(ctx.session), result)[1])
    assert attempt.run().exit_code is ExitCode.FAILED_FOR_GOOD
    assert (attempt.row.state, attempt.row.cause, attempt.written) == (JobState.FAILED, "InvalidResult", 0)


class Payload(BaseModel):
    name: str


def test_a_payload_of_another_release_is_final_by_name(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda _ctx, _payload: None, model=Payload)
    assert attempt.run().exit_code is ExitCode.FAILED_FOR_GOOD
    assert (attempt.row.state, attempt.row.cause) == (JobState.FAILED, "InvalidPayload")
    assert "name is missing" in attempt.row.result_message


def test_a_type_that_this_process_does_not_know(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda _ctx, _payload: None)
    claim = attempt.claim()
    attempt.registry = Registry()
    assert attempt.run(claim).exit_code is ExitCode.FAILED_FOR_GOOD
    assert attempt.row.cause == "UnknownJobType"


def test_a_cancelled_job_that_raises_was_interrupted(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda ctx, _payload: 1 / int(not ctx.cancelled))
    attempt.cancel.set()
    assert attempt.run().exit_code is ExitCode.INTERRUPTED
    assert (attempt.row.state, attempt.row.cause) == (JobState.WAITING, "Interrupted")


def test_a_job_may_end_itself_when_it_is_cancelled(ledger: SqlLedger) -> None:
    attempt = Attempt(ledger, lambda ctx, _payload: ctx.raise_if_cancelled() or "not asked to stop")
    attempt.cancel.set()
    assert attempt.run().exit_code is ExitCode.INTERRUPTED
    attempt.cancel.clear()
    claim = eventually(lambda: claim_one(ledger, "legacy", ["report"], "w", 30), "its next attempt is due")
    assert attempt.run(claim).exit_code is ExitCode.DONE


class TestSuperseded:
    """Another process has taken the job over while this one was running it."""

    def superseded(self, ledger: SqlLedger, job: Callable[..., Any]) -> tuple[Attempt, AttemptEnd]:
        attempt = Attempt(ledger, job)
        claim = attempt.claim()
        attempt.steal = lambda: steal(ledger, claim)  # type: ignore[attr-defined]
        self.attempt = attempt
        return attempt, attempt.run(claim)

    def test_its_commits_are_refused(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext, _payload: Any) -> None:
            write(ctx.session)
            ctx.session.rollback()
            self.attempt.steal()  # type: ignore[attr-defined]
            write(ctx.session)
            with pytest.raises(Superseded):
                ctx.session.commit()
            raise AssertionError("the job goes on all the same")

        attempt, ending = self.superseded(ledger, job)
        assert ending.exit_code is ExitCode.SUPERSEDED
        assert (attempt.row.state, attempt.written) == (JobState.RUNNING, 0)

    def test_a_commit_with_a_savepoint_open_is_refused_too(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext, _payload: Any) -> None:
            self.attempt.steal()  # type: ignore[attr-defined]
            with pytest.raises(Superseded), ctx.session.begin():
                ctx.session.begin_nested()
                write(ctx.session)

        attempt, _ = self.superseded(ledger, job)
        assert (attempt.row.state, attempt.written) == (JobState.RUNNING, 0)

    def test_its_completion_is_refused(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext, _payload: Any) -> None:
            self.attempt.steal()  # type: ignore[attr-defined]
            with ctx.complete("mine") as session:
                write(session)

        attempt, ending = self.superseded(ledger, job)
        assert ending.exit_code is ExitCode.SUPERSEDED
        assert (attempt.row.state, attempt.row.result, attempt.written) == (JobState.RUNNING, None, 0)

    def test_a_success_of_the_other_s_is_the_job_s(self, ledger: SqlLedger) -> None:
        def job(_ctx: JobContext, _payload: Any) -> str:
            token = self.attempt.steal()  # type: ignore[attr-defined]
            ledger.succeed(None, token, "theirs")
            return "mine"

        attempt, ending = self.superseded(ledger, job)
        assert ending.exit_code is ExitCode.DONE
        assert attempt.row.result == "theirs"


def steal(ledger: SqlLedger, claim: Claim) -> Any:
    """What a second pod of the same attempt does once the first one's lease has lapsed."""
    assert ledger.heartbeat(claim.token, -1) is Pulse.HELD
    job = claim.job
    taken = ledger.claim(job.id, job.uid, job.run, claim.number, "another", 30)
    assert isinstance(taken, Claim)
    return taken.token


class TestContext:
    def test_says_who_it_is(self, ledger: SqlLedger, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[Any] = []

        def job(ctx: JobContext, _payload: Any) -> None:
            seen.extend([ctx.job.id, ctx.attempt, ctx.attempt_key, ctx.cancelled])
            ctx.logger.warning("hello")

        attempt = Attempt(ledger, job)
        attempt.run()
        assert seen == [attempt.id, 1, f"{attempt.row.uid}-1-1", False]
        assert f"[job {attempt.id} attempt 1] hello" in caplog.text

    @pytest.mark.parametrize("percent", [-1, 101, 1.5, "50", True])
    def test_refuses_progress_that_is_none(self, ledger: SqlLedger, percent: Any) -> None:
        attempt = Attempt(ledger, lambda ctx, _payload: ctx.progress(percent))
        attempt.run()
        assert "whole number of percent from 0 to 100" in attempt.row.result_message

    def test_a_savepoint_of_its_session_is_not_fenced_by_itself(self, ledger: SqlLedger) -> None:
        def job(ctx: JobContext, _payload: Any) -> None:
            with ctx.session.begin_nested():
                write(ctx.session)

        attempt = Attempt(ledger, job)
        attempt.run()
        assert attempt.written == 1


class TestAnOutageAtTheEnd:
    """The database goes away while a job's success is to be recorded."""

    class Away(SqlLedger):
        """A ledger that doesn't answer for a while."""

        failures = 3

        def succeed(self, session: Session | None, token: UUID, result: Any, *others: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise OperationalError("", {}, psycopg.OperationalError("connection refused"))
            super().succeed(session, token, result, *others)

    def test_the_success_is_recorded_once_it_answers_and_the_job_ran_once(self, ledger: SqlLedger) -> None:
        calls: list[int] = []
        attempt = Attempt(self.Away(ledger.engine), lambda ctx, _payload: calls.append(ctx.attempt))
        assert attempt.run(attempt.claim(lease=3)) == AttemptEnd(ExitCode.DONE)
        assert (attempt.row.state, calls) == (JobState.SUCCEEDED, [1])

    def test_a_job_that_has_returned_is_not_out_of_time_meanwhile(self, ledger: SqlLedger) -> None:
        away = self.Away(ledger.engine)
        away.failures = 5
        attempt = Attempt(away, lambda _ctx, _payload: None, options=JobOptions(timeout_seconds=2.0))
        began = time.monotonic()
        assert attempt.run(attempt.claim(lease=6)) == AttemptEnd(ExitCode.DONE)
        assert time.monotonic() - began > 2.0, "it took longer than the timeout"
        assert (attempt.row.state, attempt.lost) == (JobState.SUCCEEDED, [])

    def test_what_a_job_meets_itself_is_the_database_s_fault(self, ledger: SqlLedger) -> None:
        def fail(_ctx: JobContext, _payload: Any) -> None:
            raise OperationalError("", {}, psycopg.OperationalError("connection refused"))

        attempt = Attempt(ledger, fail)
        assert attempt.run().recorded, "its own database answers"
        assert attempt.last.cause == "DatabaseUnreachable"

    def test_a_statement_that_is_refused_is_the_job_s(self, ledger: SqlLedger) -> None:
        def fail(_ctx: JobContext, _payload: Any) -> None:
            raise OperationalError("", {}, psycopg.errors.LockNotAvailable("lock timeout"))

        attempt = Attempt(ledger, fail)
        attempt.run()
        assert attempt.last.cause == "JobError"
