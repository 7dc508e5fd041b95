"""Generate docs/reference/settings.md from the settings."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from spoke_jobs.cli.reference.docstrings import banner, sentence, table
from spoke_jobs.settings import Settings
from spoke_jobs.shared.attribute_docs import of_attributes


def page() -> str:
    """Generate the page."""
    said = of_attributes(Settings)
    rows = [
        (f"`{field.validation_alias}`", _kind(field), _default(field), sentence(said.get(name, "")))
        for name, field in Settings.model_fields.items()
    ]
    return f"""{banner("runner/spoke_jobs/settings.py")}
# Settings

A process reads its settings from the environment when it starts. An empty variable counts as unset. If a value is
invalid, the process names it and refuses to start. `spoke-jobs check` shows what is configured, and what is missing.

A description that begins with a runner (`legacy:`) or a command (`spoke-jobs tasks:`) applies only to that one.

{table(("variable", "type", "default", "meaning"), rows)}

Secrets (type *secret*) are never printed, neither by `check` nor in errors. In a database URL, the password and the
values of the query are masked.
"""


def _kind(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    limits = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    between = f", {limits['ge']:g} to {limits['le']:,}" if limits.keys() == {"ge", "le"} else ""
    if annotation is SecretStr:
        return "secret"
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if isinstance(annotation, types.UnionType):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not types.NoneType)
    names = {bool: "flag", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, str(annotation)) + between


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return ""
    return (
        f"`{value:g}`" if isinstance(value, float) else f"`{str(value).lower() if value in (True, False) else value}`"
    )
