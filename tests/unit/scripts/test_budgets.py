"""The budgets of the rooms, and what is said of a room that is over its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
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


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Commits a change of a file, in a repository whose last run had one room over its budget."""
    monkeypatch.setattr(budgets, "ROOT", tmp_path)
    monkeypatch.setattr(budgets, "FILE", tmp_path / "tests/budgets.toml")
    monkeypatch.setenv(budgets.RECORD_VARIABLE, str(tmp_path / "cache/rooms.json"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    def change(name: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("changed")
        git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run([*git, "add", name], check=True)
        subprocess.run([*git, "commit", "-qm", name], check=True)

    change("README.md")
    budgets.record({"unit/new": 100.0}, tmp_path / "cache/rooms.json")
    return change


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("runner/code.py", 1),
        ("tests/unit/other/test_it.py", 1),
        ("tests/unit/new/test_it.py", 0),
        ("tests/budgets.toml", 0),
    ],
)
def test_the_next_change_has_to_do_something_about_it(commit: Callable[[str], None], name: str, code: int) -> None:
    assert budgets.main() == 0, "the run's own commit"
    commit(name)
    assert budgets.main() == code


def test_without_a_run_nothing_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budgets.RECORD_VARIABLE, str(tmp_path / "none"))
    assert budgets.main() == 0
