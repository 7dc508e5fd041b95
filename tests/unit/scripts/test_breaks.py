"""`make breaks`: its rules still name a line of the product each, and it finds the tests that come by an edit."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from tests.breaks import notes
from tests.breaks.__main__ import ROOMS, page, row_of, rows_of
from tests.breaks.probes import with_probes
from tests.breaks.rules import BREAKS, SECTIONS, Break

ROOT = Path(__file__).parents[3]


def functions_of(code: CodeType) -> list[tuple[Any, ...]]:
    """What each function in the code does."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    found = [function for each in inner for function in functions_of(each)]
    if code.co_flags & inspect.CO_OPTIMIZED:  # not of a module or a class
        constants = tuple(each for each in code.co_consts if not isinstance(each, CodeType))
        found.append((code.co_qualname, code.co_code, constants, code.co_names, code.co_varnames))
    return found


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.rule)
def test_the_text_that_a_break_replaces_is_in_its_file_exactly_once(broken: Break) -> None:
    source = (ROOT / broken.file).read_text()
    assert source.count(broken.before) == 1
    edited = source.replace(broken.before, broken.after)
    assert functions_of(compile(source, broken.file, "exec")) != functions_of(compile(edited, broken.file, "exec")), (
        "an edit outside of functions is none that can be tried"
    )
    assert any(broken.file.startswith(beginning) for beginning, _ in ROOMS)


def test_each_rule_is_named_once() -> None:
    assert len({item.rule for item in BREAKS}) == len(BREAKS)


def test_the_edits_with_probes_are_still_modules() -> None:
    for file in {item.file for item in BREAKS}:
        edits = {number: item for number, item in enumerate(BREAKS) if item.file == file}
        compile(with_probes((ROOT / file).read_text(), edits), file, "exec")


def test_a_run_is_read_from_its_notes() -> None:
    written = [
        {"is": "begun", "test": "a/test_b.py::one[1]"},
        {"reached": 3, "test": "a/test_b.py::one[1]"},
        {"is": "failed", "test": "a/test_b.py::one[1]"},
        {"is": "ended", "test": "a/test_b.py::one[1]", "seconds": 0.5},
        {"is": "failed", "test": "a/test_b.py::one[2]"},
        {"is": "begun", "test": "a/test_b.py::endless"},
    ]
    run = notes.read(map(json.dumps, written))
    assert run.noticed == ["test_b::one", "test_b::endless"]
    assert (run.seconds, run.reached) == ({"a/test_b.py::one[1]": 0.5}, {3: {"a/test_b.py::one[1]"}})


def test_the_page_keeps_the_entries_of_rules_that_were_not_broken_again() -> None:
    first, second = (items[0].rule for items in list(SECTIONS.values())[:2])
    text = page({first: row_of(first, ["test_a::b"]), second: row_of(second, [])})
    rows = rows_of(text) | {second: row_of(second, ["test_c::d"])}
    assert page(rows).count("## ") == 2
    assert rows == {first: f"- {first}\n  - `test_a::b`", second: f"- {second}\n  - `test_c::d`"}
