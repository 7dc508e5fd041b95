"""The columns of attempts that say where they ran and how much memory they had."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.explain.situations import NOW, a_job, an_attempt, before

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.explain.job_details import details
from spoke_jobs.model import Attempt, JobOptions, JobRequest
from spoke_jobs.web.attempt_cells import attempt_rows

MEBI = 2**20
COLUMNS = ("Lane", "Memory request", "Memory limit", "Peak memory")


def cells(job: JobRequest, *attempts: Attempt, **seen: Any) -> dict[str, str]:
    """The cells of the newest attempt, by heading.

    :param seen: what its SpokeJob says of it.
    """
    spokejob = None
    if seen:
        metadata = {"name": "n", "namespace": "jobs", "uid": "u", "resourceVersion": "1"}
        metadata["creationTimestamp"] = before(minutes=1).isoformat()
        spec = {"uid": str(job.uid), "requestId": job.id, "jobType": "report"}
        status = {"attempts": [{"number": 1, "job": "j-1"} | seen]}
        spokejob = SpokeJob.from_object({"metadata": metadata, "spec": spec, "status": status})
    shown = details(job, attempts, NOW, ClusterView("n", "jobs", spokejob))
    headings, rows = attempt_rows(shown)
    return {name: cell for name, cell in zip(headings, rows[-1], strict=True) if name in COLUMNS}


def in_pod(**changes: Any) -> JobRequest:
    return a_job(runner="kubernetes", options=JobOptions(**changes))


def used(mebibytes: float, **changes: Any) -> Attempt:
    return an_attempt(peak_memory_bytes=int(mebibytes * MEBI), **changes)


def test_the_peak_is_beside_the_request() -> None:
    seen = {"memoryRequest": "256Mi", "memoryLimit": "1Gi"}
    assert cells(in_pod(), used(192), **seen) == {
        "Lane": "pod",
        "Memory request": "256 MiB",
        "Memory limit": "1,024 MiB",
        "Peak memory": "192 MiB (75 % of its request)",
    }
    assert cells(in_pod(), used(1_500), **seen)["Peak memory"] == "1,500 MiB (586 % of its request)"
    assert "Peak memory" not in cells(in_pod(), an_attempt(), **seen), "it was not measured"


def test_without_a_request_the_peak_is_beside_the_limit() -> None:
    assert cells(in_pod(), used(512), memoryLimit="1Gi")["Peak memory"] == "512 MiB (50 % of its limit)"
    assert cells(in_pod(), used(512), number=1)["Peak memory"] == "512 MiB"


@pytest.mark.parametrize("amount", ["0", "what", "1e99", "9" * 30])
def test_any_text_for_an_amount_is_shown(amount: str) -> None:
    shown = cells(in_pod(), used(512), memoryRequest=amount)
    assert shown["Memory request"]
    assert shown["Peak memory"].startswith("512 MiB")


def test_of_a_job_in_a_worker_its_limit_alone_counts() -> None:
    resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    job = a_job(options=JobOptions(resources=resources))
    assert cells(job, used(512)) == {"Memory limit": "2,048 MiB", "Peak memory": "512 MiB (25 % of its limit)"}
    assert cells(a_job(options=JobOptions(resources="auto")), used(512)) == {"Peak memory": "512 MiB"}
    assert cells(in_pod(resources=resources), used(512)) == {"Lane": "pod", "Peak memory": "512 MiB"}, (
        "its SpokeJob is gone, and the pod may have had more"
    )


@pytest.mark.parametrize(
    "resources",
    [
        {"limits": None},
        {"limits": ["memory"]},
        {"limits": {"memory": None}},
        {"limits": {"memory": 1_024}},
        {"limits": {"memory": ["1Gi"]}},
        ["limits"],
    ],
    ids=str,
)
def test_resources_of_another_form_say_no_limit(resources: Any) -> None:
    """Other code may write the row."""
    assert cells(a_job(options=JobOptions(resources=resources)), used(512)) == {"Peak memory": "512 MiB"}


@pytest.mark.parametrize(
    ("limit", "shown"), [("9" * 400, f"{'9' * 39}…"), (f"0.{'0' * 5_000}1", "0 MiB")], ids=["large", "small"]
)
def test_the_peak_has_no_share_of_a_limit_that_is_no_amount_of_memory(limit: str, shown: str) -> None:
    job = a_job(options=JobOptions(resources={"limits": {"memory": limit}}))
    assert cells(job, used(512)) == {"Memory limit": shown, "Peak memory": "512 MiB"}


@pytest.mark.parametrize(
    ("job", "attempt", "seen", "lane"),
    [
        (a_job(), an_attempt(), {}, None),
        (a_job(runner="kubernetes-worker"), an_attempt(runner="kubernetes-worker"), {}, "worker"),
        (in_pod(lane="worker"), an_attempt(runner="kubernetes-worker"), {}, "worker"),
        (in_pod(lane="standby"), an_attempt(runner="kubernetes"), {"lane": "standby"}, "standby"),
        (in_pod(lane="standby"), an_attempt(runner="kubernetes"), {"lane": ""}, "pod"),
        (in_pod(lane="standby"), an_attempt(runner="kubernetes"), {}, None),
        (in_pod(), an_attempt(runner="kubernetes"), {}, "pod"),
    ],
    ids=["no lanes", "worker", "moved", "standby", "no standby pod was free", "its SpokeJob is gone", "pod"],
)
def test_the_lane_of_each_attempt(job: JobRequest, attempt: Attempt, seen: dict[str, str], lane: str | None) -> None:
    assert cells(job, attempt, **seen).get("Lane") == lane
