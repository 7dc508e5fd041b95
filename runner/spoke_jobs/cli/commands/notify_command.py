"""`notify`: send notices about failed jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

import typer

from spoke_jobs.cli.commands import parsing
from spoke_jobs.cli.commands.exits import fail, logs_errors
from spoke_jobs.cli.commands.ledger_access import open_engine
from spoke_jobs.cli.printing import print_text
from spoke_jobs.explain.words import count
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection

_SHORTEST_SECONDS = 1.0
_PERIOD_SECONDS, _QUIET_SECONDS, _EVERY_SECONDS = 3_600.0, 86_400.0, 10.0


def _seconds(text: str) -> float:
    seconds = parsing.duration(text)
    if seconds < _SHORTEST_SECONDS:
        raise ValueError(f"{text!r} is too short: give at least {_SHORTEST_SECONDS:g}s")
    return seconds


@logs_errors
def notify(
    once: Annotated[bool, typer.Option("--once", help="Look once, send what is due, and exit.")] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test to each receiver, and exit. It needs no database.")
    ] = False,
    period: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="DURATION",
            help="The shortest time between two digests of known failures (30m, 1h).",
            show_default="1h",
        ),
    ] = None,
    quiet: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="DURATION",
            help="After such a time without a failure, a group of failures is new again.",
            show_default="1d",
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            parser=_seconds, metavar="DURATION", help="How often to look for failed jobs.", show_default="10s"
        ),
    ] = None,
    messages: Annotated[
        bool,
        typer.Option("--messages", help="Also send the message of one failed job of each group. It may hold values."),
    ] = False,
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Serve /healthz on this port.")
    ] = None,
) -> None:
    """Send messages about failed jobs to a webhook or to Slack, until SIGTERM.

    Failed jobs are grouped by type, cause and fingerprint. A new group is reported at once, and further failures in a
    digest. Settings whose names begin with SPOKE_NOTIFY name the receivers. If several processes run, one is active and
    the others stand by.
    """
    try:
        with garbage_collection.paused():
            from spoke_jobs.notices.notice_decisions import Rhythm
            from spoke_jobs.notices.notice_pass import NoticeOptions
            from spoke_jobs.notices.notify_process import Notify, run, send_tests, senders_of
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs notify` needs the Python package {error.name!r}: pip install 'spoke-jobs[notify]'")

    settings = load_settings()
    senders = senders_of(settings)
    if test:
        sent = send_tests(senders, settings.notify_name)
        for channel, delivery in sent.items():
            print_text(f"{channel}: {'sent' if delivery.delivered else 'not sent'}")
        _refuse({channel.value: delivery.problem for channel, delivery in sent.items()}, "the test")
        return
    rhythm = Rhythm(timedelta(seconds=period or _PERIOD_SECONDS), timedelta(seconds=quiet or _QUIET_SECONDS))
    options = NoticeOptions(rhythm, messages, settings.notify_name, settings.notify_dashboard_url)
    process = Notify(open_engine(settings), senders, options)
    if not once:
        run(process, every or _EVERY_SECONDS, health_port)
        return
    try:
        results = process.once()
    finally:
        process.close()
    for channel, result in results.items():
        if not result.held:
            print_text(f"{channel}: another process sends")
        else:
            print_text(f"{channel}: sent {count(result.sent, 'notice')}, {result.waiting} waiting")
    problems = {channel.value: result.problem for channel, result in results.items()}
    _refuse(problems, "a notice", "The next call tries again")


def _refuse(problems: Mapping[str, str], what: str, then: str = "") -> None:
    """Exit with an error if there is a problem with a receiver."""
    if found := [f"the {channel}: {problem}" for channel, problem in problems.items() if problem]:
        fail(f"{what} could not be sent to {'; '.join(found)}{f'. {then}' if then else ''}")
