"""The table of slow tests names tests that exist, and marks them and no others."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from tests import slow
from tests.slow import SLOW, Slow, is_slow

ROOT = Path(__file__).parents[2]


@cache
def names_in(file: Path) -> frozenset[str]:
    """The names of all functions and classes in a module."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(
        node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )


def names(path: str) -> set[str]:
    """Those in a module, or in the modules of a folder, and in the contract suites."""
    files = [*(ROOT / path).rglob("test_*.py")] if path.endswith("/") else [ROOT / path]
    return {name for file in (*files, *(ROOT / "tests/contract").glob("*.py")) for name in names_in(file)}


@pytest.mark.parametrize("row", SLOW, ids=lambda row: f"{row.path}:{row.case}")
def test_each_row_names_tests_that_exist(row: Slow) -> None:
    assert (ROOT / row.path).exists()
    there = names(row.path)
    for function in row.functions:
        assert any(name.startswith(function) for name in there), function


def test_only_what_a_row_names_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (Slow("tests/a/", ("test_x",), "sqlite", ""), Slow("tests/b.py", (), "", ""))
    monkeypatch.setattr(slow, "SLOW", rows)
    assert is_slow("tests/a/test_m.py::TestC::test_x_y[2-sqlite]")
    assert is_slow("tests/b.py::test_any")
    for other in ("tests/a/test_m.py::test_x[postgres]", "tests/a/test_m.py::test_y[sqlite]", "tests/c.py::test_any"):
        assert not is_slow(other)


@pytest.mark.parametrize(
    "name",
    [
        "test_flaky_tests_are_listed",
        "test_a_process_that_hangs_is_ended",
        "test_a_run_ends[a fixture of the stage fails]",
        "test_a_run_ends[no module]",
        "test_a_run_that_ends_before_all_its_tests_ran",
        "test_processes_that_end_while_they_collect",
        "test_pytest_is_killed",
    ],
)
def test_what_must_fail_a_run_or_be_flaky_in_it_is_in_make_test(name: str) -> None:
    """The second chance could otherwise hide failures, and only a weekly run would notice."""
    path = "tests/unit/second_chance/test_two_runs.py"
    function, bracket, case = name.partition("[")
    (there,) = {found for found in names(path) if found.startswith(function)}
    assert not is_slow(f"{path}::{there}{bracket}{case}")
