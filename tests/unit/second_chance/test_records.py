"""Where the runs keep their records."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.second_chance import __main__ as second_chance


@pytest.fixture(autouse=True)
def _report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOKE_TEST_RECORDS", raising=False)
    monkeypatch.setattr(second_chance, "REPORT", tmp_path / "flaky.json")


def test_two_runs_at_once_have_folders_of_their_own_and_leave_none(tmp_path: Path) -> None:
    with second_chance._records() as outer, second_chance._records() as inner:
        assert outer != inner
        assert (list(outer.iterdir()), list(inner.iterdir())) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_in_the_folder_that_the_caller_names_only_records_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home"
    (folder / "cache").mkdir(parents=True)
    for name in ("beside.json", "alone.json", "second.json", "summary", "cache/lastfailed", "thesis.txt"):
        (folder / name).touch()
    monkeypatch.setenv("SPOKE_TEST_RECORDS", str(folder))
    with second_chance._records() as records:
        assert records == folder
        assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert (folder / "thesis.txt").exists()


def test_a_folder_that_the_caller_names_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_TEST_RECORDS", str(tmp_path / "new/records"))
    with second_chance._records() as records:
        assert records.is_dir()
