"""What docs/why.md shows of situations that its test on a cluster does not make is what `why` would print."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.explain.situations import NOW, a_holder, a_job, a_situation, after, an_attempt, before
from tests.unit.explain.test_in_cluster import NAME, a_spokejob, an_open_attempt, condition

from spoke_jobs.cli.rendering.why_output import print_explanation
from spoke_jobs.cluster.cluster_view import ClusterView, PublishedTurns
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.explain.why import explain
from spoke_jobs.ledger.reading.dependency_queries import Blocking, Link
from spoke_jobs.ledger.reading.event_actors import Suspension
from spoke_jobs.model import AttemptReport, ContainerOutput, JobRequest, JobState

PAGE = Path(__file__).parents[3] / "docs/why.md"
NO_ROOM = "no node has room: memory is short"
MISSING = '0/3 nodes are available: persistentvolumeclaim "exports" not found.'
NO_MATCH = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector."
)
WEBHOOK = 'Internal error occurred: failed calling webhook "pods.policy.example": connect: connection refused'


def shown(heading: str) -> str:
    """The example below a heading of the page."""
    found = re.search(
        rf"^### {re.escape(heading)}\n(?:(?!^### ).)*?^```text\n(.*?)^```$", PAGE.read_text(), re.M | re.S
    )
    assert found, heading
    return found[1]


def waits(cause: str, *conditions: Any, turn: int | None = None, **status: Any) -> tuple[JobRequest, Explanation]:
    job = a_job(runner="kubernetes", submitted_at=before(minutes=5), created_at=before(minutes=5))
    status = {"outcome": "Waiting", "cause": cause, "conditions": list(conditions)} | status
    turns = () if turn is None else (*(f"other-{n}" for n in range(turn)), NAME)
    published = PublishedTurns(before(seconds=20), turns=turns, waiting=len(turns))
    view = ClusterView(NAME, spokejob=a_spokejob(status), namespace="jobs", published=published)
    return job, explain(a_situation(job), view)


def pends(cause: str, message: str, **waiting: Any) -> tuple[JobRequest, Explanation]:
    fields = {"code": cause, "endsAt": after(minutes=8).isoformat()} | waiting
    return waits(
        cause, condition("Running", cause, message), attempt=1, attempts=[an_open_attempt(pod="")], waiting=fields
    )


def held(cause: str, message: str, turn: int | None = None, **waiting: Any) -> tuple[JobRequest, Explanation]:
    return waits(cause, condition("Admitted", cause, message), turn=turn, waiting={"code": cause} | waiting)


def failed(cause: str, message: str, *outputs: ContainerOutput, reason: str = "") -> tuple[JobRequest, Explanation]:
    job = a_job(
        runner="kubernetes",
        state=JobState.FAILED,
        cause=cause,
        result_message=message,
        attempt=0,
        finished_at=before(seconds=65),
    )
    report = AttemptReport(job.run, 1, cause, message, f"{NAME}-1-abcde", outputs)
    view = ClusterView(NAME, spokejob=a_spokejob({"cause": cause, "reason": reason}))
    return job, explain(a_situation(job, reports=(report,)), view)


def is_blocked() -> tuple[JobRequest, Explanation]:
    job = a_job(state=JobState.BLOCKED, open_dependencies=2)
    first = (
        Link(job.id, 42, "import_contacts", JobState.RUNNING, 40),
        Link(job.id, 43, "import_contacts", JobState.WAITING, 0),
    )
    blocking = Blocking(first, ((JobState.RUNNING, 1), (JobState.WAITING, 1)))
    return job, explain(a_situation(job, blocking=blocking))


def is_suspended() -> tuple[JobRequest, Explanation]:
    job = a_job(suspended_at=before(minutes=10))
    return job, explain(a_situation(job, suspension=Suspension("ada@laptop", "wait for the import")))


def holds_up() -> tuple[JobRequest, Explanation]:
    job = a_job(
        id=51, state=JobState.RUNNING, attempt=1, status=42, queue_name="7:reports", locks_queue=True, runner="legacy"
    )
    attempt = an_attempt(claimed_at=before(minutes=30))
    stalled = a_holder(
        usual_seconds=90.0, job_id=51, percent=42, since=before(minutes=30), progressed_at=before(minutes=8)
    )
    return job, explain(a_situation(job, attempts=(attempt,), holder=stalled, behind_in_queue=3))


SITUATIONS = {
    "It makes no progress, and others wait": holds_up(),
    "It depends on other jobs": is_blocked(),
    "Somebody has suspended it in the ledger": is_suspended(),
    "The cluster is full": held("ClusterFull", NO_ROOM, turn=11, object="memory", since=before(minutes=3).isoformat()),
    "The database is away": held("DatabaseAway", "", turn=2, since=before(minutes=3).isoformat()),
    "An admission webhook does not answer": held("WebhookAway", WEBHOOK, since=before(minutes=3).isoformat()),
    "Pods of its PodTemplate do not start": held(
        "PodsNotStarting",
        'ImageUnavailable: image "shop:2": not found',
        turn=2,
        object="ImageUnavailable",
        since=before(minutes=3).isoformat(),
    ),
    "A volume claim is missing": pends("VolumeClaimMissing", MISSING, object="exports"),
    "An init container still runs": pends(
        "InitRunning",
        "container 'migrate' has run since 11:58:30 UTC and the job's container waits for it",
        object="migrate",
        since=(NOW - timedelta(seconds=90)).isoformat(),
    ),
    "Its node was drained": waits(
        "Drained",
        condition("Running", "Drained", "EvictionByEvictionAPI: Eviction API: evicting"),
        attempt=1,
        attempts=[an_open_attempt(finishedAt=before(seconds=1).isoformat(), cause="Drained")],
        nextAttemptAt=after(seconds=5).isoformat(),
    ),
    "It did not start in time": failed("StartTimeout", f"NoNodeMatches: {NO_MATCH}", reason="NoNodeMatches"),
    "An init container failed": failed(
        "InitFailed",
        "container 'migrate' exited with 3",
        ContainerOutput("migrate", "waiting for db.shop:5432\nno answer for 60 s: giving up\n"),
    ),
}


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_page_shows_what_is_printed(
    heading: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    print_explanation(*SITUATIONS[heading])
    printed = [text.rstrip() for text in capsys.readouterr().out.splitlines()]
    assert "\n".join(printed[1:]) + "\n" == shown(heading)
