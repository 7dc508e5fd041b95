"""Where a worker's search for work starts."""

from __future__ import annotations

from spoke_jobs.ledger.claims.claim_cursor import ClaimCursor, Place

QUICK, SLOW = 0.0005, 0.030
PLACE: Place = (0, 500)


def slow_head(cursor: ClaimCursor, now: float, times: int = 2) -> ClaimCursor:
    for _ in range(times):
        cursor = cursor.after_head(now, SLOW, PLACE)
    return cursor


def test_the_first_search_is_of_the_head() -> None:
    assert ClaimCursor().begin(0.0) is None


def test_as_long_as_the_head_is_quick_it_is_searched_each_time() -> None:
    cursor = ClaimCursor()
    for now in range(20):
        assert cursor.begin(float(now)) is None
        cursor = cursor.after_head(float(now), QUICK * (1 + now % 2), (0, now))


def test_one_slow_search_is_no_reason_to_leave_the_head() -> None:
    cursor = slow_head(ClaimCursor(), 1.0, times=1)
    assert cursor.begin(1.0) is None
    cursor = slow_head(cursor.after_head(1.0, QUICK, PLACE), 1.1, times=1)
    assert cursor.begin(1.1) is None


def test_a_slow_head_is_left_for_where_work_was_found() -> None:
    """Also by a worker that has never seen it quick, because 5,000 jobs of a held queue were there at its start."""
    cursor = slow_head(ClaimCursor(), 1.0)
    assert cursor.begin(1.0) == PLACE
    cursor = cursor.after_place(QUICK, (0, 501))
    assert cursor.begin(1.1) == (0, 501)


def test_the_head_gets_its_turn_again_soon() -> None:
    """After a quarter of a second however slow it is, for urgent jobs; and no sooner, or every other claim is slow."""
    for seconds in (0.005, 60.0):
        cursor = ClaimCursor().after_head(1.0, seconds, PLACE).after_head(1.0, seconds, PLACE).after_place(QUICK, PLACE)
        assert cursor.begin(1.2) == PLACE
        assert cursor.begin(1.26) is None


def test_a_head_that_stays_slow_is_left_again_at_once() -> None:
    cursor = slow_head(ClaimCursor(), 1.0).after_place(QUICK, PLACE).after_head(2.0, SLOW, PLACE)
    assert cursor.begin(2.0) == PLACE


def test_a_head_that_is_quick_again_is_searched_each_time() -> None:
    cursor = slow_head(ClaimCursor(), 1.0).after_place(QUICK, PLACE).after_head(2.0, QUICK, PLACE)
    assert cursor.begin(2.0) is None


def test_where_nothing_is_found_the_head_is_next() -> None:
    assert slow_head(ClaimCursor(), 1.0).after_place(QUICK, None).begin(1.0) is None
    cursor = ClaimCursor().after_head(1.0, SLOW, None).after_head(1.0, SLOW, None)
    assert cursor.begin(1.0) is None


def test_a_database_far_away_is_not_taken_for_a_slow_head() -> None:
    cursor = slow_head(ClaimCursor(), 1.0).after_place(SLOW, PLACE)  # a search from the place is no quicker
    for now in (2.0, 3.0, 4.0):
        cursor = cursor.after_head(now, SLOW * 1.2, PLACE)
        assert cursor.begin(now) is None


def test_the_cursor_adapts_to_a_database_that_has_become_slower() -> None:
    cursor = ClaimCursor().after_head(0.0, QUICK, PLACE)
    now, from_the_head = 1.0, 0
    for _ in range(300):
        if cursor.begin(now) is None:
            cursor = cursor.after_head(now, SLOW, PLACE)
            from_the_head += 1
        else:
            from_the_head = 0
            cursor = cursor.after_place(SLOW, PLACE)
        now += SLOW
    assert from_the_head > 50  # by the end, always
