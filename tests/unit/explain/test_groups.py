"""All waiting and recently failed jobs, grouped by reason, with one action for each group."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.explain.situations import NOW, a_holder, a_load, a_trace, after, before

from spoke_jobs.cli.rendering.groups_output import print_groups
from spoke_jobs.cluster.cluster_view import WaitingSpokeJob, waits_of
from spoke_jobs.contract import wait_text
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.quota_message import QuotaUse
from spoke_jobs.contract.wait_reasons import WAITS, Giver, Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group, groups, oldest_of, reasons
from spoke_jobs.ledger.reading.crowd import FailedCount, WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.queries import Crowd

PAGE = Path(__file__).parents[3] / "docs/why.md"
KIND = WaitingKind(
    runner="legacy",
    job_type="report",
    priority=0,
    later=False,
    cause="",
    fingerprint="",
    submitted=False,
    assigned=False,
    blocked=False,
    holder=None,
)
CLUSTER = replace(KIND, runner="kubernetes", submitted=True)


def waiting(count: int = 3, oldest_at: datetime | None = None, first_id: int = 40, **kind: Any) -> WaitingCount:
    return WaitingCount(replace(KIND, **kind), count, oldest_at or before(minutes=1), first_id)


def failed(**changes: Any) -> FailedCount:
    values: dict[str, Any] = {
        "cause": "JobError",
        "fingerprint": "ValueError@shop.importing.load_rows",
        "job_types": ("import_contacts",),
        "count": 12,
        "oldest_at": before(hours=2),
        "newest_at": before(minutes=2),
        "newest_id": 77,
    }
    return FailedCount(**(values | changes))


def crowd(*counts: WaitingCount, **around: Any) -> Crowd:
    return Crowd(NOW, 86_400, counts, **around)


def only(found: tuple[Group, ...]) -> Group:
    (group,) = found
    return group


@pytest.mark.parametrize(
    ("kind", "around", "reason", "text", "advice"),
    [
        ({"runner": "reference", "assigned": True}, {}, Code.TAKEN, "other code", "cancel --reason taken"),
        (
            {"blocked": True},
            {"held": {replace(KIND, blocked=True): Wait("Paused", object="all", source="`spoke-jobs pause all`")}},
            Code.BLOCKED,
            "depend on jobs that have not ended",
            "`spoke-jobs why 40` names the jobs that job 40 waits for.",
        ),
        (
            {"blocked": True},
            {},
            Code.BLOCKED,
            "depend on jobs that have not ended",
            "`spoke-jobs why 40` names the jobs",
        ),
        ({"later": True}, {}, Code.DUE_LATER, "are to start later, the first at", ""),
        ({"later": True, "cause": "RetryLater"}, {}, Code.ASKED_LATER, "asked to be run again later", ""),
        (
            {"later": True, "cause": "JobError", "fingerprint": "KeyError@shop.f"},
            {},
            Code.BACKOFF,
            "failed with JobError KeyError@shop.f and are tried again",
            "Read the message: `spoke-jobs show 40`. The job is tried again.",
        ),
        (
            {"holder": 9},
            {"holders": {9: a_holder()}},
            Code.QUEUE_LOCK,
            "are behind job 9 (import_contacts), which has held the lock of their queue for 3 min",
            "`spoke-jobs why 9` explains that job.",
        ),
        (
            {},
            {"held": {KIND: Wait("Paused", object="type:report", source="`spoke-jobs pause type:report`", by="ann")}},
            Code.PAUSED,
            "paused by `spoke-jobs pause type:report` (by ann)",
            "`spoke-jobs resume type:report`",
        ),
        (
            {},
            {"held": {KIND: Wait("TypeLimitReached", object="report", running=2, limit=2, source="limit each-type")}},
            Code.LIMIT,
            "running jobs of the type 'report': 2 of at most 2",
            "`spoke-jobs limits set each-type`",
        ),
        ({}, {}, Code.NO_WORKER, "no worker for the runner legacy takes them", "Start one: `spoke-jobs worker`."),
        (
            {},
            {"traces": {"legacy": (a_trace(),)}},
            Code.NO_WORKER,
            "no worker",
            "Start one: `spoke-jobs worker`.",
        ),
        ({}, {"load": {"legacy": (a_load(),)}}, Code.WORKERS_BUSY, "wait for a free worker: 2 jobs run now", "more"),
        ({}, {"load": {"legacy": (a_load(running=1, lapsed=1),)}}, Code.NO_WORKER, "no worker", "Start one"),
        (
            {},
            {"traces": {"legacy": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),)}},
            Code.PASSED_OVER,
            "of the type report are passed over",
            "Deploy workers whose SPOKE_APP declares report",
        ),
        (
            {"priority": -1},
            {
                "traces": {"legacy": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),)},
                "load": {"legacy": (a_load(),)},
            },
            Code.WORKERS_BUSY,
            "free worker",
            "",
        ),
        ({"runner": "kubernetes"}, {}, Code.NOT_SUBMITTED, "have no SpokeJob yet", "Check that `spoke-jobs sync` runs"),
        ({"runner": "kubernetes", "submitted": True}, {}, Code.SUBMITTED, "have a SpokeJob", "kubectl get spokejobs"),
    ],
)
def test_what_waiting_jobs_wait_for(
    kind: dict[str, Any], around: dict[str, Any], reason: Code, text: str, advice: str
) -> None:
    each = waiting(**kind)
    if kind.get("later"):
        each = replace(each, oldest_at=after(minutes=1))
    group = only(groups(crowd(each, **around)))
    assert (group.state, group.reason, group.count) == ("blocked" if kind.get("blocked") else "waiting", reason, 3)
    assert text in group.text
    assert advice in group.advice
    assert reasons(crowd(each, **around)) == {each.kind: reason}


PAUSE = Wait("Paused", object="all", source="`spoke-jobs pause all`")
AT = "at 12:01:00 (in 60 s)"
IN_NUMBERS: list[tuple[WaitReason, dict[str, Any], dict[str, Any], str, str]] = [
    (WaitReason.TAKEN, {"runner": "reference", "assigned": True}, {},
     "is marked as assigned by other code, which runs it", "are marked as assigned by other code, which runs them"),
    (WaitReason.BLOCKED, {"blocked": True}, {}, "depends on jobs that", "depend on jobs that"),
    (WaitReason.DUE_LATER, {"later": True}, {}, f"is to start later, {AT}", f"are to start later, the first {AT}"),
    (WaitReason.ASKED_LATER, {"later": True, "cause": "RetryLater"}, {},
     f"asked to be run again later, {AT}", f"asked to be run again later, the first {AT}"),
    (WaitReason.BACKING_OFF, {"later": True, "cause": "JobError"}, {},
     f"failed with JobError and is tried again, {AT}", f"failed with JobError and are tried again, the first {AT}"),
    (WaitReason.QUEUE_LOCKED, {"holder": 9}, {"holders": {9: a_holder()}},
     "is behind job 9 (import_contacts), which has held the lock of its queue",
     "are behind job 9 (import_contacts), which has held the lock of their queue"),
    (WaitReason.QUEUE_LOCKED, {"holder": 9}, {}, "is behind job 9", "are behind job 9"),
    (WaitReason.PAUSED, {}, {"held": {KIND: PAUSE}}, "waits: paused by", "wait: paused by"),
    (WaitReason.SUSPENDED, {"suspended": True, "later": True, "cause": "JobError"}, {},
     "is suspended", "are suspended"),
    (WaitReason.NO_WORKER, {}, {},
     "is due, and no worker for the runner legacy takes it", "are due, and no worker for the runner legacy takes them"),
    (WaitReason.WORKERS_BUSY, {}, {"load": {"legacy": (a_load(),)}},
     "is due and waits for a free worker: 2 jobs run now", "are due and wait for a free worker: 2 jobs run now"),
    (WaitReason.WORKERS_BUSY, {}, {"load": {"legacy": (a_load(running=1),)}},
     "is due and waits for a free worker: 1 job runs now", "are due and wait for a free worker: 1 job runs now"),
    (WaitReason.PASSED_OVER, {},
     {"traces": {"legacy": (a_trace(job_id=50, job_type="export", claimed_at=before(seconds=20)),)}},
     "of the type report is passed over", "of the type report are passed over"),
    (WaitReason.NOT_SUBMITTED, {"runner": "kubernetes"}, {},
     "is due and has no SpokeJob yet", "are due and have no SpokeJob yet"),
    (WaitReason.SUBMITTED, {"runner": "kubernetes", "submitted": True}, {},
     "has a SpokeJob; the ledger does not know what it waits for",
     "have a SpokeJob; the ledger does not know what they wait for"),
    (WaitReason.NEXT, {}, {"traces": {"legacy": (a_trace(heartbeat_at=before(seconds=1)),)}},
     "has just become due: it starts when", "have just become due: they start when"),
]  # fmt: skip
"""A reason, what leads to it, and how the sentences about one job and about two begin."""


@pytest.mark.parametrize(("reason", "kind", "around", "one", "two"), IN_NUMBERS)
def test_sentences_agree_with_the_number_of_jobs(
    reason: WaitReason, kind: dict[str, Any], around: dict[str, Any], one: str, two: str
) -> None:
    for number, begins in ((1, one), (2, two)):
        at = after(minutes=1) if kind.get("later") else before(minutes=1)
        group = only(groups(crowd(waiting(number, at, **kind), **around)))
        assert group.name == reason
        assert group.text.startswith(begins)
        assert re.search(r"\b(them|they)\b", group.advice) is None, "it has no number"


def test_each_sentence_of_the_ledger_is_tried_with_one_job_and_with_two() -> None:
    of_one_job = {"QueueTurn", "BehindOthers", "NoOperator", "SpokeJobGone"}
    given = {reason for reason in WaitReason if reason.row.given_by is Giver.WHY} - of_one_job
    assert {reason for reason, *_ in IN_NUMBERS} >= given


def test_in_the_cluster_and_after_failures_sentences_agree_with_the_number_too() -> None:
    full = [spokejob(number, "ClusterFull", object="memory") for number in (3, 4)]
    assert only(groups(crowd(), full[:1])).text.startswith("waits (ClusterFull)")
    assert only(groups(crowd(), full)).text.startswith("wait (ClusterFull)")
    assert only(groups(crowd(failed=(failed(count=1),)))).text.endswith("load_rows, 2 min ago (job 77)")
    assert only(groups(crowd(failed=(failed(count=2),)))).text.endswith("load_rows, the last 2 min ago (job 77)")


def test_the_age_of_one_job_is_not_that_of_the_oldest() -> None:
    assert oldest_of(only(groups(crowd(waiting(1)))), NOW) == "for 60 s"
    assert oldest_of(only(groups(crowd(waiting(2)))), NOW) == "the oldest for 60 s"
    assert oldest_of(only(groups(crowd(failed=(failed(),)))), NOW) == ""
    assert oldest_of(only(groups(crowd(waiting(2, after(minutes=1), later=True)))), NOW) == ""


def test_jobs_that_have_just_become_due_are_no_problem() -> None:
    group = only(groups(crowd(waiting(oldest_at=before(seconds=1)))))
    assert (group.reason, group.advice) == (Code.NEXT, "")


def test_kinds_with_one_reason_are_one_group_and_the_largest_is_the_first() -> None:
    found = groups(
        crowd(
            waiting(2, job_type="export", later=True),
            waiting(3, oldest_at=before(minutes=5), first_id=8),
            waiting(4, job_type="export", first_id=9),
            waiting(1, holder=9),
            waiting(1, holder=10),
        )
    )
    assert [(group.reason, group.count) for group in found] == [
        (Code.NO_WORKER, 7),
        (Code.DUE_LATER, 2),
        (Code.QUEUE_LOCK, 1),
        (Code.QUEUE_LOCK, 1),
    ]
    assert (found[0].oldest_at, found[0].job_id) == (before(minutes=5), 8)


def spokejob(job_id: int, code: str, **wait: Any) -> WaitingSpokeJob:
    return WaitingSpokeJob(job_id, f"uid-{job_id}", Wait(code, **wait), before(minutes=job_id))


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
        return only(groups(crowd(), [some, spokejob(6, "QuotaExceeded", since=before(**gap), **quota)])).advice

    assert advice(minutes=9).startswith("No action is needed if other pods end.")
    assert advice(minutes=53).startswith("The quota stays used up. Raise it, request less, or end what uses it:")


def test_pods_that_do_not_start_have_the_cause_with_its_meaning_and_its_advice() -> None:
    stuck = [spokejob(number, "PodsNotStarting", object="ImageUnavailable") for number in range(5, 10)]
    group = only(groups(crowd(), stuck))
    assert group.text.startswith(
        "wait (PodsNotStarting, ImageUnavailable): Several pods of its PodTemplate can't start"
    )
    assert group.text.endswith(" The container's image could not be pulled")
    assert group.advice == (
        "`spoke-jobs why 5` shows the message. Check the image's name and tag in the PodTemplate. If the message names "
        "a pull Secret, create that. Once that is corrected, the jobs start by themselves."
    )
    group = only(groups(crowd(), [spokejob(5, "PodsNotStarting", object="OfANewerRelease")]))
    assert "(PodsNotStarting, OfANewerRelease)" in group.text
    assert group.advice.startswith("`spoke-jobs why 5` shows the message. The message says what keeps the pods from")


@pytest.mark.parametrize("cause", CAUSES)
def test_the_advice_for_groups_says_which_command_shows_the_message(cause: str) -> None:
    later = replace(waiting(later=True, cause=cause), oldest_at=after(minutes=1))
    for group in groups(crowd(later, failed=(failed(cause=cause, fingerprint=""),))):
        assert (
            "message" not in group.advice
            or f"`spoke-jobs show {group.job_id}`" in group.advice
            or (f"`spoke-jobs why {group.job_id}` shows the message." in group.advice)
        )


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


def test_failed_jobs_have_one_command_for_all_of_them() -> None:
    by_error, by_cause, unknown = groups(
        crowd(
            failed=(
                failed(),
                failed(cause="OutOfMemory", fingerprint="", count=5, job_types=("a", "b", "c")),
                failed(cause="FromANewerRelease", fingerprint="", count=1),
            )
        )
    )
    assert by_error.text == (
        "of the type import_contacts failed with JobError: ValueError@shop.importing.load_rows, the last 2 min ago "
        "(job 77)"
    )
    assert by_error.advice == (
        "Read the message: `spoke-jobs show 77`; fix the job or its input, then "
        "`spoke-jobs retry --failed --fingerprint ValueError@shop.importing.load_rows`."
    )
    assert by_cause.text.startswith("of 3 types failed with OutOfMemory, the last")
    assert by_cause.advice.endswith("then `spoke-jobs retry --failed --cause OutOfMemory`.")
    assert unknown.advice == ""


def test_each_code_of_waiting_jobs_follows_from_a_reason() -> None:
    notes = {Code.START_BY, Code.TURN, Code.CLUSTER_UNKNOWN, Code.MOVED, Code.MOVES, Code.STANDBY}
    states = {Code.RUNNING, Code.LEASE_LAPSED, Code.HOLDS_UP, Code.CANCELLING, Code.SUCCEEDED, Code.FAILED}
    assert {reason.code for reason in WaitReason} == set(Code) - notes - states


def test_a_group_has_the_reason_s_one_name_beside_its_code() -> None:
    held = {KIND: Wait(WaitReason.KEY_LIMIT_REACHED, object="sms", running=2, limit=2, source="limit key:sms")}
    (limited,) = groups(crowd(waiting(), held=held))
    assert (limited.reason, limited.name) == (Code.LIMIT, WaitReason.KEY_LIMIT_REACHED)
    (failure,) = groups(crowd(failed=(failed(),)))
    assert (failure.reason, failure.name) == ("JobError", "JobError")


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = groups(
        crowd(
            WaitingCount(CLUSTER, 12, before(minutes=9), 200),
            waiting(4, first_id=41, oldest_at=before(minutes=3), holder=9),
            failed=(failed(), failed(cause="OutOfMemory", fingerprint="", count=5, newest_id=81)),
            holders={9: a_holder()},
        ),
        [spokejob(number, "ClusterFull", object="memory") for number in range(1, 13)],
    )
    print_groups(found, 86_400, NOW)
    printed = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
    example = re.search(r"^\$ spoke-jobs why\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert example
    assert example[1] == printed


def test_every_situation_of_the_page_has_its_group() -> None:
    page = PAGE.read_text()
    table = page[page.index("## All jobs at once") :]
    headings = re.findall(r"^### (.*)$", page[page.index("## It waits") : page.index("## It runs")], re.M)
    missing = [heading for heading in headings if f"[{heading}](#" not in table]
    assert missing == []
