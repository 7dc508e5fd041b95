"""`spoke-jobs sizes` on the demonstration's jobs names what GNU time shows of them, and little more.

A pod runs one job in one process, whose largest resident set and CPU time the pod records. GNU time measures the same
process from outside (`/usr/bin/time -v`, "Maximum resident set size" and "Percent of CPU this job got"). A worker's
process runs several jobs and imports more, so it is not compared. A container's cgroup also counts what the kernel
keeps for it: no process of this machine has such a cgroup of its own, so it is left out here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker
from tests.commands import run_command
from tests.integration.texting.making import make_campaign
from tests.pod_process import TimedPod, run_pod_timed
from tests.task_key import KEY

from spoke_jobs import JobRequest, JobState, registry
from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings
from texting.actions import request_assignment, request_export, request_start, upload_contacts
from texting.assigning import TexterShare
from texting.database import ledger
from texting.models import Campaign
from texting.sample import make_sample

ROWS = 5_000
WITHIN = 1.2
"""How many times as large as the other figure one may be, without the rounding of a request for CPU. A request for
memory is never less than what was shown."""
Dispatch = Callable[[Session, Campaign], JobRequest]
STEPS: tuple[Dispatch, ...] = (
    lambda session, campaign: upload_contacts(session, campaign, make_sample(ROWS, 7).data)[1],
    lambda session, campaign: request_assignment(session, campaign, [TexterShare(texter=name) for name in "ab"]),
    request_start,
    request_export,
)
"""What the demonstration dispatches, in its order."""


@pytest.fixture
def texting_database_url(texting_postgres_url: str) -> str:
    """PostgreSQL: a pod refuses a file of SQLite, which pods can't share."""
    return texting_postgres_url


@pytest.fixture
def runner(
    sessions: sessionmaker[Session], texting_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubernetesRunner]:
    """The runner of an application that leaves creating SpokeJobs to sync, which does not run."""
    given = Settings(job_runner="kubernetes", submit="sync", database_url=SecretStr(texting_database_url))
    made = KubernetesRunner(given, registry.default)
    monkeypatch.setattr("spoke_jobs.dispatch._runner", made)
    yield made
    made.close(0)


def run(job: JobRequest, url: str) -> TimedPod:
    pod = run_pod_timed(
        PodAssignment(job.id, job.uid, 1).to_environment()
        | {
            "JOB_RUNNER": "kubernetes",
            "SPOKE_SUBMIT": "sync",
            "SPOKE_APP": "texting.jobs",
            "SPOKE_NAMESPACE": "shop",
            "SPOKE_TASKS_URL": "http://127.0.0.1:1",
            "SPOKE_TASKS_KEY": KEY,
            "SPOKE_DATABASE_URL": url,
        }
    )
    row = ledger().get(job.id)
    assert row is not None
    assert (row.state, pod.exit_code) == (JobState.SUCCEEDED, 0), pod.log
    return pod


def proposed() -> dict[str, dict[str, str]]:
    """The requests that `spoke-jobs sizes` names, by type."""
    done = run_command(["sizes", "--json"])
    assert done.exit_code == 0, done.output
    return {size["job_type"]: size["needs"] for size in json.loads(done.stdout)["types"]}


@pytest.mark.alone
def test_requests_are_at_most_a_fifth_and_the_rounding_above_what_the_processes_had(
    sessions: sessionmaker[Session], runner: KubernetesRunner, texting_database_url: str
) -> None:
    campaign = make_campaign(sessions)
    shown: dict[str, TimedPod] = {}
    for step in STEPS:
        with sessions.begin() as session:
            job = step(session, campaign)
        shown[job.job_type] = run(job, texting_database_url)
    needs = proposed()
    assert "cpu" in needs["import_contacts"]
    assert set(shown) == {"import_contacts", "assign_texters", "start_campaign", "export"}
    for name, pod in shown.items():
        memory = float(in_bytes(needs[name]["memory"]) or 0)
        print(f"\n{name}: {needs[name]}, shown {pod.peak_bytes / 2**20:.1f} MiB, {pod.cores * 1000:.0f}m")
        assert 1 <= memory / pod.peak_bytes <= WITHIN, name
        if "cpu" not in needs[name]:  # its job took less than 100 ms, which is too short to tell
            continue
        cores = float(in_bytes(needs[name]["cpu"]) or 0)
        # Rounding up to two digits adds at most a tenth to what was measured.
        assert 1 / WITHIN <= cores / pod.cores <= WITHIN * 1.1, name
