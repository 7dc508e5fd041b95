"""Which texts every database can hold, and what becomes of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.shared.clean_text import UNSTORABLE, is_storable, storable

any_text = st.text(st.one_of(st.characters(), st.sampled_from("\0ä\ud800\udfff\U0001f40d")))


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("", True),
        ("plain", True),
        ("schön", True),
        ("a\0", False),
        ("ä\0", False),
        ("\ud800", False),
        ("a\udfff", False),
    ],
)
def test_what_is_storable(text: str, is_so: bool) -> None:
    assert is_storable(text) is is_so


@given(any_text)
def test_what_is_not_is_replaced_and_nothing_else(text: str) -> None:
    stored = storable(text)
    assert is_storable(stored)
    assert len(stored) == len(text)
    assert all(new in (old, UNSTORABLE) for new, old in zip(stored, text, strict=True))
    assert (stored == text) is (is_storable(text))


@given(any_text, st.integers(0, 20))
def test_a_text_is_cut_to_its_limit(text: str, limit: int) -> None:
    assert storable(text, limit) == storable(text)[:limit]
