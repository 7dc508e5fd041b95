"""What a test sees of what was dispatched: in its own transaction, which is never committed."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker
from tests.unit.testing.application import Words, line, lines, ran, registry

from spoke_jobs import ConfigurationError, JobData, JobState, dispatch_job, dispatch_task
from spoke_jobs.testing.dispatched import JobsFailed, SpokeJobs


def dispatch_both(session: Session) -> None:
    dispatch_job(JobData("write", Words(text="job"), queue_name="q"), session=session)
    dispatch_task("note", Words(text="task"), session=session)


# In the test's own transaction


def test_what_the_application_committed_is_seen_and_run_there(
    spoke_jobs: SpokeJobs, session: Session, connection: Connection
) -> None:
    session.execute(line.insert().values(text="the application's"))
    dispatch_both(session)
    assert spoke_jobs.jobs() == spoke_jobs.tasks() == []
    session.commit()
    job = spoke_jobs.job("write")
    assert (job.payload, job.state, job.row.queue_name) == (Words(text="job"), JobState.WAITING, "q")
    assert spoke_jobs.task("note").payload == Words(text="task")
    assert (ran, lines(connection)) == ([], ["the application's"])

    assert [(job.type, job.state, job.result) for job in spoke_jobs.drain()] == [
        ("write", JobState.SUCCEEDED, {"wrote": "job"})
    ]
    assert (ran, lines(connection)) == (["task"], ["the application's", "job"])


def test_a_rolled_back_session_makes_nothing(spoke_jobs: SpokeJobs, session: Session) -> None:
    dispatch_both(session)
    session.rollback()
    session.execute(line.insert().values(text="another transaction"))
    session.commit()
    assert (spoke_jobs.drain(), spoke_jobs.tasks(), ran) == ([], [], [])


def test_a_session_closed_without_a_commit_makes_nothing(spoke_jobs: SpokeJobs, session: Session) -> None:
    dispatch_both(session)
    session.close()
    assert (spoke_jobs.drain(), spoke_jobs.tasks(), ran) == ([], [], [])


def test_a_rolled_back_savepoint_makes_nothing(spoke_jobs: SpokeJobs, session: Session) -> None:
    savepoint = session.begin_nested()
    dispatch_both(session)
    savepoint.rollback()
    with session.begin_nested():
        dispatch_task("note", Words(text="kept"), session=session)
    session.commit()
    assert spoke_jobs.jobs() == []
    assert [task.payload.text for task in spoke_jobs.tasks()] == ["kept"]


def test_an_outer_transaction_of_the_application_s_own_takes_back_what_has_not_begun(
    spoke_jobs: SpokeJobs, engine: Engine
) -> None:
    with engine.connect() as connected:
        outer = connected.begin()
        with Session(connected, join_transaction_mode="create_savepoint") as session:
            dispatch_both(session)
            session.commit()
        assert (len(spoke_jobs.jobs()), len(spoke_jobs.tasks())) == (1, 1)
        outer.rollback()
    assert (spoke_jobs.drain(), spoke_jobs.tasks(), ran) == ([], [], [])


def test_a_uniqueness_key_counts_there_too(spoke_jobs: SpokeJobs, session: Session) -> None:
    data = JobData("write", Words(text="once"), unique_key="import 1")
    first = dispatch_job(data, session=session)
    session.commit()
    assert dispatch_job(data, session=session).id == first.id
    session.rollback()
    assert len(spoke_jobs.drain()) == 1
    assert dispatch_job(data, session=session).id != first.id, "the first has ended"


def test_what_has_run_stays_to_be_seen(spoke_jobs: SpokeJobs, engine: Engine) -> None:
    with engine.connect() as connected:
        with Session(connected, join_transaction_mode="create_savepoint") as session, connected.begin():
            dispatch_task("note", Words(text="committed"), session=session)
            session.commit()
        outer = connected.begin()
        with Session(connected, join_transaction_mode="create_savepoint") as session:
            dispatch_job(JobData("fail"), session=session)
            dispatch_task("note", Words(text="ran"), session=session)
            session.commit()
        spoke_jobs.drain(may_fail=True)
        outer.rollback()
    assert [task.payload.text for task in spoke_jobs.tasks()] == ["committed", "ran"]
    assert spoke_jobs.job("fail").state is JobState.FAILED


def test_a_failed_job_loses_what_it_wrote_and_nothing_else(
    spoke_jobs: SpokeJobs, session: Session, connection: Connection
) -> None:
    session.execute(line.insert().values(text="the application's"))
    dispatch_job(JobData("fail"), session=session)
    session.commit()
    spoke_jobs.drain(may_fail=True)
    session.execute(line.insert().values(text="and later"))
    session.commit()
    assert lines(connection) == ["the application's", "and later"]


def test_what_a_job_dispatches_is_run_too(spoke_jobs: SpokeJobs, connection: Connection) -> None:
    dispatch_job(JobData("chain"))
    assert [job.type for job in spoke_jobs.drain()] == ["chain", "write"]
    assert (lines(connection), ran) == (["dispatched by a job"], ["dispatched by a job"])


# What fails


def test_a_job_that_fails_for_good_fails_the_test_with_its_traceback(
    spoke_jobs: SpokeJobs, connection: Connection
) -> None:
    dispatch_job(JobData("fail"))
    with pytest.raises(JobsFailed, match="'fail' failed at attempt 3") as caught:
        spoke_jobs.drain()
    assert "ValueError: attempt 3" in str(caught.value)
    assert "application.py" in str(caught.value)
    assert spoke_jobs.job("fail").cause == "JobError"
    assert len(spoke_jobs.drain()) == 1, "it is told once"


def test_what_a_task_raises_is_raised(spoke_jobs: SpokeJobs) -> None:
    dispatch_task("trip")
    with pytest.raises(LookupError, match="as it was told to"):
        spoke_jobs.drain()


def test_one_that_is_not_there_is_named_with_what_is(spoke_jobs: SpokeJobs) -> None:
    with pytest.raises(AssertionError, match=r"no job 'write' was dispatched; there is: nothing"):
        spoke_jobs.job("write")
    dispatch_task("note", Words(text="a"))
    dispatch_task("note", Words(text="b"))
    with pytest.raises(AssertionError, match=r"2 task 'note' was dispatched; there is: task 'note', task 'note'"):
        spoke_jobs.task("note")
    assert repr(spoke_jobs) == "<dispatched: task 'note', task 'note'>"


# Sessions for jobs


class TestWithoutSessions:
    @pytest.fixture
    def spoke_jobs_sessions(self) -> None:
        return None

    def test_the_fixture_to_override_is_named(self, spoke_jobs: SpokeJobs) -> None:
        dispatch_job(JobData("write", Words(text="x")))
        with pytest.raises(JobsFailed, match="override the fixture spoke_jobs_sessions"):
            spoke_jobs.drain()


def test_the_test_s_own_session_is_refused(engine: Engine) -> None:
    """A job closes its session, and has its commits checked."""
    with Session(engine) as own:
        test = SpokeJobs(registry, lambda: own)
        for _ in range(2):
            test.runner.dispatch_job(JobData("write", Words(text="x")))
        with pytest.raises(JobsFailed, match="in use"):
            test.drain()


def test_what_makes_no_session_is_refused(engine: Engine) -> None:
    test = SpokeJobs(registry, lambda: engine)
    test.runner.dispatch_job(JobData("write", Words(text="x")))
    with pytest.raises(JobsFailed, match="made an Engine, where a Session is expected"):
        test.drain()


def test_sessions_that_commit_for_real_will_do(engine: Engine) -> None:
    test = SpokeJobs(registry, sessionmaker(engine))
    test.runner.dispatch_job(JobData("write", Words(text="x")))
    test.drain()
    with engine.connect() as connected:
        assert lines(connected) == ["x"]


def test_a_name_that_no_registry_knows_any_more_can_still_be_asked_for() -> None:
    with pytest.raises(AssertionError, match="no job 'unheard_of'"):
        SpokeJobs(registry).job("unheard_of")


def test_no_sessions_is_a_fault_of_configuration() -> None:
    from spoke_jobs.testing.sessions import plain_sessions

    with pytest.raises(ConfigurationError):
        plain_sessions(None)()
