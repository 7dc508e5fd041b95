"""Read the docstrings below a class's attributes, for references and schemas that are made from them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap


def of_attributes(cls: type) -> dict[str, str]:
    """Return the docstrings below a class's attributes, by attribute, as Markdown on one line.

    A class that was made at run time has none.
    """
    try:
        source = inspect.getsource(cls)
    except OSError:
        return {}
    (tree,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        name = _assigned(before)
        if name and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[name] = plain(str(after.value.value))
    return found


def _assigned(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


def plain(text: str) -> str:
    """Convert reStructuredText to Markdown on one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())
