"""Durations as people read them."""

from __future__ import annotations

import pytest

from spoke_jobs.shared.durations import seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (4.83, "4.8 s"),
        (5, "5 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.96, "1 min"),
        (61.4, "1 min 1 s"),
        (98, "1 min 38 s"),
        (119.96, "1 min 59 s"),
        (200, "3 min 20 s"),
        (600, "10 min"),
        (3600, "1 h"),
        (7199, "1 h 59 min"),
        (7500, "2 h 5 min"),
        (36_600, "10 h"),
        (7 * 86_400, "7 d"),
        (86_400 + 7_300, "1 d 2 h"),
    ],
)
def test_they_have_their_largest_units(value: float, text: str) -> None:
    assert seconds(value) == text
