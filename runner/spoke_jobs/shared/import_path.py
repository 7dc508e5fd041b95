"""Import what a setting names: ``module``, or ``module:attribute``."""

from __future__ import annotations

import importlib
from typing import Any


class BadImportPath(Exception):
    """Nothing can be imported from the path. The text names the setting, the path, and what is wrong."""


def imported(setting: str, path: str, example: str) -> Any:
    """Return the module, or its attribute.

    :param example: a path as it should be, for the error.
    :raises BadImportPath: if there is no such module or attribute. Errors in the module are raised as they are.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        raise BadImportPath(f"{setting}={path}: a path begins with a module, {example} for example")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise  # the module is there; something that it imports is not
        raise BadImportPath(
            f"{setting}={path}: there is no module {error.name!r} on the Python path; correct the name, or install it"
        ) from None
    if not attribute:
        return module
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise BadImportPath(f"{setting}={path}: {module_name} has no {attribute!r}") from None
