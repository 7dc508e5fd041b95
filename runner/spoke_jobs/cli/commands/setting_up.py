"""The commands that a set-up begins with: `check` and `migrate`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import Exit, say_wrong, speaks_plainly, wrong_usage
from spoke_jobs.cli.commands.opening import open_app, open_ledger
from spoke_jobs.cli.explaining.reasons import CLUSTER
from spoke_jobs.cluster import kube_environment
from spoke_jobs.cluster.rights import RIGHTS, Account
from spoke_jobs.errors import ConfigurationError, SpokeJobsError
from spoke_jobs.ledger.engine import create_engine, shown
from spoke_jobs.model import JobFilter, JobState
from spoke_jobs.registry import CHECK, Registry
from spoke_jobs.settings import Settings, load_settings

if TYPE_CHECKING:
    from spoke_jobs.cli.explaining.cluster_findings import Look

_LEFT_TO_SYNC = (
    "not asked: `spoke-jobs sync` creates the SpokeJobs (SPOKE_SUBMIT=sync), so that no credentials are needed here; "
    "`check --as sync`, where it runs, sees to its rights"
)
_LOOKED_AT = 100
"""Of how many unfinished jobs it is seen whether they are the operator's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is there of one part of the set-up, or what is wrong with it."""

    name: str
    problem: str = ""


@speaks_plainly
def migrate() -> None:
    """Create or upgrade the ledger's tables in SPOKE_DATABASE_URL."""
    from spoke_jobs.ledger.migrations import migrate as run_migrations
    from spoke_jobs.process.log_setup import configure_logging

    configure_logging()
    engine = create_engine(load_settings().database_url.get_secret_value())
    run_migrations(engine)
    print(f"the ledger in {shown(engine.url)} is up to date")


@speaks_plainly
def check(
    account: Annotated[
        Account | None,
        typer.Option(
            "--as",
            metavar="ACCOUNT",
            help="Whose rights in the cluster: runner (who dispatches; the default), sync, or reader (of `why`, "
            "`show` and `logs`).",
            show_default=False,
        ),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE/NAME",
            help="The operator's Lease, by which it is seen to be at work where no job is.",
            show_default=False,
        ),
    ] = None,
    json: arguments.Json = False,
) -> None:
    """See that runner, application, database and cluster are as they must be; names all that isn't.

    The cluster is asked as this process' own account: what it may do, and whether it would take the SpokeJobs of the
    application's jobs (nothing is created).
    """
    by_lease = tuple(lease.split("/")) if lease else None
    if by_lease is not None and len(by_lease) != 2:
        wrong_usage(f"{lease!r} is no NAMESPACE/NAME")
    settings = load_settings()
    registry = Registry()
    busy = False

    def application() -> str:
        nonlocal registry
        registry = open_app(settings)
        return settings.app

    def ledger() -> str:
        nonlocal busy
        opened = open_ledger(settings)
        unfinished = opened.list_jobs(_LOOKED_AT, JobFilter((JobState.WAITING, JobState.RUNNING)))
        busy = any(job.runner == CLUSTER and job.submitted_at is not None for job in unfinished)
        return shown(opened.engine.url)

    parts = {
        "application": _look(settings.app, application) if settings.app else Finding(""),
        "runner": _look(settings.job_runner, lambda: _runner(settings, registry)),
        "ledger": _look("", ledger),
    }
    cluster = _cluster(settings, registry, parts["runner"], account, by_lease, busy=busy)
    if json:
        _print_json(parts, registry, cluster)
    else:
        _print_lines(parts, registry, cluster)
    if any(part.problem for part in parts.values()) or any(look.problems for look in cluster):
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


def _cluster(
    settings: Settings,
    registry: Registry,
    runner: Finding,
    account: Account | None,
    lease: tuple[str, ...] | None,
    *,
    busy: bool,
) -> tuple[Look, ...]:
    """What is to be said of the cluster; nothing where that is no question, or where its lack is named already."""
    if account is None and settings.job_runner != CLUSTER:
        return ()
    from spoke_jobs.cli.explaining.cluster_findings import Look, looks

    if account is None and settings.submit == "sync":
        return (Look("server", unknown=_LEFT_TO_SYNC),)
    namespace = kube_environment.namespace(settings.namespace)
    named = bool(runner.problem) and account is None
    if not namespace:
        return () if named else (Look("server", problems=("set SPOKE_NAMESPACE (the namespace of the SpokeJobs)",)),)
    if importlib.util.find_spec("kubernetes") is None:
        problem = (
            "the cluster can't be asked without the Python package 'kubernetes': pip install 'spoke-jobs[kubernetes]'"
        )
        return () if named else (Look("server", problems=(problem,)),)
    from spoke_jobs.cluster.cluster_checks import check as read_cluster_view

    asked = account or Account.RUNNER
    definitions = {name: registry.jobs.get(name) for name in _jobs_of(registry)}
    try:
        found = read_cluster_view(namespace, RIGHTS[asked], definitions, lease)
    except ConfigurationError as error:
        return () if named else (Look("server", problems=(str(error),)),)
    types = {name: definition.options.pod_template for name, definition in definitions.items()}
    return tuple(looks(found, asked, types, datetime.now(UTC), busy=busy))


def _print_lines(parts: dict[str, Finding], registry: Registry, cluster: Sequence[Look]) -> None:
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
    for number, look in enumerate(look for look in cluster if look.said or look.unknown):
        words = "; ".join(word for word in (look.said, look.unknown) if word)
        print(f"{'cluster' if number == 0 else '':<13}{look.name:<12}{words}")
    said: list[str] = []
    for part in (application, runner, ledger):
        # The runner names a database that is missing, too: once is enough.
        if part.problem and not (part is ledger and "SPOKE_DATABASE_URL" in "".join(said)):
            said.append(part.problem)
            say_wrong(part.problem)
    for problem in (problem for look in cluster for problem in look.problems):
        say_wrong(problem)


def _print_json(parts: dict[str, Finding], registry: Registry, cluster: Sequence[Look]) -> None:
    from spoke_jobs.cli.rendering.json_output import Checked, ClusterLook, Part, print_document

    shapes = {key: Part(name=part.name, ok=not part.problem, problem=part.problem) for key, part in parts.items()}
    found = tuple(ClusterLook.model_validate(look) for look in cluster)
    print_document(
        Checked(
            ok=all(part.ok for part in shapes.values()) and not any(look.problems for look in found),
            jobs=_jobs_of(registry),
            tasks=tuple(registry.tasks),
            cluster=found,
            **shapes,
        )
    )
