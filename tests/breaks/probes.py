"""Find out which tests come by an edit, so that only these run with it.

A probe is a call at the beginning of the function that contains the edit. For an edit outside of functions, each
function of the file gets one.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

from tests.breaks.notes import note
from tests.breaks.rules import Break

_seen: set[tuple[int, str]] = set()
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def reached(number: int) -> None:
    """Note that the current test has come by a probe."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    if (number, test) not in _seen:
        _seen.add((number, test))
        note(reached=number, test=test.rpartition(" (")[0])


def with_probes(source: str, edits: dict[int, Break]) -> str:
    """Return a file's text with a probe for each of these edits, by number."""
    functions = [item for item in ast.walk(ast.parse(source)) if isinstance(item, _Function)]
    calls: dict[int, list[str]] = {}
    for number, item in edits.items():
        line = _line_of(source, item.before)
        around = [function for function in functions if function.lineno <= line <= (function.end_lineno or 0)]
        for function in [max(around, key=lambda found: found.lineno)] if around else functions:
            for first in _first_statement(function):
                call = f'{" " * first.col_offset}__import__("tests.breaks.probes").breaks.probes.reached({number})'
                calls.setdefault(first.lineno, []).append(call)
    lines = source.split("\n")
    return "\n".join(text for at, line in enumerate(lines, 1) for text in (*calls.get(at, ()), line))


def _line_of(source: str, text: str) -> int:
    begins = source.index(text) + len(text) - len(text.lstrip())
    return source.count("\n", 0, begins) + 1


def _first_statement(function: _Function) -> Iterator[ast.stmt]:
    """Yield the first statement after the docstring, if it begins a line."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if body and body[0].lineno > function.lineno:
        first = body[0]
        if isinstance(first, (ast.FunctionDef, ast.ClassDef)) and first.decorator_list:
            return  # its line is that of `def`, below the decorators
        yield first
