"""How many jobs a claim asks for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.worker.claiming import rounded


@given(st.integers(1, 10_000))
def test_a_claim_never_asks_for_more_than_there_is_room_for_nor_leaves_a_third_of_it(room: int) -> None:
    assert 2 * room / 3 < rounded(room) <= room


def test_few_numbers_are_asked_for() -> None:
    """Each makes another statement, which PostgreSQL plans by itself."""
    assert sorted({rounded(room) for room in range(1, 101)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
