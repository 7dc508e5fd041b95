"""`check`: find what is missing or wrong in the set-up."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import Engine

from spoke_jobs.cli.commands import arguments, role_options
from spoke_jobs.cli.commands.application import add_working_directory, open_application
from spoke_jobs.cli.commands.exits import Exit, reports_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.cli.printing import print_error
from spoke_jobs.cluster import kube_environment
from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.contract.executors import Executor, executor_of
from spoke_jobs.errors import ConfigurationError, MissingSettings, SpokeJobsError
from spoke_jobs.ledger.access.privileges import Process, compare
from spoke_jobs.ledger.access.role_privileges import held_privileges
from spoke_jobs.ledger.engine import place
from spoke_jobs.ledger.limits_and_pauses.limit_rows import ledger_identity
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import UNFINISHED, JobFilter
from spoke_jobs.registry import CHECK, Registry
from spoke_jobs.settings import Settings, load_settings

if TYPE_CHECKING:
    from spoke_jobs.explain.cluster_findings import Finding
    from spoke_jobs.explain.set_up import RoleFinding, SetUpPart

_LEFT_TO_SYNC = (
    "not checked: `spoke-jobs sync` creates the SpokeJobs (SPOKE_SUBMIT=sync), so this process needs no credentials; "
    "to check the rights of sync, run `check --as sync` where sync runs"
)
_UNFINISHED = JobFilter(states=UNFINISHED)
_UNFINISHED_READ = 100
"""How many unfinished jobs are read to see whether one of them is in the cluster."""


@reports_errors
def check(
    account: Annotated[
        Account | None,
        typer.Option(
            "--as",
            metavar="ACCOUNT",
            help="Whose rights in the cluster to check: runner (dispatches jobs; the default), sync, or reader (`why`, "
            "`show` and `logs`).",
            show_default=False,
        ),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE/NAME",
            help="Read this Lease to see whether an operator runs, also while there are no jobs.",
            show_default=False,
        ),
    ] = None,
    role: role_options.Roles = None,
    json: arguments.Json = False,
) -> None:
    """Check the runner, the application, the database and the cluster, and name everything that is wrong.

    In the cluster it uses this process's own credentials. It checks which rights they have, and whether the API server
    would accept a SpokeJob of each of the application's jobs. That is a dry run, which creates nothing.
    """
    by_lease = tuple(lease.split("/")) if lease else None
    if by_lease is not None and len(by_lease) != 2:
        usage_error(f"{lease!r} is not of the form NAMESPACE/NAME")
    from spoke_jobs.cli.rendering.check_output import print_lines
    from spoke_jobs.explain.set_up import SetUp, SetUpPart

    settings = load_settings()
    registry = Registry()
    busy = False
    roles: list[RoleFinding] = []
    limits: list[JobLimit] = []
    identity = ""

    def application() -> str:
        nonlocal registry
        registry = open_application(settings)
        return settings.app

    def ledger() -> str:
        nonlocal busy, identity
        opened = open_ledger(settings)
        if opened.engine.dialect.name == "postgresql":
            roles.extend(_roles(opened.engine, role or [], account))
        elif role:
            raise ConfigurationError("--role needs PostgreSQL: SQLite has no roles")
        unfinished = opened.list_jobs(_UNFINISHED_READ, _UNFINISHED)
        busy = any(job.executor is Executor.CLUSTER and job.submitted_at is not None for job in unfinished)
        if account is Account.SYNC:  # only sync publishes them, and the role of jobs may not read them
            limits.extend(opened.limits.all())
            with opened.engine.connect() as connection:
                identity = ledger_identity(connection)
        return place(opened.engine.url)

    ledger_part = _part("", ledger)
    set_up = SetUp(
        roles=tuple(roles),
        application=_part(settings.app, application) if settings.app else SetUpPart(""),
        runner=(runner := _part(settings.job_runner, lambda: _runner(settings, registry))),
        ledger=ledger_part,
        database_named=runner.missing_settings and not settings.database_url.get_secret_value(),
        jobs=_jobs_of(registry),
        tasks=tuple(registry.tasks),
        cluster=_cluster(settings, registry, runner, account, by_lease, busy=busy, limits=limits, identity=identity),
    )
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.json_output import Checked

        print_document(Checked.of(set_up))
    else:
        print_lines(set_up)
        for problem in set_up.problems():
            print_error(problem)
    if not set_up.ok:
        raise typer.Exit(Exit.FAILED)


def _runner(settings: Settings, registry: Registry) -> str:
    from spoke_jobs.loader import load_runner

    add_working_directory()  # JOB_RUNNER may name a class of the application
    runner = load_runner(settings, registry)
    if len(registry.tasks) and (missing := runner.missing_task_settings()):
        raise MissingSettings(f"the application declares tasks, and none can be dispatched; set {'; '.join(missing)}")
    return settings.job_runner


def _roles(engine: Engine, required: list[role_options.RoleOf], account: Account | None) -> Iterator[RoleFinding]:
    """Compare roles with what processes need: those that were asked for, otherwise this process's own."""
    from spoke_jobs.explain.set_up import RoleFinding

    usual = Process.READER if account is Account.READER else Process.APPLICATION
    with engine.connect() as connection:
        for asked in required or [role_options.RoleOf(usual, "")]:
            held = held_privileges(connection, asked.role or None)
            found = compare(asked.process, held)
            # Without `--role`, the role may be that of another kind of process. What it lacks is then no problem.
            lacking = found.lacking if required else ()
            yield RoleFinding(held.role, asked.process, found.excess, lacking, required=bool(required))


def _part(name: str, read: Callable[[], str]) -> SetUpPart:
    from spoke_jobs.explain.set_up import SetUpPart

    try:
        return SetUpPart(read())
    except SpokeJobsError as error:
        return SetUpPart(name, str(error), missing_settings=isinstance(error, MissingSettings))


def _jobs_of(registry: Registry) -> tuple[str, ...]:
    """Return the jobs that the application declares."""
    return tuple(name for name in registry.jobs if name != CHECK)


def _cluster(
    settings: Settings,
    registry: Registry,
    runner: SetUpPart,
    account: Account | None,
    lease: tuple[str, ...] | None,
    *,
    busy: bool,
    limits: Sequence[JobLimit],
    identity: str,
) -> tuple[Finding, ...]:
    """Check the cluster.

    Return nothing under another runner, or if the runner's problem is already reported.
    """
    if account is None and executor_of(settings.job_runner) is not Executor.CLUSTER:
        return ()
    from spoke_jobs.explain.cluster_findings import Finding, findings

    if account is None and settings.submit == "sync":
        return (Finding("server", unknown=_LEFT_TO_SYNC),)
    named = bool(runner.problem) and account is None

    def unavailable(problem: str) -> tuple[Finding, ...]:
        return () if named else (Finding("server", problems=(problem,)),)

    namespace = kube_environment.namespace(settings.namespace)
    if not namespace:
        return unavailable("set SPOKE_NAMESPACE (the namespace of the SpokeJobs)")
    if importlib.util.find_spec("kubernetes") is None:
        return unavailable(
            "checking the cluster needs the Python package 'kubernetes': pip install 'spoke-jobs[kubernetes]'"
        )
    from spoke_jobs.cluster.cluster_checks import check as ask_cluster
    from spoke_jobs.cluster.rights import RIGHTS

    asked = account or Account.RUNNER
    definitions = {name: registry.jobs.get(name) for name in _jobs_of(registry)}
    try:
        found = ask_cluster(namespace, RIGHTS[asked], definitions, lease, identity)
    except ConfigurationError as error:
        return unavailable(str(error))
    types = {name: definition.options.pod_template for name, definition in definitions.items()}
    return tuple(findings(found, asked, types, datetime.now(UTC), busy=busy, limits=limits))
