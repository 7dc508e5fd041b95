"""The options that select jobs, tasks, batches and events. All commands have these from here."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import wraps
from typing import Annotated, Any

import typer

from spoke_jobs.cli.commands import parsing
from spoke_jobs.cli.commands.arguments import check_number, parse_id
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.executors import Lane
from spoke_jobs.contract.wait_reasons import REASONS
from spoke_jobs.model import JobFilter, JobState
from spoke_jobs.type_names import matches


def _time(flag: str, what: str) -> Any:
    return typer.Option(flag, parser=parsing.past, metavar="TIME", help=what, show_default=False)


def since(what: str) -> Any:
    """Make the option `--since`.

    :param what: what it selects: ``jobs dispatched``.
    """
    return _time("--since", f"Only {what} since then: 2h (ago), or 2026-03-01T08:00Z.")


def until(what: str) -> Any:
    """Make the option `--until`."""
    return _time("--until", f"Only {what} before then.")


def pattern(flag: str, what: str, example: str = "") -> Any:
    """Make an option for a name or a pattern.

    :param what: what it selects: ``jobs of this type``.
    """
    shown = f" ({example!r})" if example else ""
    return typer.Option(flag, help=f"Only {what}, or of all that match a pattern{shown}.", show_default=False)


_OPTIONS: dict[str, tuple[str, Any]] = {
    "state": (
        "states",
        Annotated[
            list[JobState] | None,
            typer.Option(
                "--state",
                help="Only jobs in this state (blocked, waiting, running, succeeded, failed); may be repeated.",
                metavar="STATE",
            ),
        ],
    ),
    "type": ("job_type", Annotated[str | None, pattern("--type", "jobs of this type", "sync_*")]),
    "queue": ("queue_name", Annotated[str | None, pattern("--queue", "jobs of this queue")]),
    "organization": (
        "organization_id",
        Annotated[
            int | None,
            typer.Option(
                "--organization", callback=check_number, help="Only jobs of this organization.", show_default=False
            ),
        ],
    ),
    "campaign": (
        "campaign_id",
        Annotated[
            int | None,
            typer.Option("--campaign", callback=check_number, help="Only jobs of this campaign.", show_default=False),
        ],
    ),
    "batch": (
        "batch_id",
        Annotated[
            int | None,
            typer.Option("--batch", parser=parse_id, metavar="ID", help="Only jobs of this batch.", show_default=False),
        ],
    ),
    "lane": (
        "lane",
        Annotated[
            Lane | None,
            typer.Option(
                "--lane",
                help="Only jobs in this lane (pod, standby, worker) of the runner `kubernetes`.",
                metavar="LANE",
                show_default=False,
            ),
        ],
    ),
    "cause": (
        "cause",
        Annotated[
            str | None,
            typer.Option("--cause", help="Only jobs with this cause: JobError, Timeout, ...", show_default=False),
        ],
    ),
    "fingerprint": (
        "fingerprint",
        Annotated[
            str | None,
            typer.Option(
                "--fingerprint",
                help="Only jobs that failed with this exception at this place, as `spoke-jobs why` prints it.",
                show_default=False,
            ),
        ],
    ),
    "since": ("since", Annotated[datetime | None, since("jobs dispatched")]),
    "until": ("until", Annotated[datetime | None, until("jobs dispatched")]),
}
"""By the option's name: the field of JobFilter, and the parameter's annotation."""


def selects_jobs(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with a parameter ``which`` the options that select jobs, and pass it their JobFilter.

    :param left_out: options that the command does not have.
    """
    names = [name for name in _OPTIONS if name not in left_out]

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(**given: Any) -> None:
            values = {field: given.pop(f"which_{name}", None) for name in names for field in [_OPTIONS[name][0]]}
            values["states"] = tuple(values.get("states") or ()) or None
            if values.get("cause") == "":
                raise typer.BadParameter("it is empty: is a variable of the shell not set?", param_hint="--cause")
            check_period(values["since"], values["until"])
            command(which=JobFilter(**values), **given)

        kind = inspect.Parameter.KEYWORD_ONLY
        options = [inspect.Parameter(f"which_{name}", kind, default=None, annotation=_OPTIONS[name][1])
                   for name in names]  # fmt: skip
        own = [
            parameter.replace(kind=kind) for parameter in inspect.signature(command, eval_str=True).parameters.values()
        ]
        at = next(index for index, parameter in enumerate(own) if parameter.name == "which")
        wrapped.__signature__ = inspect.Signature([*own[:at], *options, *own[at + 1 :]])  # type: ignore[attr-defined]
        return wrapped

    return add


def check_period(since: datetime | None, until: datetime | None) -> None:
    """Refuse a period that ends before it begins."""
    if since is not None and until is not None and until <= since:
        raise typer.BadParameter(
            f"it is {until.isoformat()}, and --since is {since.isoformat()}: nothing is between them",
            param_hint="--until",
        )


def check_filters(which: JobFilter, known: Callable[[JobFilter], bool], types: Callable[[], Iterable[str]]) -> None:
    """Refuse names that nothing has. Call it if the filters select no job: a word may be mistyped.

    :param known: returns whether the ledger has a job that the filter selects.
    :param types: returns the known types.
    :raises typer.BadParameter: with the closest names.
    """
    cause, queue, fingerprint = which.cause, which.queue_name, which.fingerprint
    if cause is not None and not known(JobFilter(cause=cause)):
        if cause in REASONS:
            raise typer.BadParameter(
                f"{cause!r} is a reason to wait, and no cause: `spoke-jobs why` groups the waiting jobs by reason, and "
                f"`spoke-jobs cancel --reason {cause}` selects those that wait for it",
                param_hint="--cause",
            )
        check_cause(cause, CAUSES)
    if which.job_type is not None and not known(JobFilter(job_type=which.job_type)):
        check_type(which.job_type, types)
    if queue is not None and not known(JobFilter(queue_name=queue)):
        which_queue = "in a queue that matches" if "*" in queue else "in the queue"
        raise typer.BadParameter(f"no job is {which_queue} {queue!r}", param_hint="--queue")
    if which.batch_id is not None and not known(JobFilter(batch_id=which.batch_id)):
        raise typer.BadParameter(f"no job is in batch {which.batch_id}", param_hint="--batch")
    if fingerprint is not None and not known(JobFilter(fingerprint=fingerprint)):
        raise typer.BadParameter(
            f"no job has the fingerprint {fingerprint!r}: `spoke-jobs why` prints those of failed jobs",
            param_hint="--fingerprint",
        )


def check_cause(cause: str, known: Iterable[str]) -> None:
    """Refuse a cause that is none of the known ones."""
    names = set(known)
    if cause not in names:
        raise typer.BadParameter(
            f"{cause!r} is none of the causes in docs/reference/causes.md{closest(cause, names)}", param_hint="--cause"
        )


def check_type(job_type: str, types: Callable[[], Iterable[str]], among: str = "no job has") -> None:
    """Refuse a type that no job has and that is none of the types."""
    refuse_name(job_type, types, "type", f"{among} {{}}, and the application declares none", "--type")


def refuse_name(name: str, names: Callable[[], Iterable[str]], kind: str, problem: str, option: str) -> None:
    """Refuse a name or a pattern that none of the names matches.

    :param kind: what it names: ``type``.
    :param problem: what is wrong, with a place for the name: ``no job has {}``.
    :raises typer.BadParameter: with the closest names.
    """
    found = set(names())
    if not any(matches(one, name) for one in found):
        said = f"a {kind} that matches {name!r}" if "*" in name else f"the {kind} {name!r}"
        raise typer.BadParameter(f"{problem.format(said)}{closest(name, found)}", param_hint=option)


def closest(word: str, names: Iterable[str]) -> str:
    """Return a question that names the closest of the names, whatever their case; empty if none is close.

    For a pattern, it names the closest pattern that matches one of the names.
    """
    is_pattern = "*" in word
    by_lower = {str(name).lower(): str(name) for name in (_patterns_like(word, names) if is_pattern else names)}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1 if is_pattern else 3)
    return f". Did you mean {' or '.join(repr(by_lower[name]) for name in found)}?" if found else ""


def _patterns_like(pattern: str, names: Iterable[str]) -> Iterator[str]:
    """Generate patterns that match a name. Each part is as long as the pattern's, or one character shorter or longer.

    A pattern with several stars has none.
    """
    start, _, end = pattern.partition("*")
    if "*" in end:
        return
    for name in names:
        for first in _lengths(start):
            for last in _lengths(end):
                if first + last <= len(name):
                    yield f"{name[:first]}*{name[len(name) - last :]}"


def _lengths(part: str) -> Iterable[int]:
    return range(max(len(part) - 1, 1), len(part) + 2) if part else (0,)
