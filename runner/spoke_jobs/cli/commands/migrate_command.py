"""`migrate`: create, upgrade or remove the ledger's tables."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands import role_options
from spoke_jobs.cli.commands.exits import Exit, reports_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_engine
from spoke_jobs.cli.printing import print_error, print_text
from spoke_jobs.ledger.access.privileges import Comparison, Process
from spoke_jobs.ledger.engine import place
from spoke_jobs.ledger.migrations import LOCK_TIMEOUT_SECONDS


@reports_errors
def migrate(
    downgrade: Annotated[
        bool,
        typer.Option(
            "--downgrade",
            help="Remove the ledger, and leave `job_request` as the reference made it, with its waiting and failed "
            "jobs.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL; change and lock nothing.")] = False,
    lock_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600,
            help="PostgreSQL: how many seconds to wait for a lock before a retry. Other statements wait meanwhile.",
        ),
    ] = LOCK_TIMEOUT_SECONDS,
    grants: role_options.Grants = None,
) -> None:
    """Create or upgrade the ledger's tables in SPOKE_DATABASE_URL."""
    from spoke_jobs.ledger import migrations
    from spoke_jobs.shared.log_setup import configure_logging

    configure_logging()
    roles = _roles(grants or [])
    if roles and downgrade:
        usage_error("--grants has no effect with --downgrade, which drops the tables with their privileges")
    engine = open_engine()
    if dry_run:
        for statement in migrations.statements(engine, down=downgrade, roles=roles):
            print_text(f"{statement.rstrip(';')};\n")
    elif downgrade:
        migrations.downgrade(engine, lock_timeout_seconds=lock_timeout)
        print_text(f"the ledger in {place(engine.url)} is removed; job_request has the reference's columns")
    else:
        migrations.migrate(engine, lock_timeout_seconds=lock_timeout, roles=roles)
        print_text(f"the ledger in {place(engine.url)} is up to date")
        _report(migrations.differences(engine, roles))


def _roles(given: list[role_options.RoleOf]) -> dict[Process, str]:
    roles: dict[Process, str] = {}
    for item in given:
        if not item.role:
            usage_error(f"--grants {item.process} names no role: write {item.process}=ROLE")
        if item.process in roles:
            usage_error(
                f"--grants names two roles for {item.process}: make a role of which both are members, and name that"
            )
        roles[item.process] = item.role
    if len(set(roles.values())) < len(roles):
        usage_error("--grants names one role for two processes: the second would take privileges away from the first")
    return roles


def _report(found: dict[str, Comparison]) -> None:
    """Print what the roles have. What they lack fails the command, because their processes could not work."""
    for role, result in found.items():
        for sentence in (*result.lacking, *result.excess):
            print_error(f"the role {role} {sentence}")
        if not result.lacking and not result.excess:
            print_text(f"the role {role} has the privileges that it needs, and no others")
    if any(result.lacking for result in found.values()):
        raise typer.Exit(Exit.FAILED)
