"""What the dashboard's pages say, from values."""

from __future__ import annotations

from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount
from spoke_jobs.model import JobState
from spoke_jobs.web.page_views import no_failures


def test_without_failures_for_good_the_overview_names_the_other_ones() -> None:
    again = Group("waiting", Code.BACKOFF, "failed", 40, None, name="BackingOff")
    behind = Group("waiting", Code.QUEUE_LOCK, "are behind", 3, None, name="QueueLocked")
    none = "No job failed for good in the last 24 hours."
    assert no_failures([behind], {JobState.FAILED: CappedCount(0, more=False)}) == none
    assert no_failures([again, behind], {}) == f"{none} 40 jobs have failed and are tried again."
    assert no_failures([], {JobState.FAILED: CappedCount(1, more=False)}) == f"{none} Earlier, 1 job failed."
    assert no_failures([], {JobState.FAILED: CappedCount(10_000, more=True)}).endswith("Earlier, 10,000+ jobs failed.")
