from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs_operator.core.process.election import (
    LeaseTimes,
    Record,
    Seen,
    held_by,
    may_take,
    observe,
    read,
    released,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIMES = LeaseTimes()


def record(holder: str = "other", version: str = "1", lasts: float = 15) -> Record:
    return Record(holder=holder, lasts=lasts, transitions=3, acquired="then", version=version)


@pytest.mark.parametrize(
    ("lasts", "within", "retry"), [(10, 10, 2), (15, 2, 2), (15, 10, 0), (9, 10, 2), (15, 10, 10), (15, 10, -1)]
)
def test_durations_with_which_two_could_lead_are_refused(lasts: float, within: float, retry: float) -> None:
    with pytest.raises(ValueError, match="shorter than the one before"):
        LeaseTimes(lasts, within, retry).check()


@pytest.mark.parametrize(("at", "lapsed"), [(114.9, False), (115.0, True)])
def test_a_lease_lapses_once_we_have_seen_it_unchanged_for_as_long_as_it_lasts(at: float, lapsed: bool) -> None:
    seen = observe(None, record(), 100)
    assert may_take(observe(seen, record(), 110), "me", at) is lapsed


def test_a_renewal_counts_from_when_it_is_seen() -> None:
    seen = observe(observe(None, record(), 100), record(version="2"), 114)
    assert not may_take(seen, "me", 128)
    assert may_take(seen, "me", 129)


@pytest.mark.parametrize("holder", ["", "me"])
def test_what_is_nobodys_or_ours_needs_no_waiting(holder: str) -> None:
    assert may_take(Seen(record(holder), 100), "me", 100)


@given(st.floats(min_value=0.3, max_value=100, allow_nan=False))
def test_others_are_never_told_less_than_the_holder_reckons_with(lasts: float) -> None:
    spec = held_by("me", LeaseTimes(lasts, lasts * 0.9, lasts * 0.1), None, NOW)
    assert read({"spec": spec}).lasts >= lasts, "the field takes whole seconds only"


def test_taking_counts_a_transition_and_keeping_does_not() -> None:
    taken = held_by("me", TIMES, record(), NOW)
    assert (taken["leaseTransitions"], taken["acquireTime"]) == (4, "2026-01-01T12:00:00.000000Z")
    kept = held_by("me", TIMES, record("me"), NOW)
    assert (kept["leaseTransitions"], kept["acquireTime"]) == (3, "then")
    assert held_by("me", TIMES, None, NOW)["leaseTransitions"] == 0
    let_go = released(record("me"), NOW)
    assert (let_go["holderIdentity"], let_go["leaseTransitions"]) == ("", 3)
    assert may_take(Seen(read({"spec": let_go}), 0), "other", 0)


def test_a_lease_that_another_program_made_is_read_as_nobodys() -> None:
    bare = read({"metadata": {"resourceVersion": "7"}, "spec": None})
    assert bare == Record(version="7")
    assert may_take(Seen(bare, 0), "me", 0)
