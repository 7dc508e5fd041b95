"""What every runner must do. Subclass it with a fixture ``stage``: unit, integration and end-to-end tests do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, registry, scoped_session, sessionmaker
from tests.contract.app import Line, effect

from spoke_jobs.dispatch import abatch, batch, use_runner
from spoke_jobs.errors import ChangeRefused, InvalidJobData, InvalidPayload, UnknownName
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.runner import Runner


class EffectRow:
    """A row of the application's, mapped."""

    def __init__(self, id: int, text: str) -> None:  # noqa: A002 (a column's name)
        self.id, self.text = id, text


registry().map_imperatively(EffectRow, effect)


class Stage(Protocol):
    """A runner with everything around it that makes it run."""

    runner: Runner
    engine: Engine
    """The application's database."""
    async_url: str
    """The same for an AsyncEngine."""

    def settle(self) -> None:
        """Return when everything that was committed has ended."""

    def jobs(self) -> list[JobRequest]:
        """All rows, oldest first."""


def effects(stage: Stage) -> list[str]:
    """What jobs and tasks left behind, in order."""
    with stage.engine.connect() as connection:
        return list(connection.scalars(select(effect.c.text).order_by(effect.c.id)))


@contextmanager
def session_of(stage: Stage) -> Iterator[Session]:
    """A session of the application's."""
    with Session(stage.engine) as session:
        yield session


def outcome(stage: Stage) -> list[tuple[str, JobState, Any, str]]:
    """How every job ended."""
    return [(job.job_type, job.state, job.result, job.cause) for job in stage.jobs()]


def assert_nothing(stage: Stage) -> None:
    """No row, and nothing that ran."""
    stage.settle()
    assert (stage.jobs(), effects(stage)) == ([], [])


class RunnerContract:
    """Dispatched and committed means run; rolled back means nothing, under every runner."""

    # A job's life

    def test_a_job_runs_and_its_result_is_kept(self, stage: Stage) -> None:
        returned = stage.runner.dispatch_job(JobData("record", Line(text="hello"), queue_name="q", organization_id=4))
        assert (returned.job_type, returned.queue_name, returned.organization_id) == ("record", "q", 4)
        stage.settle()
        (job,) = stage.jobs()
        assert (job.id, job.uid) == (returned.id, returned.uid)
        assert (job.state, job.status, job.result, job.attempt) == (JobState.SUCCEEDED, 100, {"said": "hello"}, 1)
        assert effects(stage) == ["hello"]

    def test_labels_are_kept_in_the_row_and_the_job_runs(self, stage: Stage) -> None:
        labels = {"team": "payments", "example.com/cost-center": "12"}
        returned = stage.runner.dispatch_job(JobData("record", Line(text="hello"), labels=labels))
        with pytest.raises(InvalidJobData, match="team is 'a b'"):
            stage.runner.dispatch_job(JobData("record", Line(text="refused"), labels={"team": "a b"}))
        stage.settle()
        (job,) = stage.jobs()
        assert returned.options.labels == job.options.labels == labels
        assert (job.state, effects(stage)) == (JobState.SUCCEEDED, ["hello"])

    def test_an_async_job_runs_and_its_session_s_rest_is_committed(self, stage: Stage) -> None:
        stage.runner.dispatch_job(JobData("arecord", {"text": "from a dict"}))
        stage.settle()
        assert outcome(stage) == [("arecord", JobState.SUCCEEDED, {"said": "from a dict"}, "")]
        assert effects(stage) == ["from a dict"]

    @pytest.mark.parametrize("payload", [None, "ü\x00\U0001f600", [0, {"": {}, "a": [None, True, 1.5]}]])
    def test_plain_json_arrives_as_it_was_sent(self, stage: Stage, payload: Any) -> None:
        stage.runner.dispatch_job(JobData("plain", payload))
        stage.settle()
        if "\x00" in str(payload):  # a result stands in a JSON column, which on PostgreSQL holds no NUL
            assert stage.jobs()[0].payload.encode().decode("unicode_escape").strip('"').startswith("ü\x00")
        else:
            assert outcome(stage) == [("plain", JobState.SUCCEEDED, payload, "")]

    @pytest.mark.parametrize("name", ["bare", "abare"])
    def test_a_function_may_take_no_payload(self, stage: Stage, name: str) -> None:
        stage.runner.dispatch_job(JobData(name))
        stage.runner.dispatch_task("bare_note")
        stage.settle()
        assert outcome(stage) == [(name, JobState.SUCCEEDED, 1, "")]
        assert effects(stage) == ["noted"]

    def test_a_job_that_raises_has_three_attempts_and_says_why(self, stage: Stage) -> None:
        stage.runner.dispatch_job(JobData("fail"))
        stage.settle()
        assert outcome(stage) == [("fail", JobState.FAILED, None, "JobError")]
        assert effects(stage) == ["attempt 1", "attempt 2", "attempt 3"]
        assert stage.jobs()[0].status == -1

    def test_a_job_may_succeed_at_a_later_attempt(self, stage: Stage) -> None:
        stage.runner.dispatch_job(JobData("recover"))
        stage.settle()
        assert outcome(stage) == [("recover", JobState.SUCCEEDED, "recovered", "")]
        assert stage.jobs()[0].attempt == 2

    def test_a_job_goes_on_at_its_checkpoint(self, stage: Stage) -> None:
        stage.runner.dispatch_job(JobData("resume"))
        stage.settle()
        assert outcome(stage) == [("resume", JobState.SUCCEEDED, [2, 4], "")]
        expected = [f"line {number} by attempt {1 if number < 2 else 2}" for number in range(4)]
        assert effects(stage) == expected, "what was committed with the checkpoint is not repeated, the rest is"

    @pytest.mark.parametrize(("name", "ordered"), [("step", ["ordered by attempt 1"]), ("astep", [])])
    def test_a_step_that_is_done_is_not_repeated(self, stage: Stage, name: str, ordered: list[str]) -> None:
        stage.runner.dispatch_job(JobData(name))
        stage.settle()
        assert outcome(stage) == [(name, JobState.SUCCEEDED, [1, {"attempt": 2}], "")]
        assert effects(stage) == [*ordered, "charged by attempt 2"]

    def test_a_job_retried_by_hand_goes_on_at_its_checkpoint_unless_it_is_cleared(self, stage: Stage) -> None:
        job = stage.runner.dispatch_job(JobData("resume_by_hand"))
        stage.settle()
        assert outcome(stage) == [("resume_by_hand", JobState.FAILED, None, "Discarded")]
        assert stage.runner.retry_job(job.uid, clear_checkpoints=True)
        stage.settle()
        assert outcome(stage) == [("resume_by_hand", JobState.FAILED, None, "Discarded")]
        assert stage.runner.retry_job(job.id)
        stage.settle()
        assert outcome(stage) == [("resume_by_hand", JobState.SUCCEEDED, 2, "")]
        again = stage.runner.retry_job(job.id)
        assert again is not None
        assert (again.state, again.run) == (JobState.SUCCEEDED, 3), "only a failed job is retried"
        assert stage.runner.retry_job(job.id + 1_000_000) is None

    # Transactions of the caller's

    def test_committed_with_the_caller_s_rows(self, stage: Stage) -> None:
        with session_of(stage) as session:
            session.execute(effect.insert().values(text="the caller's"))
            stage.runner.dispatch_job(JobData("record", Line(text="the job's")), session=session)
            stage.runner.dispatch_task("note", Line(text="the task's"), session=session)
            session.commit()
        stage.settle()
        assert sorted(effects(stage)) == ["the caller's", "the job's", "the task's"]

    def test_jobs_of_one_transaction_run_after_each_other(self, stage: Stage) -> None:
        with Session(stage.engine) as session:
            first = stage.runner.dispatch_job(JobData("record", Line(text="first")), session=session)
            fails = stage.runner.dispatch_job(JobData("fail"), session=session)
            last = stage.runner.dispatch_job(JobData("record", Line(text="last"), after=[first]), session=session)
            never = stage.runner.dispatch_job(JobData("bare", after=[fails, last.id]), session=session)
            always = JobData("arecord", {"text": "always"}, after=[never, last], after_failed="run")
            stage.runner.dispatch_job(always, session=session)
            assert (last.state, never.state) == (JobState.BLOCKED, JobState.BLOCKED)
            session.commit()
        stage.settle()
        causes = [(job.state, job.cause) for job in stage.jobs()]
        done = (JobState.SUCCEEDED, "")
        failed = [(JobState.FAILED, "JobError"), (JobState.FAILED, "DependencyFailed")]
        assert causes == [done, failed[0], done, failed[1], done]
        lines = [line for line in effects(stage) if "attempt" not in line]
        assert lines == ["first", "last", "always"]

    def test_a_job_follows_a_batch(self, stage: Stage) -> None:
        with use_runner(stage.runner), Session(stage.engine) as session:
            with batch("march", then=JobData("record", Line(text="last")), session=session) as march:
                march.dispatch_jobs([JobData("record", Line(text="first")), JobData("recover")])
            with batch("april", then=JobData("bare"), session=session) as april:
                april.dispatch_job(JobData("fail"))
            session.commit()
        stage.settle()
        causes = sorted((job.job_type, job.state.value, job.cause) for job in stage.jobs())
        assert causes == [
            ("bare", "failed", "DependencyFailed"),
            ("fail", "failed", "JobError"),
            ("record", "succeeded", ""),
            ("record", "succeeded", ""),
            ("recover", "succeeded", ""),
        ]
        assert [line for line in effects(stage) if "attempt" not in line] == ["first", "last"]

    async def test_a_job_follows_a_batch_of_an_event_loop(self, stage: Stage) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        engine = create_async_engine(stage.async_url)
        with use_runner(stage.runner):
            async with AsyncSession(engine) as session:
                async with abatch("march", then=JobData("record", Line(text="last")), session=session) as march:
                    await march.adispatch_jobs([JobData("record", Line(text="first")), JobData("recover")])
                    await march.adispatch_job(JobData("arecord", {"text": "first"}))
                async with abatch("empty", then=JobData("record", Line(text="at once")), session=session):
                    pass
                await session.commit()
            await engine.dispose()
            async with abatch("april", then=JobData("bare")) as april:
                await april.adispatch_job(JobData("fail"))
        stage.settle()
        lines = [line for line in effects(stage) if "attempt" not in line]
        assert sorted(lines) == ["at once", "first", "first", "last"]
        assert lines.index("last") > max(index for index, line in enumerate(lines) if line == "first")
        assert [job.cause for job in stage.jobs() if job.job_type == "bare"] == ["DependencyFailed"]

    def test_rollback_makes_nothing(self, stage: Stage) -> None:
        with session_of(stage) as session:
            self.dispatch_both(stage, session)
            session.rollback()
            session.execute(text("SELECT 1"))
            session.commit()
        self.assert_nothing(stage)

    def test_dispatched_as_the_session_is_about_to_commit(self, stage: Stage) -> None:
        with session_of(stage) as session:

            @event.listens_for(session, "before_commit")
            def dispatches(inner: Session) -> None:
                stage.runner.dispatch_job(JobData("record", Line(text="job")), session=inner)

            session.execute(effect.insert().values(text="the caller's"))
            session.commit()
        stage.settle()
        assert sorted(effects(stage)) == ["job", "the caller's"]

    def test_closing_without_commit_makes_nothing(self, stage: Stage) -> None:
        with session_of(stage) as session:
            self.dispatch_both(stage, session)
            session.close()
            session.execute(text("SELECT 1"))
            session.commit()
        self.assert_nothing(stage)

    def test_a_flush_that_fails_in_a_savepoint_takes_no_more_than_the_savepoint(self, stage: Stage) -> None:
        """Insert or ignore, as applications do it."""
        with session_of(stage) as session:
            session.execute(effect.insert().values(id=1_000_001, text="there"))
            self.dispatch_both(stage, session)
            with pytest.raises(IntegrityError), session.begin_nested():
                session.add(EffectRow(id=1_000_001, text="there already"))
                session.flush()
            session.commit()
        stage.settle()
        assert sorted(effects(stage)) == ["job", "task", "there"]

    def test_a_scoped_session_is_the_thread_s_own(self, stage: Stage) -> None:
        sessions = scoped_session(sessionmaker(stage.engine))
        self.dispatch_both(stage, sessions)
        sessions.rollback()
        stage.runner.dispatch_job(JobData("record", Line(text="kept")), session=sessions)
        sessions.commit()
        sessions.remove()
        stage.settle()
        assert effects(stage) == ["kept"]

    def test_a_savepoint_rolled_back_inside_a_commit_makes_nothing(self, stage: Stage) -> None:
        with session_of(stage) as session:
            session.execute(effect.insert().values(text="kept"))
            with session.begin_nested():
                savepoint = session.begin_nested()
                self.dispatch_both(stage, session)
                savepoint.rollback()
            session.commit()
        stage.settle()
        assert (stage.jobs(), effects(stage)) == ([], ["kept"])

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_released_savepoint_counts_with_the_root(self, stage: Stage, commits: bool) -> None:
        with session_of(stage) as session:
            with session.begin_nested():
                self.dispatch_both(stage, session)
            session.commit() if commits else session.rollback()
        stage.settle()
        assert sorted(effects(stage)) == (["job", "task"] if commits else [])
        assert len(stage.jobs()) == commits

    @pytest.mark.parametrize(
        ("mode", "commits"), [("create_savepoint", False), ("rollback_only", False), ("create_savepoint", True)]
    )
    def test_joined_to_an_outer_transaction_both_wait_for_its_end(self, stage: Stage, mode: Any, commits: bool) -> None:
        with stage.engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode=mode) as session:
                self.dispatch_both(stage, session)
                session.commit()
            outer.commit() if commits else outer.rollback()
        stage.settle()
        assert sorted(effects(stage)) == (["job", "task"] if commits else [])
        assert len(stage.jobs()) == commits

    def test_one_session_may_dispatch_in_several_transactions(self, stage: Stage) -> None:
        with session_of(stage) as session:
            for number in range(3):
                stage.runner.dispatch_job(JobData("record", Line(text=f"job {number}")), session=session)
                session.commit() if number != 1 else session.rollback()
        stage.settle()
        assert sorted(effects(stage)) == ["job 0", "job 2"]

    async def test_async_twins_take_an_async_session(self, stage: Stage) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        engine = create_async_engine(stage.async_url)
        async with AsyncSession(engine) as session:
            job = await stage.runner.adispatch_job(JobData("record", Line(text="kept")), session=session)
            found = await stage.runner.aget_job(job.id, session=session)
            assert found is not None
            assert found.uid == job.uid
            await session.commit()
        async with AsyncSession(engine) as session:
            await stage.runner.adispatch_job(JobData("record", Line(text="rolled back")), session=session)
            await stage.runner.adispatch_task("note", Line(text="rolled back"), session=session)
            await session.rollback()
        async with AsyncSession(engine) as session:
            await stage.runner.adispatch_task("note", Line(text="task"), session=session)
            await session.commit()
        await engine.dispose()
        await stage.runner.adispatch_job(JobData("record", Line(text="without a session")))
        stage.settle()
        assert sorted(effects(stage)) == ["kept", "task", "without a session"]
        done = await stage.runner.aget_job(job.id)
        assert done is not None
        assert done.state is JobState.SUCCEEDED

    # Reading

    def test_a_job_is_read_as_it_is_now(self, stage: Stage) -> None:
        job = stage.runner.dispatch_job(JobData("record", Line(text="hello")))
        stage.settle()
        found = stage.runner.get_job(job.id)
        assert found is not None
        assert (found.uid, found.state, found.result) == (job.uid, JobState.SUCCEEDED, {"said": "hello"})
        assert stage.runner.get_job(job.uid) == found
        assert [stage.runner.get_job(other) for other in (job.id + 1_000_000, 2**63, uuid4())] == [None, None, None]

    def test_the_caller_s_transaction_sees_what_it_dispatched_and_nobody_else_does(self, stage: Stage) -> None:
        with session_of(stage) as session:
            job = stage.runner.dispatch_job(JobData("record", Line(text="hello")), session=session)
            found = stage.runner.get_job(job.id, session=session)
            assert found is not None
            assert stage.runner.get_job(job.uid, session=session) == found
            assert (found.uid, found.state) == (job.uid, JobState.WAITING)
            assert stage.runner.get_job(job.id) is None
            session.rollback()
            assert stage.runner.get_job(job.id, session=session) is None

    # Helpers

    def dispatch_both(self, stage: Stage, session: Any) -> None:
        stage.runner.dispatch_job(JobData("record", Line(text="job")), session=session)
        stage.runner.dispatch_task("note", Line(text="task"), session=session)

    def assert_nothing(self, stage: Stage) -> None:
        assert_nothing(stage)


class ChangedStartContract:
    """What each runner that honors ``run_after`` does when the application changes when a job starts."""

    def test_a_job_that_waits_for_its_time_is_run_now(self, stage: Stage) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        job = stage.runner.dispatch_job(JobData("record", Line(text="now"), run_after=later))
        assert stage.runner.run_job_now(job.uid) is not None
        stage.settle()
        assert effects(stage) == ["now"]
        with pytest.raises(ChangeRefused, match="has succeeded"):
            stage.runner.run_job_now(job.id)
        assert stage.runner.run_job_now(job.id + 1_000_000) is None

    def test_a_job_that_waits_gets_another_priority(self, stage: Stage) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        job = stage.runner.dispatch_job(JobData("record", Line(text="now"), run_after=later))
        changed = stage.runner.set_job_priority(job.uid, 5)
        assert changed is not None
        assert changed.priority == 5
        with pytest.raises(InvalidJobData, match="priority is 5000"):
            stage.runner.set_job_priority(job.id, 5000)
        assert stage.runner.set_job_priority(job.id + 1_000_000, 5) is None
        stage.runner.run_job_now(job.id)
        stage.settle()

    def test_a_suspended_job_runs_once_it_is_resumed(self, stage: Stage) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        job = stage.runner.dispatch_job(JobData("record", Line(text="resumed"), run_after=later))
        held = stage.runner.suspend_job(job.uid, "wait")
        assert held is not None
        assert held.suspended_at is not None
        with pytest.raises(ChangeRefused, match="is suspended"):
            stage.runner.run_job_now(job.id)
        assert stage.runner.resume_job(job.id) is not None
        stage.runner.run_job_now(job.id)
        stage.settle()
        assert effects(stage) == ["resumed"]
        for change in (stage.runner.suspend_job, stage.runner.resume_job):
            assert change(job.id + 1_000_000) is None


class RefusalContract:
    """Bad input is refused at once, by name, with nothing written, under every runner."""

    @pytest.mark.parametrize(
        ("data", "error", "words"),
        [
            (JobData("unheard_of"), UnknownName, ["unheard_of", "record", "@job"]),
            (JobData("record", {"text": 5}), InvalidPayload, ["record", "text"]),
            (JobData("plain", {"a": [math.inf]}), InvalidPayload, ["plain", "inf", ".a[0]"]),
            (JobData("bare", {"a": 1}), InvalidPayload, ["bare", "takes no payload", "dict", "second parameter"]),
            (JobData("plain", locks_queue=True), InvalidJobData, ["plain", "queue_name"]),
            (JobData("plain", organization_id=-1), InvalidJobData, ["organization_id", "-1"]),
        ],
    )
    def test_a_job_that_cannot_be_is_refused(
        self, stage: Stage, data: JobData, error: type[Exception], words: Iterable[str]
    ) -> None:
        with session_of(stage) as session:
            for given in (None, session):
                with pytest.raises(error) as caught:
                    stage.runner.dispatch_job(data, session=given)
                assert all(word in str(caught.value) for word in words), str(caught.value)
            session.commit()
        assert_nothing(stage)

    @pytest.mark.parametrize(
        ("name", "payload", "error", "words"),
        [
            ("unheard_of", None, UnknownName, ["unheard_of", "note", "@task"]),
            ("bare_note", 5, InvalidPayload, ["bare_note", "takes no payload", "int"]),
            ("note", {"text": "x" * 100_001}, InvalidPayload, ["note", "100,000", "dispatch a job"]),
            ("note", {"text": "x", "ratio": math.nan}, InvalidPayload, ["note", "nan"]),
        ],
    )
    def test_a_task_that_cannot_be_is_refused(
        self, stage: Stage, name: str, payload: Any, error: type[Exception], words: Iterable[str]
    ) -> None:
        with pytest.raises(error) as caught:
            stage.runner.dispatch_task(name, payload)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert_nothing(stage)
