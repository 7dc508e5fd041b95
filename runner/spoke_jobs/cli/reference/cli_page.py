"""Generate docs/reference/cli.md from the commands, their exit codes and their JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal, Union

import typer

from spoke_jobs.cli.command_line import build_program
from spoke_jobs.cli.commands.command_classes import value_kind
from spoke_jobs.cli.commands.exits import MEANINGS
from spoke_jobs.cli.reference.docstrings import banner, sentence, table, wrapped
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.counts_json import (
    Batches,
    BatchState,
    Events,
    LimitList,
    OutboxReplicas,
    OutboxTask,
    OutboxTasks,
    Stats,
)
from spoke_jobs.explain.groups_json import ReasonGroups
from spoke_jobs.explain.json_output import Checked, Dispatched, Explained, Jobs, Shown
from spoke_jobs.explain.mutes_json import Mutes
from spoke_jobs.explain.schedules_json import Schedules
from spoke_jobs.explain.shape import Shape
from spoke_jobs.explain.sizes_json import Sizes
from spoke_jobs.shared.attribute_docs import of_attributes

DOCUMENTS: tuple[tuple[str, type[Shape]], ...] = (
    ("ls, watch", Jobs),
    ("stats", Stats),
    ("sizes", Sizes),
    ("show", Shown),
    ("why", Explained),
    ("why", ReasonGroups),
    ("check", Checked),
    ("dispatch", Dispatched),
    ("events", Events),
    ("batches ls", Batches),
    ("batches show", BatchState),
    ("limits ls", LimitList),
    ("mutes ls", Mutes),
    ("outbox ls", OutboxTasks),
    ("outbox replicas", OutboxReplicas),
    ("outbox show", OutboxTask),
    ("schedules ls", Schedules),
)
"""The documents, with the commands that print them, in the order of the documentation."""


def page() -> str:
    """Generate the page."""
    group: Any = typer.main.get_command(build_program([]))
    panels: dict[str, list[str]] = {}
    for name, command in group.commands.items():
        panels.setdefault(command.rich_help_panel, []).append(name)
    order = [
        wrapped(f"- {panel}: {', '.join(f'[{name}](#{name})' for name in names)}", "  ")
        for panel, names in panels.items()
    ]
    sections = "\n".join(_command(name, command) for name, command in _commands(group))
    return f"""{banner("spoke_jobs.cli")}
# The command line

`spoke-jobs COMMAND`, or `python -m spoke_jobs COMMAND`. Settings come from the [environment](settings.md).

{chr(10).join(order)}

On a terminal the output has tables, colors and progress bars. Otherwise it has plain lines, with fields separated by
tabs. Line breaks in a job's texts are printed as spaces. Control characters, and those that are invisible or change the
direction of text, are printed as escapes such as `\\x1b`, also in files. Programs should read `--json`. Errors are
printed to standard error.

`spoke-jobs --version` prints the version. `spoke-jobs --install-completion` installs completion of commands and
options for the current shell (bash, zsh, fish or PowerShell). It adds a line to the shell's start-up file, so open a
new shell to use it. `spoke-jobs --show-completion` prints the script instead.

`check`, `dispatch`, `worker`, `tasks` and `run` import the application that `SPOKE_APP` names. They look for it in the
working directory first, then on the Python path.

## Exit codes

{table(("code", "meaning"), [(str(code.value), meaning) for code, meaning in MEANINGS.items()])}

A command for several jobs exits with the highest code among them. `run` is the entrypoint of a pod. The operator reads
its codes:

{table(("code", "meaning"), _exit_codes_of_run())}

{sections}
## JSON

Each call prints one document. Later releases may add fields; they do not rename or remove any. Times are ISO 8601 in
UTC. Payloads are left out, except by `show --payload`. No document contains a secret of the settings. The
`message` and `output_tail` of a failed job may contain the application's values. A value that UTF-8 cannot hold has
U+FFFD in place of lone surrogates. One that is nested more than 250 times is text.

The dashboard serves most of these documents to programs: see [its JSON
API](../how-to/dashboard.md#read-it-from-programs).

{_documents()}
### Codes of `why`

In the meanings, *it* is the job.

{table(("code", "meaning"), _codes())}
"""


def _commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands with their names; those of a group follow it: ``outbox``, ``outbox ls``."""
    for name, command in group.commands.items():
        yield name, command
        for inner, of_group in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", of_group


def _command(name: str, command: Any) -> str:
    said = inspect.cleandoc(command.help or "")
    if hasattr(command, "commands"):
        links = ", ".join(f"[{name} {inner}](#{name}-{inner})" for inner in command.commands)
        return f"## {name}\n\n{said}\n\n{wrapped(f'Its commands: {links}.')}\n"
    usage = " ".join(["spoke-jobs", name, *(_argument(param) for param in _arguments(command))])
    rows = list(_rows(command))
    options = f"\n{table(('option', 'value', 'default', 'meaning'), rows)}\n" if rows else ""
    return f"## {name}\n\n    {usage}{' [OPTIONS]' if rows else ''}\n\n{said}\n{options}"


def _arguments(command: Any) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "argument"]


def _argument(param: Any) -> str:
    name = f"{param.metavar}..." if param.nargs == -1 else str(param.metavar)
    return name if param.required else f"[{name}]"


def _rows(command: Any) -> Iterator[tuple[str, ...]]:
    for param in command.params:
        if param.param_type_name == "argument":
            continue
        flags = ", ".join(f"`{flag}`" for flag in [*param.opts, *param.secondary_opts])
        variable = f" Or by `{param.envvar}`." if param.envvar else ""
        yield flags, _value(param), _default(param), sentence(param.help or "") + variable


def _value(param: Any) -> str:
    if param.is_flag:
        return ""
    if param.metavar:
        return f"`{param.metavar}`"
    return value_kind(param)


def _default(param: Any) -> str:
    if isinstance(param.show_default, str):
        return param.show_default
    if param.default is None or param.is_flag:
        return ""
    return f"`{param.default:g}`" if isinstance(param.default, float) else f"`{param.default}`"


def _documents() -> str:
    """Document each shape once: a document before the shapes within it."""
    parts, done = [], set()
    waiting: list[type[Shape]] = [shape for _, shape in DOCUMENTS]
    while waiting:
        shape = waiting.pop(0)
        if shape in done:
            continue
        done.add(shape)
        meanings = shape.meanings()
        rows = [(f"`{name}`", _kind(field), sentence(meanings[name])) for name, field in shape.model_fields.items()]
        parts.append(f"### {_heading(shape)}\n\n{table(('field', 'type', 'meaning'), rows)}\n")
        waiting += [inner for field in shape.model_fields.values() for inner in _shapes_in(field.annotation)]
    return "\n".join(parts)


def _heading(shape: type[Shape]) -> str:
    """Return the shape's name, with the commands that print it as a document."""
    commands = next((f" ({commands})" for commands, document in DOCUMENTS if document is shape), "")
    return f"{shape.__name__}{commands}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _shapes_in(annotation: Any) -> list[type[Shape]]:
    if inspect.isclass(annotation) and issubclass(annotation, Shape):
        return [annotation]
    return [shape for inner in getattr(annotation, "__args__", ()) for shape in _shapes_in(inner)]


def _kind(field: Any) -> str:
    return _word(field.annotation)


def _word(annotation: Any) -> str:
    names = {"int": "whole number", "str": "text", "bool": "true or false", "float": "number", "datetime": "time",
             "UUID": "UUID", "Any": "any JSON", "NoneType": "null"}  # fmt: skip
    arguments = [inner for inner in getattr(annotation, "__args__", ()) if inner is not Ellipsis]
    origin = getattr(annotation, "__origin__", None)
    if origin is tuple:
        return f"list of {_word(arguments[0])}"
    if origin is dict or (origin is not None and origin is not annotation and "Mapping" in str(origin)):
        return "object"
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if arguments and origin in (None, Union):
        return " or ".join(_word(inner) for inner in arguments)
    name = getattr(annotation, "__name__", str(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, Shape):
        return f"[{name}](#{_anchor(_heading(annotation))})"
    if inspect.isclass(annotation) and issubclass(annotation, str) and hasattr(annotation, "__members__"):
        values: Any = annotation
        return "a code, see below" if annotation is Code else ", ".join(f"`{value.value}`" for value in values)
    return names.get(name, name)


def _exit_codes_of_run() -> list[tuple[str, str]]:
    said = of_attributes(ExitCode)
    return [(str(code.value), said[code.name]) for code in ExitCode]


def _codes() -> list[tuple[str, str]]:
    said = {reason.code.name: reason.meaning for reason in WaitReason} | of_attributes(Code)
    return [(f"`{code.value}`", said.get(code.name, "")) for code in Code]
