"""Dependencies, batches and checkpoints, by pods: each job's process is another one, on a node of its own choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tests.waiting import eventually

from spoke_jobs import JobData, batch, use_runner
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import Product

AT_ONCE = 10
"""So many batches are under way at a time: two jobs of each have a pod."""


def test_a_diamond_runs_in_order(product: Product, runner: KubernetesRunner) -> None:
    first = runner.dispatch_job(JobData("e2e_echo", "first"))
    middle = [runner.dispatch_job(JobData("e2e_echo", name, after=[first])) for name in ("left", "right")]
    last = runner.dispatch_job(JobData("e2e_echo", "last", after=middle))
    ended = product.ended(last)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    rows = [product.row(job) for job in (first, *middle)]
    assert {row.state for row in rows} == {JobState.SUCCEEDED}
    assert all(began(row) >= ended_at(rows[0]) for row in rows[1:])
    assert all(began(ended) >= ended_at(row) for row in rows[1:])


def test_a_job_behind_one_that_fails_fails_without_a_pod(product: Product, runner: KubernetesRunner) -> None:
    failing = runner.dispatch_job(JobData("e2e_exits", 3))
    behind = runner.dispatch_job(JobData("e2e_echo", 1, after=[failing]))
    ended = product.ended(behind)
    assert (ended.state, ended.cause, ended.attempt) == (JobState.FAILED, "DependencyFailed", 0)
    assert product.pods(behind) == []


@pytest.mark.parametrize(
    "batches", [2, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(7200)])], ids=["2", "200"]
)
def test_of_batches_whose_last_jobs_end_at_the_same_moment_each_is_followed_once(
    product: Product, runner: KubernetesRunner, batches: int
) -> None:
    def dispatch(name: str) -> str:
        with use_runner(runner), Session(product.engine) as session:
            with batch(name, then=JobData("e2e_echo", f"after {name}"), session=session) as made:
                for _ in range(2):
                    made.dispatch_job(JobData("e2e_meets", e2e_jobs.Meets(place=name, jobs=2)))
            session.commit()
        return f'"after {name}"'

    names = [f"batch {number} of {batches}" for number in range(batches)]
    for begin in range(0, batches, AT_ONCE):
        followers = [dispatch(name) for name in names[begin : begin + AT_ONCE]]

        def found(followers: list[str] = followers) -> list[JobRequest]:
            return [job for job in product.ledger.list_jobs(1000) if job.payload in followers]

        eventually(lambda: all(job.state.final for job in found()), "all batches are followed", state=found)
        assert sorted((job.payload, job.state, job.attempt) for job in found()) == sorted(
            (payload, JobState.SUCCEEDED, 1) for payload in followers
        )
    everything = Counter(job.payload for job in product.ledger.list_jobs(10_000))
    assert [everything[f'"after {name}"'] for name in names] == [1] * batches, "also later"


def test_a_job_whose_pod_is_killed_goes_on_at_its_checkpoint(product: Product, runner: KubernetesRunner) -> None:
    stops = [10]
    job = runner.dispatch_job(JobData("e2e_resumes", e2e_jobs.Resumes(rows=30, stops=stops)))
    rows = select(func.count()).where(e2e_jobs.effect.c.job_id == job.id)

    def written() -> int:
        with product.engine.connect() as connection:
            return connection.scalar(rows) or 0

    def has_stopped(stop: int) -> Callable[[], bool]:
        return lambda: written() == stop

    killed: set[str] = set()

    def running_pod() -> str | None:
        """The kubelet may say that it runs only after it has written its rows."""
        names = [pod["metadata"]["name"] for pod in product.pods(job) if pod["status"].get("phase") == "Running"]
        return next((name for name in names if name not in killed), None)

    for stop in stops:
        eventually(has_stopped(stop), f"{stop} rows", state=written)
        name = eventually(running_pod, "its pod runs", state=lambda: product.pods(job))
        killed.add(name)
        product.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    ended = product.ended(job)
    assert (ended.state, ended.result) == (JobState.SUCCEEDED, stops[-1]), "the last attempt began at the checkpoint"
    with product.engine.connect() as connection:
        found = connection.scalars(select(e2e_jobs.effect.c.pod).where(e2e_jobs.effect.c.job_id == job.id))
        assert sorted(map(int, found)) == list(range(30))


def began(row: JobRequest) -> float:
    assert row.started_at is not None
    return row.started_at.timestamp()


def ended_at(row: JobRequest) -> float:
    assert row.finished_at is not None
    return row.finished_at.timestamp()
