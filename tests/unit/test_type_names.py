"""Patterns of names on the command line and in mutes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.type_names import matches

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
