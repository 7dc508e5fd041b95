"""Jobs that wait in the cluster, grouped by what their SpokeJobs say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.explain.crowds import CLUSTER, crowd, only, spokejob
from tests.unit.explain.situations import before

from spoke_jobs.cluster.cluster_view import WaitingSpokeJob, waits_of
from spoke_jobs.contract import wait_text
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.quota_message import QuotaUse
from spoke_jobs.contract.wait_reasons import WAITS, Wait
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import groups
from spoke_jobs.ledger.reading.crowd import WaitingCount


def test_spokejobs_say_what_they_wait_for_and_the_ledger_counts_the_rest() -> None:
    quota = {"object": "compute", "quota": (QuotaUse("requests.cpu", "1", "8", "8"),)}
    found = groups(
        crowd(WaitingCount(CLUSTER, 6, before(hours=1), 1)),
        [
            *(spokejob(number, "QuotaExceeded", **quota) for number in (4, 2, 3)),
            spokejob(5, "QueueLocked", holder="report-1-abc", object="7:reports"),
            spokejob(6, "QueueLocked", holder="report-2-abc", object="8:reports"),
        ],
    )
    assert [(group.reason, group.count) for group in found] == [
        ("QuotaExceeded", 3),
        ("QueueLocked", 1),
        ("QueueLocked", 1),
        (Code.SUBMITTED, 1),
    ]
    assert "compute" in found[0].text
    assert (found[0].job_id, found[0].oldest_at) == (2, before(minutes=4))
    assert found[0].advice.startswith("No action is needed if other pods end.")


def test_the_list_of_jobs_whose_spokejobs_wait_has_what_they_have_in_common() -> None:
    """The first of them may have started when somebody opens it."""

    def where(*places: tuple[str, str, int]) -> tuple[tuple[str, str], ...]:
        spokejobs = [
            replace(spokejob(number, "ClusterFull"), job_type=job_type, queue=queue, organization=organization)
            for number, (job_type, queue, organization) in enumerate(places, 5)
        ]
        return only(groups(crowd(), spokejobs)).where

    state = ("state", "waiting")
    assert where(("report", "", 7), ("report", "", 7)) == (state, ("type", "report"), ("organization", "7"))
    assert where(("report", "q", 7), ("export", "q", 8)) == (state, ("queue", "q"))
    assert where(("report", "a", 0), ("export", "b", 0)) == (state,)
    assert where(("re*", "", 0), ("re*", "", 0)) == (state,), "it would be read as a pattern"
    assert where(("report", "q", 7)) == (), "its page says more"


@pytest.mark.parametrize("code", [*WAITS, *CAUSES])
@pytest.mark.parametrize("known", [False, True], ids=["only the code", "an object"])
def test_jobs_that_wait_in_the_cluster_have_the_name_and_the_meaning_of_the_reason(code: str, known: bool) -> None:
    """The status of a SpokeJob never holds Kubernetes' message, so the text must do without it."""
    group = only(groups(crowd(), [spokejob(5, code, object="the-object" if known else "")]))
    meaning, said = wait_text.meaning(code), wait_text.says_all(Wait(code, object="the-object" if known else ""))
    assert group.text.startswith(f"waits ({code}")
    assert "None" not in group.text
    assert said or meaning.rstrip(".") in group.text
    assert not known or "the-object" in group.text or wait_text.is_complete(Wait(code))
    shown = ("`spoke-jobs why 5` shows the message.", "`spoke-jobs show 5`")
    assert "message" not in group.advice or said or any(command in group.advice for command in shown)


def test_a_quota_that_stays_used_up_needs_an_action() -> None:
    quota: dict[str, Any] = {"object": "compute", "quota": (QuotaUse("requests.cpu", "1", "8", "8"),)}

    def advice(**gap: float) -> str:
        some = spokejob(5, "QuotaExceeded", since=before(minutes=1), **quota)
        some = replace(some, namespace="shop")
        return only(groups(crowd(), [some, spokejob(6, "QuotaExceeded", since=before(**gap), **quota)])).advice

    assert advice(minutes=9).startswith("No action is needed if other pods end.")
    assert advice(minutes=53).endswith(
        "or ends what uses it. `kubectl describe resourcequota compute -n shop` shows the amounts, `kubectl get pods "
        "-n shop` the pods."
    )


IMAGE = "shop/reports:2026.11.31"
PULL = f'Back-off pulling image "{IMAGE}": ErrImagePull: failed to pull and unpack image "{IMAGE}": {IMAGE}: not found'


def test_pods_of_a_template_with_a_bad_image_are_named_with_template_and_image() -> None:
    def of_reports(number: int, code: str, message: str, **wait: Any) -> WaitingSpokeJob:
        return replace(spokejob(number, code, **wait), template="reports", message=message)

    found = groups(
        crowd(),
        [
            *(
                of_reports(n, "PodsNotStarting", f"ImageUnavailable: {PULL}", object="ImageUnavailable")
                for n in range(6)
            ),
            *(of_reports(n, "ImageUnavailable", PULL) for n in range(10, 15)),
        ],
    )
    held, pending = found
    assert held.text.startswith("wait for pods of the PodTemplate reports (PodsNotStarting, ImageUnavailable): ")
    assert pending.text.startswith("wait for pods of the PodTemplate reports (ImageUnavailable): ")
    for group in found:
        assert group.message == f"image pull: {IMAGE}: not found"
        assert group.advice == (
            "Check the image's name and tag in the PodTemplate. Once that is corrected, the jobs start by themselves."
        )


def test_a_missing_pull_secret_is_advised_only_if_the_message_names_one() -> None:
    message = f"{PULL}. Unable to retrieve some image pull secrets (registry)"
    group = only(groups(crowd(), [replace(spokejob(5, "ImageUnavailable"), message=message)]))
    assert group.message.endswith("; no pull Secret registry")
    assert "If the message names a pull Secret, create that." in group.advice


def test_of_the_cluster_s_objects_only_those_count_that_wait_and_say_why() -> None:
    def body(number: int, outcome: str = "Waiting", **status: Any) -> dict[str, Any]:
        return {
            "metadata": {"creationTimestamp": "2026-03-01T11:00:00Z"},
            "spec": {"requestId": number, "uid": f"uid-{number}"},
            "status": {"outcome": outcome} | status,
        }

    full = {"code": "ClusterFull", "object": "memory"}
    read = list(
        waits_of(
            [
                body(1, waiting=full),
                body(2),
                body(3, "Running", waiting=full),
                body(4, waiting={"object": "no code"}),
                body(0, waiting=full),
            ]
        )
    )
    assert [(each.job_id, each.uid, each.wait.code, each.created_at) for each in read] == [
        (1, "uid-1", "ClusterFull", before(hours=1))
    ]


def test_what_is_read_of_a_spokejob_that_waits() -> None:
    body = {
        "metadata": {"namespace": "shop"},
        "spec": {
            "requestId": 7,
            "uid": "u",
            "podTemplate": "reports",
            "jobType": "report",
            "queue": "imports",
            "organization": 3,
        },
        "status": {
            "outcome": "Waiting",
            "waiting": {"code": "ImageUnavailable"},
            "conditions": [
                {"reason": "ImageUnavailable", "status": "True", "message": "an earlier one"},
                {"reason": "Other", "status": "False", "message": "another"},
                {"reason": "ImageUnavailable", "status": "False", "message": PULL},
            ],
        },
    }
    (read,) = waits_of([body])
    assert (read.template, read.namespace, read.message) == ("reports", "shop", PULL)
    assert (read.job_type, read.queue, read.organization) == ("report", "imports", 3)
