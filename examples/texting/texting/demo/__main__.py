"""``python -m texting.demo``: run everything on this machine. ``--cluster``: use a cluster's worker and carrier.

``--web``: then show the jobs in a browser.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from spoke_jobs import SpokeJobsError, close, configure
from spoke_jobs.cli.rendering.job_table import job_table
from spoke_jobs.ledger.migrations import migrate
from texting.database import engine
from texting.demo.checks import check_table
from texting.demo.drive import JobFailedError, Outcome, Plan, drive
from texting.demo.services import ServiceFailedError, local_services
from texting.demo.watching import Stalled
from texting.schema import create_tables

_EXPECTED = (SpokeJobsError, DBAPIError, httpx.HTTPError, JobFailedError, ServiceFailedError, Stalled)


def main() -> None:
    """Run the demonstration. Exit code 0 if every number is right, 1 if not, 130 when interrupted."""
    options = _options()
    console = Console()
    if not console.is_terminal:
        console.width = 120  # without a terminal the default is 80 columns, too narrow for the tables
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # a shell ignores SIGINT in commands that it starts in the background
    begun = time.monotonic()
    try:
        outcome = _run(options, console)
    except KeyboardInterrupt:
        console.print("\ninterrupted; what was started has been stopped")
        sys.stdout.flush()
        os._exit(130)  # a normal exit would first try to send all messages that this process still holds
    except _EXPECTED as error:
        console.print(f"[bold red]error:[/] {type(error).__name__}: {error}", highlight=False, markup=True)
        sys.stdout.flush()
        os._exit(1)
    _report(outcome, console, time.monotonic() - begun)
    for line in _suggestions(options):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not all(check.holds for check in outcome.checks):
        sys.exit(1)
    if options.web is not None:
        _become_dashboard(options.web)
    sys.exit(0)


def _run(options: argparse.Namespace, console: Console) -> Outcome:
    plan = Plan(rows=options.rows, seed=options.seed, messages=options.messages)
    runner = os.environ.get("JOB_RUNNER") or "legacy"
    if options.cluster:
        create_tables()
        configure()
        console.print(f"[bold]spoke-jobs demonstration[/], runner {runner}\n", highlight=False)
        return drive(plan, console)
    folder: Path = options.folder
    _prepare(folder)
    configure()
    console.print(f"[bold]spoke-jobs demonstration[/], runner {runner}, {_database()}\n", highlight=False)
    with local_services(folder) as services:
        return drive(plan, console, services)


def _prepare(folder: Path) -> None:
    """Create both sets of tables, in a new database unless the environment names one."""
    folder.mkdir(exist_ok=True)
    os.environ["SPOKE_APP"] = "texting.jobs"
    if not os.environ.get("SPOKE_DATABASE_URL"):
        for old in folder.glob("demo.sqlite3*"):
            old.unlink()
        os.environ["SPOKE_DATABASE_URL"] = f"sqlite:///{folder / 'demo.sqlite3'}"
    migrate(engine())
    create_tables()


def _suggestions(options: argparse.Namespace) -> Iterator[str]:
    """Yield what to do now. The dashboard comes last, because the last line is what people try."""
    command = f"SPOKE_DATABASE_URL={_database()} .venv/bin/spoke-jobs"
    if not options.cluster:
        yield f"Look at its jobs: {command} ls"
    if options.later:
        yield f"Later: {options.later}"
    if not options.cluster:
        yield f"Next: {command} web --insecure-local"


def _become_dashboard(port: int) -> NoReturn:
    """Replace this process by the dashboard of its database, until Ctrl-C."""
    close()
    engine().dispose()
    sys.stdout.flush()
    # The console script next to this Python interpreter, independent of PATH.
    program = str(Path(sys.executable).with_name("spoke-jobs"))
    os.execv(program, [program, "web", "--insecure-local", "--port", str(port)])  # noqa: S606  (our own command)


def _database() -> str:
    return engine().url.set(drivername=engine().url.get_backend_name()).render_as_string(hide_password=True)


def _report(outcome: Outcome, console: Console, seconds: float) -> None:
    console.print("\n[bold]The JobRequest table[/]")
    console.print(job_table(outcome.jobs))
    console.print("\n[bold]The numbers, against the file[/]")
    console.print(check_table(outcome.checks))
    wrong = [check for check in outcome.checks if not check.holds]
    verdict = (
        f"[bold red]{len(wrong)} of {len(outcome.checks)} checks failed[/]" if wrong else "[bold green]all right[/]"
    )
    repeats = f"{outcome.repeats:,}" if outcome.repeats else "no"
    dropped = f"{repeats} repeated {'message' if outcome.repeats == 1 else 'messages'} dropped by the carrier"
    console.print(f"\n{verdict}, in {seconds:.1f} s; {dropped}", highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m texting.demo",
        description="Import a file, assign texters, send messages, export, and check the numbers.",
    )
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the contacts file")
    parser.add_argument("--messages", type=int, default=2_000, help="messages to send")
    parser.add_argument("--seed", type=int, default=7, help="another seed makes another file")
    parser.add_argument("--cluster", action="store_true", help="start nothing: worker and carrier run already")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where database and logs go")
    parser.add_argument("--later", default="make test", help="what else to suggest at the end; empty: nothing")
    parser.add_argument(
        "--web", type=int, nargs="?", const=8081, metavar="PORT", help="then serve the dashboard, on 8081 by default"
    )
    return parser.parse_args()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    logging.disable()  # errors from here on only mean that the carrier is being stopped
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
