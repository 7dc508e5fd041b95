"""The table of slow tests names tests that exist, and marks them and no others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests import slow
from tests.slow import SLOW, Slow, is_slow

ROOT = Path(__file__).parents[2]


def names(path: str) -> set[str]:
    """The names of all functions and classes in a module, or in the modules of a folder."""
    files = (ROOT / path).rglob("test_*.py") if path.endswith("/") else [ROOT / path]
    return {
        node.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


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
