from __future__ import annotations

from datetime import timedelta

from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.admit import Candidate, Limits, admit
from spoke_jobs_operator.core.model import Key


def candidate(name: str, priority: int = 0, age: float = 0) -> Candidate:
    return Candidate(Key("ns", name), priority, NOW - timedelta(seconds=age))


WAITING = [candidate("young"), candidate("old", age=9), candidate("urgent", priority=1), candidate("also-young")]


def names(limit: int | None, *running: str) -> list[str]:
    return [key.name for key in admit(WAITING, [Key("ns", name) for name in running], Limits(limit))]


def test_priority_then_age_then_name() -> None:
    assert names(None) == ["urgent", "old", "also-young", "young"]


def test_no_more_than_the_limit() -> None:
    assert names(3, "a") == ["urgent", "old"]
    assert names(1, "a") == []
    assert names(1, "a", "b") == [], "the limit may have been lowered"
