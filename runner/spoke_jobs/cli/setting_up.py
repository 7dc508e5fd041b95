"""The commands that a set-up begins with: `check` and `migrate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import typer

from spoke_jobs.builtin import CHECK
from spoke_jobs.cli import options
from spoke_jobs.cli.exits import Exit, say_wrong, speaks_plainly
from spoke_jobs.cli.opening import open_app, open_ledger
from spoke_jobs.errors import SpokeJobsError
from spoke_jobs.ledger.engine import create_engine, shown
from spoke_jobs.registry import Registry
from spoke_jobs.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What is there of one part of the set-up, or what is wrong with it."""

    name: str
    problem: str = ""


@speaks_plainly
def migrate() -> None:
    """Create or upgrade the ledger's tables in SPOKE_DATABASE_URL."""
    from spoke_jobs.ledger.migrations import migrate as run_migrations
    from spoke_jobs.logs import configure_logging

    configure_logging()
    engine = create_engine(load_settings().database_url.get_secret_value())
    run_migrations(engine)
    print(f"the ledger in {shown(engine.url)} is up to date")


@speaks_plainly
def check(json: options.Json = False) -> None:
    """See that runner, application and database are as they must be; names all that isn't."""
    settings = load_settings()
    registry = Registry()

    def application() -> str:
        nonlocal registry
        registry = open_app(settings)
        return settings.app

    parts = {
        "application": _look(settings.app, application) if settings.app else Finding(""),
        "runner": _look(settings.job_runner, lambda: _runner(settings, registry)),
        "ledger": _look("", lambda: shown(open_ledger(settings).engine.url)),
    }
    if json:
        _print_json(parts, registry)
    else:
        _print_lines(parts, registry)
    if any(part.problem for part in parts.values()):
        raise typer.Exit(Exit.FAILED)


def _runner(settings: Settings, registry: Registry) -> str:
    from spoke_jobs.loader import load_runner

    load_runner(settings, registry)
    return settings.job_runner


def _look(name: str, at: Callable[[], str]) -> Finding:
    try:
        return Finding(at())
    except SpokeJobsError as error:
        return Finding(name, str(error))


def _jobs_of(registry: Registry) -> tuple[str, ...]:
    """The jobs that the application declares."""
    return tuple(name for name in registry.jobs if name != CHECK)


def _print_lines(parts: dict[str, Finding], registry: Registry) -> None:
    runner, application, ledger = parts["runner"], parts["application"], parts["ledger"]
    if not runner.problem:
        print(f"runner       {runner.name}: configured")
    if application.name and not application.problem:
        jobs = _jobs_of(registry)
        print(f"application  {application.name}: {len(jobs)} jobs, {len(registry.tasks)} tasks")
        for name in jobs:
            print(f"             job   {name}")
        for name in registry.tasks:
            print(f"             task  {name}")
    elif not application.problem:
        print("application  SPOKE_APP is not set: fine for a process that only looks")
    if not ledger.problem:
        print(f"ledger       {ledger.name}: migrated")
    said: list[str] = []
    for part in (application, runner, ledger):
        # The runner names a database that is missing, too: once is enough.
        if part.problem and not (part is ledger and "SPOKE_DATABASE_URL" in "".join(said)):
            said.append(part.problem)
            say_wrong(part.problem)


def _print_json(parts: dict[str, Finding], registry: Registry) -> None:
    from spoke_jobs.cli.shapes import Checked, Part, print_document

    shapes = {key: Part(name=part.name, ok=not part.problem, problem=part.problem) for key, part in parts.items()}
    print_document(
        Checked(
            ok=all(part.ok for part in shapes.values()),
            jobs=_jobs_of(registry),
            tasks=tuple(registry.tasks),
            **shapes,
        )
    )
