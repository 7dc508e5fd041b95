"""The budgets of the rooms, and what is said of a room that is over its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import budgets
from tests.budgets import over, room_of

BUDGETS = {"e2e": 300.0, "unit/web": 100.0, "unit/cli": 100.0}


@pytest.mark.parametrize(
    ("test", "room"),
    [
        ("tests/unit/web/pages/test_page.py::test_it", "unit/web"),
        ("tests/unit/test_errors.py::test_it", "unit"),
        ("tests/e2e/test_why.py::test_it[one/two]", "e2e"),
    ],
)
def test_a_test_belongs_to_the_room_of_its_folder(test: str, room: str) -> None:
    assert room_of(test) == room


@pytest.mark.parametrize(
    ("took", "late"),
    [
        ({"e2e": 400, "unit/web": 120, "unit/cli": 90}, set()),
        ({"e2e": 300, "unit/web": 200, "unit/cli": 20}, {"unit/web"}),
        ({"e2e": 900, "unit/web": 300, "unit/cli": 300}, set()),  # on a busy machine
        ({"e2e": 900, "unit/web": 900, "unit/cli": 300}, {"unit/web"}),
        ({"e2e": 300, "unit/web": 100, "unit/new": 20}, {"unit/new"}),
    ],
)
def test_a_room_is_over_if_it_takes_half_as_much_again_beside_the_others(
    took: dict[str, float], late: set[str]
) -> None:
    assert over(took, BUDGETS).keys() == late


def test_without_a_run_nothing_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budgets.RECORD_VARIABLE, str(tmp_path / "none"))
    assert budgets.main() == 0
