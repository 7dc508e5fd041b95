"""Python code in the documentation is valid Python, and calls the public functions as they are declared."""

from __future__ import annotations

import ast
import inspect
import re

from tests.unit.docs.typed_blocks import PAGES, ROOT

from spoke_jobs import JobContext, TaskContext, api

BLOCK = re.compile(r"^```python\b[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
DECORATOR = "@"
CONTEXT_NAMES = {name for kind in (JobContext, TaskContext) for name in (*dir(kind), *kind.__annotations__)}


def code_of(block: str) -> str:
    """Complete a block that ends with a decorator, which a page may show alone."""
    return block + "def function(): ...\n" if block.splitlines()[-1].startswith(DECORATOR) else block


def parsed_blocks() -> list[tuple[str, ast.Module]]:
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            try:
                found.append((str(page.relative_to(ROOT)), ast.parse(code_of(block))))
            except SyntaxError as error:
                raise AssertionError(f"{page.relative_to(ROOT)}: {error.text!r}") from None
    return found


def problem_of(call: ast.Call) -> str:
    """Say why a call of a public function can't work; empty if it can."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in api.__all__ or any(isinstance(item, ast.Starred) for item in call.args):
        return ""
    given = [ast.unparse(item) for item in call.args]
    named = {item.arg: item.value for item in call.keywords if item.arg is not None}
    if given == ["..."]:  # left out on purpose
        return ""
    try:
        inspect.signature(getattr(api, name)).bind(*given, **named)
    except (TypeError, ValueError) as error:
        return f"{ast.unparse(call)}: {error}"
    return ""


def test_every_python_block_parses() -> None:
    assert len(parsed_blocks()) > 15


def test_public_functions_are_called_as_they_are_declared() -> None:
    problems = [
        f"{page}: {problem}"
        for page, tree in parsed_blocks()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (problem := problem_of(node))
    ]
    assert problems == []


def test_a_context_has_the_attributes_that_the_pages_use() -> None:
    used = {
        (page, node.attr)
        for page, tree in parsed_blocks()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ctx"
    }
    assert used
    # `cancel`, `reports` and `result` are those of the context that docs/testing.md makes for a test.
    assert {item for item in used if item[1] not in CONTEXT_NAMES | {"cancel", "reports", "result"}} == set()
