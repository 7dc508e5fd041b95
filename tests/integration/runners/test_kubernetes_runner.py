"""The kubernetes runner on the real cluster and database. Without a sync beside it, unless a test starts one.

The promises that all runners share are the contract suite's; here is what is this runner's own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import JoinTransactionMode
from tests.integration.sync.fixtures import cluster, kubeconfig, stage
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Stage
from tests.waiting import eventually, patient, stays

from spoke_jobs import JobData
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.model import JobRequest
from spoke_jobs.runners.legacy_runner import LegacyRunner

__all__ = ["cluster", "kubeconfig", "stage"]
WORK = JobData("work", {"secret": "marker-in-the-payload"})


def nothing_is_launched(stage: Stage) -> bool:
    return stage.ledger.list_jobs() == [] and stage.cluster.all() == []


def one_is_launched(stage: Stage, job: JobRequest) -> bool:
    return is_recorded(stage, job) and len(stage.cluster.all()) == 1


def is_recorded(stage: Stage, job: JobRequest) -> bool:
    return stage.row(job).submitted_at is not None


def test_a_dispatch_creates_the_spokejob_and_records_it(stage: Stage) -> None:
    job = stage.runner().dispatch_job(WORK)
    eventually(lambda: one_is_launched(stage, job), "it is launched")
    (body,) = stage.cluster.all()
    assert body["spec"]["uid"] == str(job.uid)
    assert body["spec"]["jobType"] == "work"
    assert "marker-in-the-payload" not in str(body)


def test_a_commit_waits_for_no_answer(stage: Stage, monkeypatch: Any) -> None:
    runner = stage.runner()
    answers, create = threading.Event(), runner._create
    monkeypatch.setattr(runner, "_create", lambda job: answers.wait(patient(30)) and create(job))
    with Session(stage.ledger.engine) as session:
        job = runner.dispatch_job(WORK, session=session)
        session.commit()
    assert stage.cluster.all() == []
    answers.set()
    eventually(lambda: one_is_launched(stage, job), "it is launched")


def test_what_ends_while_it_waits_for_its_try_is_not_launched(stage: Stage, monkeypatch: Any) -> None:
    runner = stage.runner()
    answers, create = threading.Event(), runner._create
    monkeypatch.setattr(runner, "_create", lambda job: answers.wait(patient(30)) and create(job))
    monkeypatch.setattr(runner._submitter, "_patience", 60)
    jobs = [runner.dispatch_job(WORK) for _ in range(5)]
    stage.ledger.cancel(jobs[-1].id)
    answers.set()
    runner._submitter.close(patient(30))
    launched = {body["spec"]["requestId"] for body in stage.cluster.all()}
    assert launched == {job.id for job in jobs[:4]}


async def test_closing_waits_for_what_was_dispatched(stage: Stage) -> None:
    runner = stage.runner()
    runner.dispatch_job(WORK)
    runner.close()
    job = await runner.adispatch_job(WORK)
    runner.close()
    assert len(stage.cluster.all()) == 2
    assert is_recorded(stage, job)


def test_a_ledger_that_can_not_be_asked_leaves_it_to_sync_and_is_no_fault_of_the_api_server_s(
    stage: Stage, monkeypatch: Any
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    runner = stage.runner()
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "may_launch", away)
        runner.dispatch_job(WORK)
        runner._submitter.close(patient(30))
    assert stage.cluster.all() == []
    assert not runner._submitter.is_paused()
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "record_submitted", away)
        job = runner.dispatch_job(WORK)
        runner._submitter.close(patient(30))
    assert len(stage.cluster.all()) == 1
    assert not is_recorded(stage, job)
    assert not runner._submitter.is_paused()


def test_a_unique_key_that_is_taken_launches_nothing_of_another_s(stage: Stage) -> None:
    keyed = JobData("work", unique_key="nightly")
    legacy = LegacyRunner(stage.settings(), stage.registry)
    elsewhere = legacy.dispatch_job(keyed)
    legacy.close()
    runner = stage.runner()
    assert runner.dispatch_job(keyed).id == elsewhere.id
    runner.close()
    assert stage.cluster.all() == [], "a worker's: it has no business in the cluster"


def test_a_unique_key_whose_spokejob_is_gone_makes_none_anew(stage: Stage) -> None:
    """What was recorded as submitted sync ends, as it says; it may have run."""
    keyed = JobData("work", unique_key="nightly")
    runner = stage.runner()
    job = runner.dispatch_job(keyed)
    eventually(lambda: one_is_launched(stage, job), "it is launched")
    stage.cluster.delete(job)
    assert runner.dispatch_job(keyed).id == job.id
    runner.close()
    assert stage.cluster.all() == []


def test_left_to_sync_it_creates_nothing(stage: Stage) -> None:
    runner = stage.runner(submit="sync")
    assert runner.dispatch_job(WORK).submitted_at is None
    runner.close()
    assert stage.cluster.all() == []


def test_what_is_rolled_back_makes_nothing(stage: Stage) -> None:
    runner = stage.runner()
    with Session(stage.ledger.engine) as session:
        runner.dispatch_job(WORK, session=session)
        session.rollback()
    with Session(stage.ledger.engine) as session:
        savepoint = session.connection().begin_nested()  # the session knows nothing of it
        runner.dispatch_job(WORK, session=session)
        savepoint.rollback()
        session.commit()
    with Session(stage.ledger.engine) as session:
        runner.dispatch_job(WORK, session=session)
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        session.commit()  # PostgreSQL makes a rollback of it, after the error that the application has swallowed
    modes: tuple[JoinTransactionMode, ...] = ("create_savepoint", "rollback_only", "control_fully")
    for mode in modes:
        with stage.ledger.engine.connect() as connection:
            outer = connection.begin()
            with Session(connection, join_transaction_mode=mode) as session:
                runner.dispatch_job(WORK, session=session)
                session.rollback() if mode == "control_fully" else session.commit()
            if outer.is_active:
                outer.rollback()
    runner.close()
    assert nothing_is_launched(stage)


def test_a_savepoint_rolled_back_makes_nothing_and_the_rest_is_launched(stage: Stage) -> None:
    runner = stage.runner()
    with Session(stage.ledger.engine) as session:
        kept = runner.dispatch_job(WORK, session=session)
        savepoint = session.begin_nested()
        runner.dispatch_job(WORK, session=session)
        savepoint.rollback()
        assert stage.cluster.all() == [], "nothing before the commit"
        session.commit()
    eventually(lambda: one_is_launched(stage, kept), "the kept one is launched")
    runner.close()
    assert len(stage.cluster.all()) == 1


def test_joined_to_a_transaction_that_commits_it_is_launched_then(stage: Stage) -> None:
    runner = stage.runner()
    with stage.ledger.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            job = runner.dispatch_job(WORK, session=session)
            session.commit()
        assert stays(lambda: stage.cluster.all() == [], 0.5)
        outer.commit()
    eventually(lambda: one_is_launched(stage, job), "it is launched")


def dispatched_and_killed(stage: Stage, where: str) -> JobRequest:
    """A job whose application is killed by SIGKILL as soon as it comes to that function after its commit."""
    program = f"""
import faulthandler, os, sys, time
from spoke_jobs import JobData, Registry
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import load_settings
registry = Registry()
registry.job("work")(lambda _ctx, _payload: None)
runner = KubernetesRunner(load_settings(), registry)
{where} = lambda *_: os.kill(os.getpid(), 9)
runner.dispatch_job(JobData("work"))
time.sleep(60)  # the try goes on beside its caller
"""
    environment = os.environ | {"SPOKE_DATABASE_URL": stage.url, "SPOKE_NAMESPACE": stage.cluster.namespace}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -9
    (job,) = stage.ledger.list_jobs()
    return job


@pytest.mark.alone
def test_killed_after_its_commit_the_job_is_launched_within_5_seconds(stage: Stage) -> None:
    with stage.sync() as sync:
        sync.until("active")
        job = dispatched_and_killed(stage, "runner._create")
        eventually(lambda: one_is_launched(stage, job), "sync launches it", within=5, promised=True)


@pytest.mark.alone
def test_killed_while_sync_is_away_the_job_is_launched_within_35_seconds_of_its_return(stage: Stage) -> None:
    job = dispatched_and_killed(stage, "syncing.record_submitted")
    assert job.submitted_at is None
    assert len(stage.cluster.all()) == 1
    began = time.monotonic()
    with stage.sync():
        eventually(
            lambda: one_is_launched(stage, job), "sync launches it", within=began + 35 - time.monotonic(), promised=True
        )


def test_with_sync_beside_it_every_job_has_one_spokejob(stage: Stage) -> None:
    """Runner and sync race for each row, from many threads: the names settle it."""
    runner = stage.runner()
    with stage.sync(SPOKE_SUBMIT="sync"):
        threads = [threading.Thread(target=lambda: [runner.dispatch_job(WORK) for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        jobs = stage.ledger.list_jobs()
        eventually(lambda: all(stage.row(job).submitted_at for job in jobs), "all are recorded")
    uids = [body["spec"]["uid"] for body in stage.cluster.all()]
    assert len(jobs) == 40
    assert sorted(uids) == sorted(str(job.uid) for job in jobs)


# The API server away


@pytest.fixture(params=["hangs", "is a name that can't be resolved"])
def nowhere(request: pytest.FixtureRequest, stage: Stage, tmp_path: Path) -> Iterator[str]:
    """A kubeconfig that leads to no API server."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)  # accepts in the kernel, and never answers
    port = server.getsockname()[1]
    path = kubeconfig_by(port, stage.cluster.kubeconfig, tmp_path / "kubeconfig")
    if request.param.startswith("is a name"):
        content = Path(path).read_text().replace("https://127.0.0.1", "https://api.spoke-jobs.invalid")
        Path(path).write_text(content)
    yield path
    server.close()


@pytest.mark.alone
def test_without_an_api_server_no_caller_waits_and_sync_launches(
    stage: Stage, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = stage.runner(submit="sync")
    beside.dispatch_job(WORK)  # the ledger is opened, as it would be in a process that has been up for a while
    runner = stage.runner()
    runner._submitter._breaker._pause = 600
    assert runner.ledger
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", nowhere)
        plain = min(timed(lambda: beside.dispatch_job(WORK)) for _ in range(5))
        took = [timed(lambda: runner.dispatch_job(WORK)) for _ in range(6)]
        eventually(runner._submitter.is_paused, "the circuit breaker opens")
        took += [timed(lambda: runner.dispatch_job(WORK)) for _ in range(6)]
    assert max(took) < 0.5, "nobody waits for the API server"
    assert min(took) - plain < 0.05
    with stage.sync():
        jobs = stage.ledger.list_jobs()
        eventually(lambda: all(stage.row(job).submitted_at for job in jobs), "sync launches all")
    with stage.sync(SPOKE_POLL_SECONDS="60") as sync:
        sync.until("active")
        rung = runner.dispatch_job(WORK)
        stage.until(rung, lambda row: row.submitted_at, 20, promised=True)  # sooner than a comparison, every 30 s
    assert len(stage.cluster.all()) == len(jobs) + 1


def test_once_the_api_server_is_back_the_runner_creates_again(stage: Stage, tmp_path: Path, monkeypatch: Any) -> None:
    proxy = Proxy(api_server_of(stage.cluster.kubeconfig))
    path = kubeconfig_by(proxy.port, stage.cluster.kubeconfig, tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", path)
    runner = stage.runner()
    runner._submitter._breaker._pause = 0.5
    launched = runner.dispatch_job(WORK)
    eventually(lambda: one_is_launched(stage, launched), "it is launched")
    proxy.cut()
    left = runner.dispatch_job(WORK)
    eventually(runner._submitter.is_paused, "the circuit breaker opens")
    proxy.mend()
    jobs: list[JobRequest] = []

    def a_dispatch_is_launched() -> bool:
        jobs.append(runner.dispatch_job(WORK))
        return any(is_recorded(stage, job) for job in jobs)

    eventually(a_dispatch_is_launched, "the runner launches one itself")
    assert not is_recorded(stage, left), "that is for sync to do"
    proxy.close()


def test_after_a_fork_parent_and_child_both_create(stage: Stage) -> None:
    """As a web server's workers do that were forked after the application had dispatched.

    A job that the busy API server does not answer in time is left to sync, which this test has not: then the process
    dispatches another one.
    """
    program = """
import faulthandler, os, sys, time
from spoke_jobs import JobData, Registry
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import load_settings
syncing.PATIENCE_SECONDS = 60.0  # on a busy machine
registry = Registry()
registry.job("work")(lambda _ctx, _payload: None)
runner = KubernetesRunner(load_settings(), registry)

def launches():
    for _ in range(20):
        job = runner.dispatch_job(JobData("work"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if runner.ledger.get(job.id).submitted_at:
                return True
            time.sleep(0.05)
    return False

if sys.argv[1:]:
    runner.dispatch_job(JobData("work"))
    if "let it end" in sys.argv:
        runner._submitter.close(30)
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(150, exit=False)  # where a thread hangs that launches nothing
        os._exit(0 if launches() else 1)
    children.append(pid)
assert launches()
assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in children)
runner.close()
"""
    environment = os.environ | {"SPOKE_DATABASE_URL": stage.url, "SPOKE_NAMESPACE": stage.cluster.namespace}
    for arguments in [], ["let it end"], ["fork at once, in the midst of the client's import"]:
        before = len(stage.cluster.all())
        command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(stage.cluster.all()) >= before + 4


def timed(call: Any) -> float:
    """The seconds that a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began
