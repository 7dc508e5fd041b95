"""What several pages say, from values."""

from __future__ import annotations

from tests.contract.dashboard_scene import EVERYBODY, ONE
from tests.unit.explain.situations import NOW

from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group
from spoke_jobs.web.view_parts import group_item


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
