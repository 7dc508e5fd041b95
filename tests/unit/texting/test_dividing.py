"""Who gets which contacts, for every campaign there can be: nobody twice, nobody lost, and the same after any stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from texting.dividing import Division, Move, Share, Unwritten, divide

TEXTERS = range(1, 6)
STRANGER = 99
"""Holds contacts and isn't listed."""

numbers = st.none() | st.integers(0, 12)


@st.composite
def campaigns(draw: st.DrawFn) -> tuple[list[Share], list[Unwritten], bool]:
    """Shares, unwritten contacts, and whether texters take them when they ask."""
    dynamic = draw(st.booleans())
    # Sizes are drawn first: left to themselves lists come out short, and few campaigns would have more than enough.
    listed = draw(st.permutations(TEXTERS))[: draw(st.integers(0, len(TEXTERS)))]
    shares = [
        Share(texter, None if dynamic else draw(numbers), draw(numbers), draw(st.integers(0, 6))) for texter in listed
    ]
    size = draw(st.integers(0, 30))
    holders = draw(st.lists(st.sampled_from([None, STRANGER, *TEXTERS]), min_size=size, max_size=size))
    contacts = [Unwritten(key, holder, draw(st.integers(0, 5)) == 0) for key, holder in enumerate(holders, 10)]
    return shares, contacts, dynamic


def moved(contacts: Sequence[Unwritten], moves: Iterable[Move]) -> list[Unwritten]:
    """The contacts after some moves."""
    now = {contact.contact: contact for contact in contacts}
    for move in moves:
        now[move.contact] = now[move.contact]._replace(texter=move.texter)
    return list(now.values())


def held(contacts: Sequence[Unwritten]) -> Counter[int | None]:
    return Counter(contact.texter for contact in contacts if not contact.opted_out)


@given(campaigns())
def test_it_comes_to_what_it_says(campaign: tuple[list[Share], list[Unwritten], bool]) -> None:
    shares, contacts, dynamic = campaign
    division = divide(shares, contacts, dynamic=dynamic)
    after = moved(contacts, division.moves)

    assert len({move.contact for move in division.moves}) == len(division.moves), "moved twice"
    before = {contact.contact: contact.texter for contact in contacts}
    assert all(before[move.contact] != move.texter for move in division.moves), "moved to where it was"
    assert held(after) == Counter({**division.unwritten, None: division.left_over})
    assert all(contact.texter is None for contact in after if contact.opted_out)
    assert STRANGER not in held(after)


@given(campaigns())
def test_nobody_gets_more_than_they_want_or_may_have(campaign: tuple[list[Share], list[Unwritten], bool]) -> None:
    shares, contacts, dynamic = campaign
    unwritten = divide(shares, contacts, dynamic=dynamic).unwritten
    for share in shares:
        for bound in (share.wanted, share.maximum):
            if bound is not None:
                assert share.written + unwritten[share.texter] <= max(bound, share.written)


@given(campaigns(), st.data())
def test_stopped_anywhere_the_next_run_does_exactly_the_rest(
    campaign: tuple[list[Share], list[Unwritten], bool], data: st.DataObject
) -> None:
    shares, contacts, dynamic = campaign
    division = divide(shares, contacts, dynamic=dynamic)
    made = data.draw(st.integers(0, len(division.moves)))
    again = divide(shares, moved(contacts, division.moves[:made]), dynamic=dynamic)
    assert again == replace(division, moves=division.moves[made:])


@given(campaigns(), st.data())
def test_what_texters_write_to_theirs_afterwards_changes_nothing(
    campaign: tuple[list[Share], list[Unwritten], bool], data: st.DataObject
) -> None:
    shares, contacts, dynamic = campaign
    after = moved(contacts, divide(shares, contacts, dynamic=dynamic).moves)
    theirs = [contact for contact in after if contact.texter is not None]
    written = set(data.draw(st.lists(st.sampled_from(theirs), unique=True))) if theirs else set()
    done = Counter(contact.texter for contact in written)
    shares = [replace(share, written=share.written + done[share.texter]) for share in shares]
    again = divide(shares, [contact for contact in after if contact not in written], dynamic=dynamic)
    assert again.moves == []


@given(campaigns())
def test_no_more_contacts_change_hands_than_have_to(campaign: tuple[list[Share], list[Unwritten], bool]) -> None:
    """A texter either gives or gets, and who gives keeps the first of what they had."""
    shares, contacts, dynamic = campaign
    division = divide(shares, contacts, dynamic=dynamic)
    holder = {contact.contact: contact.texter for contact in contacts if not contact.opted_out}
    gave = {holder[move.contact] for move in division.moves if move.contact in holder} - {None}
    got = {move.texter for move in division.moves} - {None}
    assert not gave & got
    for texter in gave - {STRANGER}:
        theirs = [key for key, whose in holder.items() if whose == texter]
        lost = {move.contact for move in division.moves if move.contact in theirs}
        assert lost == set(theirs[len(theirs) - len(lost) :])


@given(campaigns())
def test_contacts_are_left_over_only_when_nobody_may_have_them(
    campaign: tuple[list[Share], list[Unwritten], bool],
) -> None:
    shares, contacts, dynamic = campaign
    division = divide(shares, contacts, dynamic=dynamic)
    if not dynamic and division.left_over:
        for share in shares:
            bounds = [bound for bound in (share.wanted, share.maximum) if bound is not None]
            assert bounds, "a texter who takes any number was there"
            assert share.written + division.unwritten[share.texter] >= min(bounds)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 60))
def test_who_wants_no_number_gets_an_equal_part_of_the_whole(done: list[int], available: int) -> None:
    shares = [Share(texter, written=count) for texter, count in enumerate(done)]
    division = divide(shares, [Unwritten(key, None) for key in range(available)], dynamic=False)
    totals = {share.texter: share.written + division.unwritten[share.texter] for share in shares}
    given_any = [totals[texter] for texter, count in division.unwritten.items() if count]
    assert sum(division.unwritten.values()) == available
    if given_any:
        assert max(given_any) - min(totals.values()) <= 1, "a texter with fewer was passed over"


@pytest.mark.parametrize(
    ("shares", "contacts", "unwritten", "left_over"),
    [
        pytest.param([Share(1), Share(2), Share(3)], 10, {1: 4, 2: 3, 3: 3}, 0, id="equally, the first gets the rest"),
        pytest.param([Share(1, wanted=7), Share(2, wanted=7)], 10, {1: 7, 2: 3}, 0, id="short: the first come first"),
        pytest.param([Share(1, wanted=2), Share(2, wanted=3)], 10, {1: 2, 2: 3}, 5, id="enough: the rest is nobody's"),
        pytest.param([Share(1), Share(2, wanted=6)], 10, {1: 4, 2: 6}, 0, id="a number, and the rest"),
        pytest.param([Share(1, maximum=2), Share(2)], 10, {1: 2, 2: 8}, 0, id="a maximum"),
        pytest.param([Share(1, wanted=5, written=3)], 10, {1: 2}, 8, id="written ones are among the wanted"),
        pytest.param([Share(1, wanted=5, written=9)], 10, {1: 0}, 10, id="more written than wanted"),
        pytest.param([Share(1, written=4), Share(2)], 10, {1: 3, 2: 7}, 0, id="equal with the written ones"),
        pytest.param([], 3, {}, 3, id="no texters"),
        pytest.param([Share(1), Share(2)], 0, {1: 0, 2: 0}, 0, id="no contacts"),
    ],
)
def test_numbers(shares: list[Share], contacts: int, unwritten: dict[int, int], left_over: int) -> None:
    division = divide(shares, [Unwritten(key, None) for key in range(contacts)], dynamic=False)
    assert (division.unwritten, division.left_over) == (unwritten, left_over)


def test_the_summary_tells_the_end_whatever_was_done_before() -> None:
    division = Division([], {1: 3, 2: 0}, written=4, left_over=5)
    assert division.summary() == {"texters": 2, "assigned": 7, "written": 4, "unassigned": 5}
