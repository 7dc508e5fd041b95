"""What the dashboard's pages say, from values."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.dashboard_scene import EVERYBODY, ONE
from tests.unit.explain.situations import NOW

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group
from spoke_jobs.ledger.reading.crowd import WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount
from spoke_jobs.ledger.reading.queries import Crowd
from spoke_jobs.model import JobState
from spoke_jobs.web.page_views import no_failures
from spoke_jobs.web.view_parts import group_item


def test_without_failures_for_good_the_overview_names_the_other_ones() -> None:
    kind = WaitingKind(Subject(), "legacy", 0, True, "JobError", "E@f", False, False, False, None)
    others = (replace(kind, cause="RetryLater"), replace(kind, later=False, cause=""), replace(kind, blocked=True))
    behind = tuple(WaitingCount(other, 3, NOW, number) for number, other in enumerate(others, 50))
    again = (WaitingCount(kind, 30, NOW, 40), WaitingCount(replace(kind, cause="Killed"), 10, NOW, 41))
    nobody, some = Crowd(NOW, 86_400, behind), Crowd(NOW, 86_400, (*again, *behind))
    none = "No job failed for good in the last 24 hours."
    assert no_failures(nobody, {JobState.FAILED: CappedCount(0, more=False)}) == none
    assert no_failures(some, {}) == f"{none} 40 jobs have failed and are tried again."
    more = replace(some, more_waiting=True)
    assert no_failures(more, {}) == f"{none} At least 40 jobs have failed and are tried again."
    assert no_failures(nobody, {JobState.FAILED: CappedCount(1, more=False)}) == f"{none} Earlier, 1 job failed."
    many = no_failures(nobody, {JobState.FAILED: CappedCount(10_000, more=True)})
    assert many.endswith("Earlier, 10,000+ jobs failed.")


def test_a_group_leads_to_where_the_dashboard_does_what_the_advice_says() -> None:
    failed = Group("failed", "Killed", "failed", 3, None, "retry", job_type="resize", name="Killed")
    retry = ("/bulk/retry?type=resize&cause=Killed", "Retry them (preview)")
    assert group_item(failed, NOW, EVERYBODY).links == (retry,)
    assert group_item(failed, NOW, EVERYBODY.read_only()).links == ()
    cancelled = Group("failed", "Cancelled", "failed", 3, None, "retry", job_type="resize", name="Cancelled")
    assert group_item(cancelled, NOW, EVERYBODY).links == ()
    after = Group("failed", "DependencyFailed", "failed", 1, None, "retry", name="DependencyFailed", batch_id=2)
    assert group_item(after, NOW, EVERYBODY).links == (("/batches?id=2", "Batch 2"),), "its failed jobs come first"
    behind = Group("waiting", Code.QUEUE_LOCK, "wait", 3, None, "why 48", name="QueueLocked", holder_id=48)
    assert group_item(behind, NOW, EVERYBODY).links == (("/jobs/48", "Job 48"),)
    busy = Group("waiting", Code.WORKERS_BUSY, "are due", 3, None, "start more", name="WorkersBusy")
    assert group_item(busy, NOW, EVERYBODY).links == (("/queues", "Queues and limits"),)
    assert group_item(busy, NOW, ONE).links == ()


def test_the_number_of_a_group_leads_to_the_list_of_its_jobs() -> None:
    where = (("state", "waiting"), ("queue", "warehouse:north"))
    behind = Group("waiting", Code.QUEUE_LOCK, "wait", 3, None, job_id=50, where=where)
    assert group_item(behind, NOW).path == "/jobs?state=waiting&queue=warehouse%3Anorth"
    alone = Group("waiting", Code.QUEUE_LOCK, "waits", 1, None, job_id=50)
    assert group_item(alone, NOW).path == "/jobs/50"
