"""Patterns of names on the command line and in mutes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.type_names import apart, closest, is_known, matches

TEXT = st.text("ab\n", max_size=8)


@given(TEXT, st.text("ab\n*", max_size=8))
def test_a_star_stands_for_any_characters_or_none(text: str, pattern: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert matches(text, pattern) == expected


@given(st.lists(TEXT, min_size=2, max_size=4), TEXT)
def test_what_is_put_in_place_of_the_stars_does_not_matter(parts: list[str], between: str) -> None:
    assert matches(between.join(parts), "*".join(parts))


@pytest.mark.timeout(60)
def test_many_stars_take_no_longer_than_few() -> None:
    """A regular expression would try all ways to divide the text, and stop the whole process meanwhile."""
    assert not matches("a" * 500, "*a" * 100 + "*b")


NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)
TYPES = st.lists(NAMES | NAMES.map(lambda name: f"{name}.*"), unique=True).map(tuple)


@given(TYPES, TYPES, NAMES)
def test_a_job_is_asked_for_once_and_only_by_the_closest_declaration(
    types: tuple[str, ...], others: tuple[str, ...], job_type: str
) -> None:
    asked = [
        group
        for group, left_out in apart(types, others)
        if is_known(job_type, group) and not is_known(job_type, left_out)
    ]
    found = closest(job_type, (*types, *others))
    assert len(asked) == (found in types)
    if asked:
        assert found in asked[0]
