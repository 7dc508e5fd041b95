"""In which order the SpokeJobs of one locked queue are created where several threads, processes and sync meet.

The ledger is real, and there is no cluster. Each interleaving is forced: a creation or a look at the row waits for the
test.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from tests.contract.ledger import new_job
from tests.unit.sync.engine_writer import EngineWriter
from tests.unit.sync.fake_cluster import FakeCluster
from tests.waiting import eventually

from spoke_jobs import Registry
from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.writer import Writer


class Api(FakeCluster):
    """What processes create, in order. A creation may be refused, or wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[int] = []
        self.refused: set[int] = set()
        self.held: dict[int, threading.Event] = {}
        self.begun: set[int] = set()

    def create(self, body: Body) -> Body:
        number = body["spec"]["requestId"]
        self.begun.add(number)
        if number in self.held:
            assert self.held[number].wait(60)
        if number in self.refused:
            raise api_error(409, "AlreadyExists", "the name is taken")
        self.created.append(number)
        return super().create(body)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def processes(postgres_ledger_url: str, api: Api) -> Iterator[list[KubernetesRunner]]:
    """Two applications' processes with one ledger."""
    registry = Registry()
    registry.job("report")(lambda _ctx, _payload: None)
    with ExitStack() as stack:
        made = []
        for _ in range(2):
            settings = Settings(job_runner="kubernetes", database_url=SecretStr(postgres_ledger_url), namespace="jobs")
            runner = KubernetesRunner(settings, registry)
            runner._clients[os.getpid()] = cast(SpokeJobClient, api)
            stack.callback(runner.close)
            made.append(runner)
        yield made


@pytest.fixture
def runner(processes: list[KubernetesRunner]) -> KubernetesRunner:
    return processes[0]


def dispatch(runner: KubernetesRunner, **more: Any) -> JobRequest:
    return runner.dispatch_job(JobData("report", {}, queue_name="q", locks_queue=True, **more))


def not_launched(runner: KubernetesRunner) -> JobRequest:
    """A job of the queue that nobody has tried to launch."""
    return runner.ledger.insert(new_job(runner="kubernetes", queue_name="q", locks_queue=True, payload="{}"))


def all_are_tried(*runners: KubernetesRunner) -> None:
    for runner in runners:
        runner._submitter.close(60)


def sync_launches(runner: KubernetesRunner, api: Api) -> None:
    writer = cast(Writer, EngineWriter(runner.ledger.engine))
    loop = LeaderLoop(writer, cast(SpokeJobClient, api), SyncHealth(lambda: 0.0), Intervals(patience=0.0), lambda: 0.0)
    loop._launch(timedelta(0))


def test_one_behind_a_job_that_was_left_to_sync_is_left_to_sync(runner: KubernetesRunner, api: Api) -> None:
    left = not_launched(runner)
    later = dispatch(runner)
    elsewhere = runner.dispatch_job(JobData("report", {}, queue_name="q"))
    all_are_tried(runner)
    assert api.created == [elsewhere.id]
    sync_launches(runner, api)
    assert api.created == [elsewhere.id, left.id, later.id]
    after = dispatch(runner)
    all_are_tried(runner)
    assert api.created[-1] == after.id, "nothing older is left"


def test_one_that_is_submitted_before_an_older_row_is_left_to_sync(
    runner: KubernetesRunner, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads have committed, and the one with the later row is the first to submit."""
    first, second = not_launched(runner), not_launched(runner)
    looks, look = [], syncing.may_launch

    def noted(*arguments: Any) -> bool:
        looks.append(look(*arguments))
        return looks[-1]

    with monkeypatch.context() as patch:
        patch.setattr(syncing, "may_launch", noted)
        runner._launch([second])
        eventually(lambda: looks, "the look at the second")
        runner._launch([first])
        all_are_tried(runner)
    assert (looks, api.created) == ([False, True], [first.id])
    sync_launches(runner, api)
    assert api.created == [first.id, second.id]


def test_one_behind_a_job_whose_creation_fails_is_left_to_sync(runner: KubernetesRunner, api: Api) -> None:
    api.held = {1: threading.Event()}
    api.refused = {1}
    first, second = dispatch(runner), dispatch(runner)
    assert first.id == 1
    api.held[1].set()
    all_are_tried(runner)
    assert api.created == []
    api.refused.clear()
    sync_launches(runner, api)
    assert api.created == [first.id, second.id]


def test_one_behind_a_job_that_another_process_is_creating_is_left_to_sync(
    processes: list[KubernetesRunner], api: Api
) -> None:
    here, elsewhere = processes
    api.held = {1: threading.Event()}
    first = dispatch(elsewhere)
    eventually(lambda: first.id in api.begun, "its creation has begun")
    second = dispatch(here)
    all_are_tried(here)
    assert api.created == []
    api.held[1].set()
    all_are_tried(elsewhere)
    sync_launches(here, api)
    assert api.created == [first.id, second.id]


def test_one_behind_a_job_that_is_not_recorded_as_launched_is_left_to_sync(
    runner: KubernetesRunner, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise OperationalError("UPDATE", {}, Exception("lock timeout"))

    with monkeypatch.context() as patch:
        patch.setattr(syncing, "record_submitted", fails)
        first, second = dispatch(runner), dispatch(runner)
        all_are_tried(runner)
    assert api.created == [first.id]
    api.refused = {first.id}  # its SpokeJob is there
    sync_launches(runner, api)
    assert api.created == [first.id, second.id]


def test_a_job_of_a_higher_priority_waits_for_none_of_a_lower_one(runner: KubernetesRunner, api: Api) -> None:
    not_launched(runner)
    urgent = dispatch(runner, priority=1)
    all_are_tried(runner)
    assert api.created == [urgent.id]
