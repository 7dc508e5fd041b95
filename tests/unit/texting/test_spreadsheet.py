"""Values that a spreadsheet would run."""

from __future__ import annotations

import pytest

from texting.spreadsheet import as_text


@pytest.mark.parametrize(
    "value", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "+1 2"]
)
def test_what_would_run_is_made_text(value: str) -> None:
    assert as_text(value) == f"'{value}"


@pytest.mark.parametrize("value", ["", "Ada", "+12125550100", "-5", "-1.5", "a=b", "10 - 2", "'quoted"])
def test_what_would_not_run_stays(value: str) -> None:
    assert as_text(value) == value
