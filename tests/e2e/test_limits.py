"""Limits and pauses of the ledger, changed while jobs wait: sync publishes them, and the operator obeys them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import pytest
from sqlalchemy import func, insert, select
from tests.waiting import eventually, stays

from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobData, JobFilter, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli, e2e_jobs
from .conftest import Object, Product

# They pause everything, and start a hundred pods.
pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(1800)]

SCOPE = "type:e2e_starts"
SEEN_SECONDS = 2.0
"""Within this time after the command, the operator starts as many jobs as a raised limit allows."""
LATE_SECONDS = 2.0
"""For a pod that has asked whether its job is paused, and then takes a while to call it on a busy machine."""


@pytest.fixture
def steer(product: Product) -> Iterator[None]:
    """Ends the pause and the limit that a test has set, and its jobs."""
    yield
    for scope in (SCOPE, "all"):
        product.ledger.limits.resume(parse_scope(scope))
        product.ledger.limits.reset(parse_scope(scope))
    for job in product.ledger.list_jobs(200, JobFilter(job_type="e2e_starts")):
        product.ledger.cancel(job.id)


def limits(product: Product, *arguments: object) -> None:
    cli.run(product, *arguments, JOB_RUNNER="kubernetes")


def dispatch(runner: KubernetesRunner, count: int, gate: str) -> list[JobRequest]:
    return list(runner.dispatch_jobs([JobData("e2e_starts", gate.format(number)) for number in range(count)]))


def open_gates(product: Product, *names: str) -> None:
    with product.engine.begin() as connection:
        connection.execute(insert(e2e_jobs.gate), [{"name": name} for name in names])


def spokejobs(product: Product) -> list[Object]:
    found = product.get("spokejobs")
    items: list[Object] = (found or {"items": []})["items"]
    return [item for item in items if item["spec"]["jobType"] == "e2e_starts"]


def admitted(product: Product) -> int:
    """How many of the jobs have an attempt that has not ended."""
    attempts = [item.get("status", {}).get("attempts") or [{"finishedAt": "none"}] for item in spokejobs(product)]
    return sum("finishedAt" not in of_job[-1] for of_job in attempts)


def of_scope(product: Product) -> list[Object]:
    """The SpokeLimits of the scope."""
    found = product.get("spokelimits")
    items: list[Object] = (found or {"items": []})["items"]
    return [item for item in items if item["spec"]["scope"] == SCOPE]


def published(product: Product) -> list[int]:
    """The limit as sync has published it for the operator."""
    return [item["spec"]["maxRunning"] for item in of_scope(product)]


def obeyed(product: Product) -> list[int]:
    """The limit as the operator has read it."""
    return [
        item["spec"]["maxRunning"]
        for item in of_scope(product)
        if item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
    ]


def called(product: Product) -> list[tuple[int, datetime]]:
    """The job's id for each call of its function, and when that was by the database's clock."""
    with product.engine.connect() as connection:
        found = connection.execute(select(e2e_jobs.start.c.job_id, e2e_jobs.start.c.at))
        return [(row.job_id, row.at) for row in found]


def processes(product: Product, operator: str) -> list[tuple[str, int]]:
    """The pods of operator and sync, and how often each was restarted."""
    listed = [
        product.get("pods", "--selector=app.kubernetes.io/component=sync"),
        product.cluster.get("--namespace", operator, "pods"),
    ]
    pods = [item for found in listed for item in (found or {"items": []})["items"]]
    return sorted(
        (pod["metadata"]["name"], sum(status["restartCount"] for status in pod["status"]["containerStatuses"]))
        for pod in pods
    )


@pytest.mark.usefixtures("steer")
def test_a_limit_of_two_is_raised_to_five_and_lowered_again_while_sixty_jobs_wait(
    product: Product, operator: str, runner: KubernetesRunner
) -> None:
    before = processes(product, operator)
    limits(product, "limits", "set", SCOPE, "--max-running", 2)
    # A job that is dispatched before sync has published the limit starts without it.
    eventually(lambda: obeyed(product) == [2], "the operator has read it", state=lambda: of_scope(product))
    jobs = dispatch(runner, 60, "limits {}")
    eventually(lambda: admitted(product) == 2, "two start", state=lambda: spokejobs(product))
    assert stays(lambda: admitted(product) == 2, 5)

    limits(product, "limits", "set", SCOPE, "--max-running", 5)
    changed = time.monotonic()
    asked = changed

    def five() -> bool:
        nonlocal asked
        asked = time.monotonic()
        return admitted(product) == 5

    eventually(five, "five start", state=lambda: spokejobs(product), every=0.1)
    print(f"\nseen {asked - changed:.1f} s after the command")
    assert asked - changed <= SEEN_SECONDS

    limits(product, "limits", "set", SCOPE, "--max-running", 2)
    changed = time.monotonic()
    eventually(lambda: published(product) == [2], "sync publishes it", state=lambda: of_scope(product), every=0.1)
    lowered = time.monotonic() - changed
    print(f"published {lowered:.1f} s after the command")
    assert lowered <= SEEN_SECONDS
    eventually(lambda: obeyed(product) == [2], "the operator has read it", state=lambda: of_scope(product))
    eventually(lambda: len({job_id for job_id, _ in called(product)} & {job.id for job in jobs}) == 5, "all five run")
    running = [job for job in jobs if product.row(job).state is JobState.RUNNING]
    assert len(running) == 5, "a limit that is lowered ends no job"
    numbers = [jobs.index(job) for job in running]
    open_gates(product, *(f"limits {number}" for number in numbers[:3]))
    for job in running[:3]:
        product.ended(job)
    # The pods record the ends in the ledger, and the operator sees later that the pods are gone.
    eventually(lambda: admitted(product) == 2, "two are left", state=lambda: spokejobs(product))
    assert stays(lambda: admitted(product) == 2, 5)
    assert processes(product, operator) == before, "nothing was restarted"

    limits(product, "limits", "reset", SCOPE)
    open_gates(product, *(f"limits {number}" for number in range(60) if number not in numbers[:3]))
    assert {product.ended(job, 600).state for job in jobs} == {JobState.SUCCEEDED}
    assert processes(product, operator) == before


@pytest.mark.usefixtures("steer")
def test_after_the_commit_of_a_pause_no_job_of_a_burst_is_called_and_all_end_after_the_resume(
    product: Product, runner: KubernetesRunner
) -> None:
    jobs = dispatch(runner, 60, "")
    ids = {job.id for job in jobs}

    def starts() -> list[datetime]:
        return [at for job_id, at in called(product) if job_id in ids]

    eventually(lambda: len(starts()) >= 10, "the burst is under way")
    limits(product, "pause", "all", "--reason", "the test")
    with product.engine.connect() as connection:
        after = connection.scalar(select(func.clock_timestamp()))
    assert after is not None
    eventually(lambda: admitted(product) == 0, "the pods have ended", state=lambda: spokejobs(product))
    begun = starts()
    late = [(at - after).total_seconds() for at in begun if at > after]
    causes = Counter(attempt.cause for job in jobs for attempt in product.ledger.attempts(job.id))
    print(f"\n{len(late)} of {len(begun)} jobs were called after the commit, by {max(late, default=0):.2f} s; {causes}")
    assert len(begun) < 60, "the pause came too late to hold anything"
    assert max(late, default=0) < LATE_SECONDS
    assert causes.keys() <= {"", "StartPaused"}
    assert stays(lambda: len(starts()) == len(begun), 10)

    limits(product, "resume", "all")
    assert {product.ended(job, 600).state for job in jobs} == {JobState.SUCCEEDED}
    assert Counter(job_id for job_id, _ in called(product) if job_id in ids) == dict.fromkeys(ids, 1)
