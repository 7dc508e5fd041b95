"""Which occurrences are dispatched after a tick that came in time, late or very late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from spoke_jobs.schedules.occurrences import (
    Decision,
    Skip,
    SkipReason,
    as_one_run,
    decide,
    delay_of,
    everything_due,
    not_made,
    upcoming,
    without_taken,
)
from spoke_jobs.schedules.timing import Cron, Every, Misfire, Overlap, Timing

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def minutes_of(decision: Decision) -> list[int]:
    """The due times, as minutes from noon."""
    return [round((when - NOON).total_seconds() / 60) for when in decision.dispatch]


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def test_in_time_each_occurrence_is_dispatched_whatever_the_rule() -> None:
    for misfire in Misfire:
        decision = decide(Every(minutes=5, misfire=misfire), NOON, NOON + timedelta(seconds=59))
        assert (minutes_of(decision), decision.next_due, decision.skip) == ([0], minute(5), None)


def test_away_for_an_hour() -> None:
    late = NOON + HOUR + timedelta(seconds=30)
    skip = decide(Every(minutes=10, misfire="skip"), NOON, late)
    assert (minutes_of(skip), skip.next_due) == ([60], minute(70)), "the one that is due just now"
    assert skip.skip == Skip(SkipReason.MISSED, NOON, minute(50))
    once = decide(Every(minutes=10, misfire="once"), NOON, late)
    assert (minutes_of(once), once.next_due) == ([60], minute(70))
    assert once.skip == Skip(SkipReason.MISSED, NOON, minute(50))
    every = decide(Every(minutes=10, misfire="all"), NOON, late)
    assert (minutes_of(every), every.next_due, every.skip) == ([0, 10, 20, 30, 40, 50, 60], minute(70), None)


def test_away_over_a_single_occurrence() -> None:
    late = NOON + HOUR
    at_noon = {misfire: decide(Cron("0 12 * * *", misfire=misfire), NOON, late) for misfire in Misfire}
    assert {misfire: minutes_of(found) for misfire, found in at_noon.items()} == {"skip": [], "once": [0], "all": [0]}
    assert at_noon[Misfire.SKIP].skip == Skip(SkipReason.MISSED, NOON, NOON)
    assert at_noon[Misfire.ONCE].skip is None
    assert {found.next_due for found in at_noon.values()} == {NOON + timedelta(days=1)}


def test_all_is_bound_by_the_window() -> None:
    timing = Every(minutes=10, misfire="all", misfire_window_seconds=1800)
    decision = decide(timing, NOON, NOON + HOUR + timedelta(minutes=1))
    assert minutes_of(decision) == [40, 50, 60]
    assert decision.skip == Skip(SkipReason.MISSED, NOON, minute(30))


def test_years_of_missed_seconds_cost_no_time() -> None:
    for misfire in Misfire:
        decision = decide(Every(seconds=1, misfire=misfire), NOON - timedelta(days=4000), NOON)
        assert len(decision.dispatch) == {"skip": 61, "once": 1, "all": 100}[misfire]
    rare = decide(Cron("0 0 29 2 *"), datetime(1972, 2, 29, tzinfo=UTC), NOON)
    assert rare.dispatch == (datetime(2024, 2, 29, tzinfo=UTC),)


def test_overlap() -> None:
    def found(overlap: str, unfinished: list[int], late: int = 0) -> Decision:
        return decide(Every(minutes=10, overlap=overlap, misfire="all"), NOON, minute(late), unfinished)

    assert (minutes_of(found("allow", [7])), found("allow", [7]).cancel) == ([0], ())
    assert minutes_of(found("skip", [])) == [0]
    skipped = found("skip", [7, 9])
    assert (skipped.dispatch, skipped.next_due) == ((), minute(10))
    assert skipped.skip == Skip(SkipReason.OVERLAP, NOON, NOON, 9)
    assert (minutes_of(found("replace", [7, 9])), found("replace", [9, 7]).cancel) == ([0], (7, 9))
    # Of several at once, `skip` keeps the first, and `replace` the last.
    assert (minutes_of(found("skip", [], 20)), found("skip", [], 20).skip) == (
        [0],
        Skip(SkipReason.OVERLAP, minute(10), minute(20)),
    )
    assert minutes_of(found("replace", [], 20)) == [20]


TIMINGS = st.builds(
    Every,
    seconds=st.integers(1, 500),
    misfire=st.sampled_from(list(Misfire)),
    misfire_grace_seconds=st.integers(0, 120),
    misfire_window_seconds=st.integers(1, 5000),
) | st.builds(
    Cron, st.sampled_from(["*/7 * * * *", "0 12 * * *", "3,9 * * * *"]), misfire=st.sampled_from(list(Misfire))
)


@settings(deadline=None, max_examples=150)
@given(timing=TIMINGS, pauses=st.lists(st.floats(0.01, 4000), min_size=1, max_size=12))
def test_every_occurrence_is_dispatched_once_or_in_a_skip(timing: Timing, pauses: list[float]) -> None:
    due, now = timing.after(NOON), NOON
    assert due is not None
    dispatched: list[datetime] = []
    skips: list[Skip] = []
    for pause in pauses:
        now += timedelta(seconds=pause)
        while due <= now:
            decision = decide(timing, due, now, limit=10)
            dispatched += decision.dispatch
            skips += [decision.skip] if decision.skip else []
            assert decision.next_due is not None
            assert decision.next_due > due
            due = decision.next_due
    expected = list(timing.between(NOON, now))
    left_out = {when for when in expected for skip in skips if skip.first <= when <= skip.last}
    assert len(set(dispatched)) == len(dispatched)
    assert sorted({*dispatched, *left_out}) == expected
    assert not left_out.intersection(dispatched)


def test_jitter_is_the_same_everywhere_and_spread() -> None:
    timing = Every(minutes=1, jitter_seconds=60)
    delays = [delay_of(timing, "nightly", minute(number)).total_seconds() for number in range(200)]
    assert delays == [delay_of(timing, "nightly", minute(number)).total_seconds() for number in range(200)]
    assert min(delays) < 6
    assert max(delays) > 54
    assert min(delays) >= 0
    assert max(delays) <= 60
    assert delay_of(Every(minutes=1), "nightly", NOON) == timedelta(0)


def test_upcoming() -> None:
    assert upcoming(Every(minutes=1, end=minute(2)), NOON, 5) == [NOON, minute(1), minute(2)]
    assert upcoming(Every(minutes=1), None, 5) == []
    assert Every(minutes=1).overlap == Overlap.ALLOW


def test_due_times_that_have_a_job_are_skipped() -> None:
    decision = Decision((NOON, minute(10), minute(20)), minute(30))
    assert without_taken(decision, {}) == decision
    found = without_taken(decision, {minute(10): 8, NOON: 7})
    assert found == Decision((minute(20),), minute(30), Skip(SkipReason.TAKEN, NOON, minute(10), 8))


def test_no_job_is_cancelled_for_a_due_time_that_has_a_job_already() -> None:
    decision = Decision((NOON,), minute(10), cancel=(3, 7))
    assert without_taken(decision, {NOON: 7}).cancel == ()
    assert without_taken(decision, {minute(10): 7}).cancel == (3, 7)


def test_jobs_that_cannot_be_made_skip_all_due_times_of_the_decision() -> None:
    assert not_made(Decision((), minute(10)), NOON, "x") == Skip(SkipReason.INVALID, NOON, NOON, detail="x")
    late = decide(Every(minutes=10), NOON, minute(61))
    assert not_made(late, NOON, "") == Skip(SkipReason.INVALID, NOON, minute(60))
    overlaps = decide(Every(minutes=10, misfire="all", overlap="skip"), NOON, minute(31))
    assert (minutes_of(overlaps), not_made(overlaps, NOON, "").last) == ([0], minute(30))
    assert everything_due(Every(minutes=10), NOON, minute(31)) == Decision((minute(30),), minute(40))
    assert everything_due(Cron("0 12 * * *"), NOON, NOON) == Decision((NOON,), NOON + timedelta(days=1))


def test_skips_of_one_run_are_stored_as_one() -> None:
    timing = Every(minutes=10)

    def invalid(first: int, last: int, detail: str = "") -> Skip:
        return Skip(SkipReason.INVALID, minute(first), minute(last), detail=detail)

    def stored(before: Skip | None, new: Skip, last_due: datetime | None = None) -> Skip:
        return as_one_run(before, new, timing, last_due)

    assert stored(None, invalid(0, 0)) == invalid(0, 0)
    run = stored(invalid(0, 0, "no colour"), invalid(10, 20, "no day"))
    assert run == invalid(0, 20, "no day"), "what is wrong now"
    assert stored(run, invalid(30, 30)) == invalid(0, 30)
    held = Skip(SkipReason.OVERLAP, NOON, NOON, 7)
    assert stored(held, replace(held, first=minute(10), last=minute(10))) == replace(held, last=minute(10))


def test_another_run_begins_with_another_reason_after_a_job_and_after_other_due_times() -> None:
    timing = Every(minutes=10)
    before = Skip(SkipReason.OVERLAP, NOON, minute(10), 7)
    following = replace(before, first=minute(20), last=minute(20))
    for last_due, first in ((minute(-10), NOON), (NOON, minute(20)), (minute(11), minute(20))):
        assert as_one_run(before, following, timing, last_due).first == first
    other = replace(following, reason=SkipReason.TAKEN)
    assert as_one_run(before, other, timing, None) == other
    paused = replace(before, first=minute(60), last=minute(60))
    assert as_one_run(before, paused, timing, None) == paused, "nothing was skipped in a pause, or under other times"
    again = replace(before, first=minute(10))
    assert as_one_run(before, again, timing, None) == again
