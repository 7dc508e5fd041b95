"""`dispatch`: dispatch a job. Each option of a dispatch has a flag."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.printing import print_row, print_text
from spoke_jobs.contract.option_checks import AUTO
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.explain.words import line
from spoke_jobs.job_options import DISPATCH_NAMES, OPTIONS, After, JobData, Labels, Option, Resources
from spoke_jobs.settings import load_settings

_Value = TypeVar("_Value")


def _by(parse: Callable[[str], _Value]) -> Callable[[Any], _Value]:
    """Make a parser for typer: a ValueError of `parse` becomes a usage error, exit code 2."""

    def parser(text: Any) -> _Value:
        try:
            return parse(text) if isinstance(text, str) else text
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def _json(text: str) -> Any:
    return parsing.json_of(text, "it")


def _resources(text: str) -> Any:
    return text if text == AUTO else _json(text)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a value of one type is written on the command line."""

    parse: Callable[[str], Any]
    metavar: str
    example: str


_KINDS: dict[Any, _Kind] = {
    float: _Kind(parsing.duration, "DURATION", "90s, 5m, 2h, 7d"),
    datetime: _Kind(parsing.moment, "TIME", "2026-03-01T09:00+01:00, or +10m"),
    RetryPolicy: _Kind(parsing.retry_policy, "JSON", '{"budget": {"error": 5}}'),
    Resources: _Kind(_resources, "JSON", '{"limits": {"memory": "1Gi"}}, or auto'),
    After: _Kind(parsing.job_ids, "IDS", "12,13"),
    Labels: _Kind(_json, "JSON", '{"team": "payments"}'),
}
"""By the type of a field of JobData. typer parses the other types."""


def _flag(option: Option, annotation: Any) -> inspect.Parameter:
    """Make the flag for an option of a job."""
    flag = option.flag or f"--{option.name.replace('_', '-')}"
    plain = reduce(or_, (kind for kind in get_args(annotation) if kind is not type(None)))
    text = option.doc.replace("`", "")
    kind = _KINDS.get(plain)
    shown = typer.Option(
        f"{flag}/--no-{flag[2:]}" if plain is bool else flag,
        help=f"{text} Written as {kind.example}." if kind else text,
        parser=_by(kind.parse) if kind else None,
        metavar=kind.metavar if kind else None,
        show_default=False,
    )
    annotation = Annotated[Any if plain in (Resources, Labels, After) else annotation, shown]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def with_flags(names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a flag for each of these options of a dispatch to a command that takes ``**options``."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(JobData)
        *own, _ = inspect.signature(command, eval_str=True).parameters.values()
        flags = [_flag(OPTIONS[name], hints[name]) for name in names]
        first = [parameter for parameter in own if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
        command.__signature__ = inspect.Signature([*first, *flags, *own[len(first) :]])  # type: ignore[attr-defined]
        return command

    return add


@reports_errors
@with_flags(DISPATCH_NAMES)
def dispatch(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job's type, as SPOKE_APP declares it.")],
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload",
            help="The payload: JSON, @file, or - for standard input.",
            metavar="JSON|@FILE|-",
            show_default=False,
        ),
    ] = None,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the job's end, as `watch` does. Exit code 1 if it fails.")
    ] = False,
    json: arguments.Json = False,
    **options: Any,
) -> None:
    """Dispatch a job with the runner that JOB_RUNNER names. An option that you leave out has its declared value."""
    try:
        value = parsing.payload(payload, sys.stdin)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--payload") from None
    job = _dispatch(JobData(job_type, value, **options))
    if wait:
        _watch(job.id, json)
    elif json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Dispatched, JobRow

        print_document(Dispatched(job=JobRow.of(job)))
    elif arguments.on_a_terminal():
        print_text(f"job {job.id} ({line(job.job_type)}): {job.state}")
    else:
        print_row(job.id, line(job.job_type), job.state)


def _watch(job_id: int, json: bool) -> None:
    """Wait for the job as `watch` does."""
    from spoke_jobs.cli.commands.ledger_access import open_queries
    from spoke_jobs.cli.commands.watch_command import until_ended

    until_ended(open_queries(), [job_id], json)


def _dispatch(data: JobData) -> Any:
    from spoke_jobs.dispatch import dispatch_job, use_runner
    from spoke_jobs.loader import load_runner

    settings = load_settings()
    if settings.job_runner.strip() == "memory":
        raise ConfigurationError(
            "JOB_RUNNER=memory keeps jobs in the memory of this process, which exits now: set another runner"
        )
    runner = load_runner(settings, open_application(settings))
    with use_runner(runner):  # for jobs that this job dispatches, if it runs in this process
        job = dispatch_job(data)
        runner.close()
    return job
