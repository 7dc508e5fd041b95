"""The docstrings below a class's attributes, for references and schemas that are made from them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any, ClassVar

from pydantic import BaseModel, GetJsonSchemaHandler


class Documented(BaseModel):
    """A model whose fields are documented by their docstrings."""

    documented_by: ClassVar[type | None] = None
    """The class whose docstrings document the fields, if these are derived from it."""

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Return what the fields mean, by their names; empty for those that explain themselves.

        The docstrings are read here. pydantic would read them with each import, which takes a command longer than a
        query does.
        """
        said = of_attributes(cls.documented_by) if cls.documented_by else {}
        for model in reversed(cls.__mro__):
            if issubclass(model, Documented):
                said |= of_attributes(model)
        return {name: field.description or said.get(name, "") for name, field in cls.model_fields.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """See pydantic: the meanings are in the schema, too."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, meaning in cls.meanings().items():
            if meaning:
                properties[cls.model_fields[name].alias or name].setdefault("description", meaning)
        return schema


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
