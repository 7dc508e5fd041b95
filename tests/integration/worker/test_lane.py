"""Workers of the lane `worker`, on PostgreSQL, with the application's role: the runner is `kubernetes`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr
from tests.integration.worker import lane_app
from tests.preloaded import completed
from tests.waiting import patient

import spoke_jobs.registry
from spoke_jobs import JobData
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.model import JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

Work = Callable[..., str]


@pytest.fixture
def url(role_urls: dict[Process, str]) -> str:
    return role_urls[Process.APPLICATION]


@pytest.fixture
def runner(url: str) -> Iterator[KubernetesRunner]:
    """The runner of an application that leaves creating SpokeJobs to sync."""
    given = Settings(job_runner="kubernetes", submit="sync", database_url=SecretStr(url))
    made = KubernetesRunner(given, spoke_jobs.registry.default)
    yield made
    made.close(0)


@pytest.fixture
def work(url: str) -> Work:
    """Runs a worker until nothing is due, and returns what it logged."""

    def run(*options: str) -> str:
        done = completed(
            "worker",
            ["-m", "spoke_jobs", "worker", "--drain", "--processes", "1", *options],
            env=os.environ
            | {
                "JOB_RUNNER": "kubernetes",
                "SPOKE_SUBMIT": "sync",
                "SPOKE_DATABASE_URL": url,
                "SPOKE_APP": lane_app.__name__,
            },
            timeout=patient(120),
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_a_worker_of_the_lane_runs_its_jobs_and_leaves_the_rest(runner: KubernetesRunner, work: Work) -> None:
    small, large = runner.dispatch_jobs([JobData("small"), JobData("small", lane="pod")])
    work()
    work("--lane", "worker")
    done, waits = runner.get_job(small.id), runner.get_job(large.id)
    assert done is not None
    assert waits is not None
    assert (done.state, done.result) == (JobState.SUCCEEDED, "small")
    assert (waits.state, waits.runner) == (JobState.WAITING, "kubernetes")
    names = {job.job_type for job in runner.ledger.list_jobs()}
    assert names == {"small"}, "sync dispatches the jobs of schedules, not a worker of the lane"


def test_what_a_worker_kills_for_its_memory_or_another_kills_waits_for_a_pod_and_the_others_run_on(
    runner: KubernetesRunner, work: Work
) -> None:
    """So does what runs for longer than it may in a worker, which is not charged."""
    hungry, fatal, long, small = runner.dispatch_jobs([JobData(name) for name in ("hungry", "fatal", "long", "small")])
    work("--lane", "worker", "--job-memory", "300Mi")
    done = runner.get_job(small.id)
    assert done is not None
    for job, cause in ((hungry, "OutOfMemory"), (fatal, "Killed"), (long, "TooLongForWorker")):
        moved = runner.get_job(job.id)
        assert moved is not None
        assert (moved.state, moved.runner, moved.run) == (JobState.WAITING, "kubernetes", 2)
        (attempt,) = runner.ledger.attempts(job.id)
        assert attempt.cause == cause
    (attempt,) = runner.ledger.attempts(hungry.id)
    assert attempt.peak_memory_bytes is not None
    assert attempt.peak_memory_bytes > 300 * 2**20, "the pod gets more than this"
    assert done.state is JobState.SUCCEEDED
