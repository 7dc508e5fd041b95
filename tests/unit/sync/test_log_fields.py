"""Sync's lines about a job have its id as a field: one process logs about all jobs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoke_jobs import sync

FILES = sorted(Path(sync.__file__).parent.glob("*.py"))


def lines_about_jobs(file: Path) -> Iterator[ast.Call]:
    """The calls that log a message about a job."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            texts = [item.value for item in node.args if isinstance(item, ast.Constant)]
            described = any(isinstance(item, ast.Call) and "_describe" in ast.unparse(item) for item in node.args)
            logs = name in {"log", "debug", "info", "warning", "error", "exception"}
            if logs and (described or any(str(text).startswith("job %d") for text in texts)):
                yield node


def test_there_are_such_lines() -> None:
    assert sum(len(list(lines_about_jobs(file))) for file in FILES) >= 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_has_the_fields(file: Path) -> None:
    for call in lines_about_jobs(file):
        assert "extra" in {keyword.arg for keyword in call.keywords}, f"{file.name}:{call.lineno}"
