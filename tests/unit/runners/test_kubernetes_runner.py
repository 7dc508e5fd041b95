"""The kubernetes runner without a cluster: its settings, and its one try to create a SpokeJob."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from pydantic import SecretStr
from tests.task_key import KEY
from tests.unit.sync.making import job
from tests.waiting import patient

from spoke_jobs import ConfigurationError, Registry, TaskBufferFull
from spoke_jobs.cluster import kube_environment
from spoke_jobs.loader import load_runner
from spoke_jobs.model import JobOptions, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions

URL = SecretStr("postgresql+psycopg://nobody@127.0.0.1:9/nothing")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No kubeconfig, and not in a pod."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def settings(**changes: Any) -> Settings:
    return Settings(job_runner="kubernetes", **changes)


def with_tasks() -> Registry:
    registry = Registry()
    registry.task("note")(lambda _ctx, _payload: None)
    return registry


def unheard(**changes: Any) -> KubernetesRunner:
    """A runner whose tasks nobody takes."""
    tasks: dict[str, Any] = {"tasks_url": "http://127.0.0.1:9", "tasks_key": SecretStr(KEY), **changes}
    return KubernetesRunner(settings(submit="sync", database_url=URL, **tasks), with_tasks())


def without_room(**options: Any) -> KubernetesRunner:
    """A runner whose buffer of one task is full."""
    runner = unheard()
    runner._tasks = TaskDispatcher("http://127.0.0.1:9", KEY, options=DispatcherOptions(buffer_tasks=1, **options))
    runner.dispatch_task("note", 1)
    return runner


# Tasks


async def test_a_task_that_is_dispatched_in_a_span_is_sent_with_its_trace_context() -> None:
    runner = unheard()
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, False, trace.TraceFlags(1)))
    runner.dispatch_task("note", 1)
    with trace.use_span(span):
        runner.dispatch_task("note", 2)
        await runner.adispatch_task("note", 3)
    assert [(task.payload, task.traceparent) for task in runner._dispatcher()._buffer.kept()] == [
        ("1", ""),
        *((payload, f"00-{1:032x}-{2:016x}-01") for payload in ("2", "3")),
    ]
    runner.close(0)


async def test_many_that_wait_for_room_keep_no_thread_from_others() -> None:
    runner = without_room(full_wait_seconds=1.0)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    waiting = [asyncio.create_task(runner.adispatch_task("note", number)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    assert not any(task.done() for task in waiting)
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, TaskBufferFull)
        assert "no room came within 1 s. Task 'note'" in str(error)
    runner.close(0)


async def test_one_that_waits_for_room_is_dispatched_once_there_is_some() -> None:
    runner = without_room(full_wait_seconds=60)
    waiting = asyncio.create_task(runner.adispatch_task("note", 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    buffer = runner._dispatcher()._buffer
    buffer.remove(list(buffer._kept))
    await asyncio.wait_for(waiting, patient(30))
    assert [task.payload for task in buffer.kept()] == ["2"]
    runner.close(0)


def test_how_many_are_held_and_how_long_a_caller_waits_for_room_is_set() -> None:
    runner = unheard(tasks_buffer=2, tasks_full_wait_seconds=0.25)
    for number in range(2):
        runner.dispatch_task("note", number)
    began = time.monotonic()
    with pytest.raises(TaskBufferFull, match=r"2 tasks .* within 0\.25 s"):
        runner.dispatch_task("note", 2)
    assert time.monotonic() - began >= 0.25
    runner.close(0)


def test_closing_waits_for_what_is_undelivered_as_long_as_a_process_s_end_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = without_room(exit_seconds=0.3)
    began = time.monotonic()
    runner.close()
    assert 0.3 <= time.monotonic() - began < DispatcherOptions().exit_seconds
    assert "1 tasks could not be delivered" in caplog.text


# Settings


def test_every_missing_setting_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_runner(settings(), with_tasks())
    for name in ("SPOKE_DATABASE_URL", "SPOKE_NAMESPACE", "KUBECONFIG"):
        assert name in str(caught.value)
    assert "SPOKE_TASKS" not in str(caught.value)


def test_declaring_a_task_needs_none_of_the_settings_that_dispatching_it_needs() -> None:
    runner = load_runner(settings(submit="sync", database_url=URL), with_tasks())
    assert runner.fully_configured()
    missing = " ".join(runner.missing_task_settings())
    assert "SPOKE_TASKS_URL" in missing
    assert "SPOKE_TASKS_KEY" in missing


def test_an_application_without_credentials_needs_only_the_database() -> None:
    runner = load_runner(settings(submit="sync", database_url=URL), Registry())
    assert runner.fully_configured()


def test_credentials_and_namespace_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere")
    assert KubernetesRunner(settings(database_url=URL, namespace="texting"), Registry()).missing_settings() == []


def test_a_pod_knows_its_namespace_and_has_a_token(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("texting\n")
    in_pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert kube_environment.namespace("", tmp_path) == "texting"
    assert kube_environment.namespace("other", tmp_path) == "other"
    assert not kube_environment.has_credentials(in_pod, tmp_path)
    (tmp_path / "token").write_text("t")
    assert kube_environment.has_credentials(in_pod, tmp_path)
    assert kube_environment.in_cluster(in_pod)
    assert not kube_environment.in_cluster(in_pod | {"KUBECONFIG": "/somewhere"})


def test_sqlite_is_refused_together_with_what_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_runner(settings(database_url=SecretStr("sqlite:///jobs.sqlite3")), Registry())
    assert "SQLite" in str(caught.value)
    assert "SPOKE_NAMESPACE" in str(caught.value)


def test_a_task_without_its_settings_is_refused_at_dispatch() -> None:
    """The registry may be filled after the runner was made."""
    registry = Registry()
    runner = KubernetesRunner(settings(submit="sync", database_url=URL), registry)
    registry.task("note")(lambda _ctx, _payload: None)
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_URL"):
        runner.dispatch_task("note")


def test_making_a_runner_imports_no_kubernetes_client_and_makes_no_thread() -> None:
    program = """
import sys, threading
from pydantic import SecretStr
from spoke_jobs import Registry
from spoke_jobs.loader import load_runner
from spoke_jobs.model import JobState
from spoke_jobs.settings import Settings
from spoke_jobs.cli.command_line import build_program
import spoke_jobs.execution.pod, spoke_jobs.tasks.client.dispatcher
build_program([])
load_runner(Settings(job_runner="kubernetes", database_url=SecretStr("postgresql+psycopg://n@127.0.0.1:9/n"),
                     namespace="texting"), Registry())
heavy = {"kubernetes", "kopf", "httpx", "anyio", "starlette", "uvicorn", "aiohttp", "urllib3"} & sys.modules.keys()
assert not heavy, heavy
assert threading.active_count() == 1
"""
    environment = {"KUBECONFIG": "/somewhere", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_what_is_new_and_due_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest was launched by another dispatch, belongs to another runner, or is sync's to launch in time."""
    runner = KubernetesRunner(settings(database_url=URL, namespace="texting"), Registry())
    tried: list[int] = []
    monkeypatch.setattr(runner._submitter, "submit", lambda jobs: tried.extend(job.id for job in jobs))
    given = {"runner": "kubernetes"}
    others: list[dict[str, Any]] = [
        given | {"run_after": job().created_at},
        given | {"submitted_at": job().created_at},
        given | {"attempt": 1},
        given | {"state": JobState.RUNNING},
        {"runner": "legacy"},
    ]
    retried = given | {"run": 2, "run_after": job().created_at}
    runner._launch_many([job(id=1, **given), *(job(id=2, **other) for other in others), job(id=3, **retried)])
    assert tried == [1, 3]


def test_a_job_of_the_lane_worker_notifies_the_workers_and_creates_no_spokejob(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = KubernetesRunner(settings(database_url=URL, namespace="texting"), Registry())
    notified: list[str] = []
    monkeypatch.setattr(runner, "_notify", lambda: notified.append("notified"))
    monkeypatch.setattr(runner, "_create", lambda _job: pytest.fail("there is no SpokeJob of it"))
    runner._launch_many([job(runner="kubernetes-worker")])
    assert notified == ["notified"]
    runner.close(0)
    notified.clear()
    runner._launch([job(state=JobState.RUNNING)])
    assert notified == [], "no other job concerns the workers"


@pytest.mark.parametrize(
    "changes",
    [{"options": JobOptions(resources="auto")}, {"options": JobOptions(lane="worker"), "run": 3}],
    ids=["earlier jobs of its type", "its attempt in a worker, before it moved and was retried"],
)
def test_a_job_whose_size_depends_on_what_was_measured_is_left_to_sync(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    runner = KubernetesRunner(settings(database_url=URL, namespace="texting"), Registry())
    notified: list[str] = []
    monkeypatch.setattr(runner, "_notify", lambda: notified.append("notified"))
    monkeypatch.setattr(runner, "_create", lambda _job: pytest.fail("sync knows what was used"))
    runner._launch_many([job(**changes)])
    assert notified == ["notified"]
    runner.close(0)
