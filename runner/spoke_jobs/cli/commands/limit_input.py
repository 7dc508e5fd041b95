"""Read the file of `limits apply`: JSON, or YAML if PyYAML is installed (it comes with the Kubernetes client)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from spoke_jobs.errors import InvalidLimit
from spoke_jobs.shared.clean_text import short_repr

_MOST_CHARACTERS = 4_000_000


def read_file(name: str, standard_input: IO[str]) -> object:
    """Return what a file holds.

    :param name: the file's path, or ``-`` for standard input.
    :raises InvalidLimit: if it can't be read, or is neither JSON nor YAML.
    """
    where = "standard input" if name == "-" else name
    try:
        if name == "-":
            text = standard_input.read(_MOST_CHARACTERS + 1)
        else:
            with Path(name).open(encoding="utf-8") as file:
                text = file.read(_MOST_CHARACTERS + 1)  # the file may have no end
    except OSError as error:
        raise InvalidLimit(f"{where} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidLimit(f"{where} is not UTF-8") from None
    if len(text) > _MOST_CHARACTERS:
        raise InvalidLimit(f"{where} has more than {_MOST_CHARACTERS:,} characters")
    return parse(text, where)


def parse(text: str, where: str = "it") -> object:
    """Parse JSON or YAML.

    :raises InvalidLimit: saying where the mistake is.
    """
    try:
        return json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        problem = f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        problem = f"{where} can't be read as JSON: a number is too long, or the nesting is too deep"
    try:
        import yaml
    except ModuleNotFoundError:
        raise InvalidLimit(f"{problem}. To read YAML, install PyYAML: pip install pyyaml") from None
    try:

        class Loader(yaml.SafeLoader):
            def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
                self.flatten_mapping(node)
                _once_each([(self.construct_object(key, deep=True), None) for key, _ in node.value])
                return super().construct_mapping(node, deep)

        return yaml.load(text, Loader)  # noqa: S506  (it is a safe one)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise InvalidLimit(
            f"{where} is neither JSON nor YAML: {getattr(error, 'problem', None) or error}{at}"
        ) from None
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError, OverflowError) as error:
        # PyYAML lets these through: a date that does not exist, a mapping as a key, very deep nesting.
        raise InvalidLimit(f"{where} can't be read as YAML: {type(error).__name__}") from None


def _once_each(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make a mapping.

    :raises InvalidLimit: if a key stands twice: of a mistake in merging two files, one half would get lost unseen.
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidLimit(f"{short_repr(key)} stands twice in one entry")
        found[key] = value
    return found
