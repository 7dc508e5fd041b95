"""What the page *Overview* says, from values."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.explain.situations import NOW

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.ledger.reading.crowd import WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount
from spoke_jobs.model import JobState
from spoke_jobs.web.overview_views import no_failures


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
