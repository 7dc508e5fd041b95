"""What a viewer of some organizations is told about jobs of others: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.contract.dashboard_scene import EVERYBODY, ONE
from tests.unit.explain.situations import a_situation, before

from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.reasons import Reason, waits_for
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.model import JobFilter
from spoke_jobs.web.viewer import shown_group, shown_reason, shown_situation

ABOUT_OTHERS = (
    *(WaitReason.QUEUE_LOCKED, WaitReason.QUEUE_TURN, WaitReason.BEHIND, WaitReason.WORKERS_BUSY),
    *(WaitReason.BLOCKED, WaitReason.PASSED_OVER, WaitReason.NO_WORKER),
)
"""Reasons whose sentences name or count other jobs."""


@pytest.mark.parametrize("reason", ABOUT_OTHERS)
def test_a_reason_that_names_or_counts_other_jobs_is_told_in_general(reason: WaitReason) -> None:
    said = waits_for(reason, "job 7 (theirs) holds it", "spoke-jobs why 7", job_id=7, worker="w", number=12)
    shown = shown_reason(said, ONE)
    assert (shown.text, shown.advice, shown.job_id, shown.worker, shown.number) == (
        reason.meaning,
        "",
        None,
        None,
        None,
    )
    assert shown_reason(said, EVERYBODY) == said


def test_a_failed_batch_is_named_to_those_who_see_all_jobs() -> None:
    said = a_situation(failed_batch=Batch(id=7, name="theirs", created_at=before(hours=1)))
    assert shown_situation(said, ONE) == a_situation()
    assert shown_situation(said, EVERYBODY) == said


def test_when_a_job_moves_to_a_pod_stays() -> None:
    said = Reason(Code.MOVES, "unless a worker has started it by 9:00, sync moves it to a pod")
    assert shown_reason(said, ONE) == said


def test_a_job_that_holds_up_others_is_not_told_how_many() -> None:
    shown = shown_reason(Reason(Code.HOLDS_UP, "12 jobs wait for it", number=12), ONE)
    assert "12" not in shown.text
    assert shown.number is None


@pytest.mark.parametrize("reason", [WaitReason.DUE_LATER, WaitReason.BACKING_OFF, WaitReason.PAUSED, WaitReason.NEXT])
def test_what_is_about_the_job_alone_stays(reason: WaitReason) -> None:
    said = waits_for(reason, "not before 9:00", "wait")
    assert shown_reason(said, ONE) == said
    assert shown_reason(replace(said, job_id=7, number=12), ONE) == said, "the sentence counts no others"


@pytest.mark.parametrize("reason", ABOUT_OTHERS)
def test_a_group_whose_reason_names_or_counts_other_jobs_is_told_in_general(reason: WaitReason) -> None:
    group = Group("waiting", reason.code, "are behind job 7 (theirs)", 3, None, "spoke-jobs why 7", name=reason)
    shown = shown_group(group, ONE)
    assert (shown.text, shown.advice, shown.count) == (f"wait: {reason.meaning}", "", 3)
    assert shown_group(replace(group, count=1), ONE).text == f"waits: {reason.meaning}"
    assert shown_group(group, EVERYBODY) == group
    later = replace(group, name="AReasonOfALaterRelease")
    assert (shown_group(later, ONE).text, shown_group(later, ONE).advice) == ("wait", "")


def test_a_group_of_jobs_that_were_not_started_does_not_name_the_batch_of_others() -> None:
    group = Group(
        "failed",
        "DependencyFailed",
        "failed",
        1,
        None,
        "retry --batch 2",
        message="batch 2 (theirs)",
        job_id=7,
        batch_id=2,
    )
    shown = shown_group(group, ONE)
    assert (shown.message, shown.batch_id) == ("", None)
    assert "--batch 2" not in shown.advice
    assert shown_group(group, EVERYBODY) == group
    error = replace(group, reason="JobError")
    assert shown_group(error, ONE) == error


def test_a_filter_cannot_widen_what_is_seen() -> None:
    asked = JobFilter(organization_id=2, organizations=frozenset({2}))
    assert ONE.narrowed(asked) == JobFilter(organization_id=2, organizations=frozenset({1}))
