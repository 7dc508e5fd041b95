"""The options that name database roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from spoke_jobs.ledger.access.privileges import Process


@dataclass(frozen=True, slots=True)
class RoleOf:
    """A database role, and the kind of process that it is for."""

    process: Process
    role: str
    """Empty for the connection's own."""


def _role_of(text: str) -> RoleOf:
    process, _, role = text.partition("=")
    if process not in list(Process):
        raise typer.BadParameter(f"{text!r} names none of {', '.join(Process)}")
    return RoleOf(Process(process), role)


Grants = Annotated[
    list[RoleOf] | None,
    typer.Option(
        parser=_role_of,
        metavar="PROCESS=ROLE",
        help="PostgreSQL: give a role exactly the privileges that a kind of process needs: migrations, application, "
        "jobs or reader. May be repeated. With `--dry-run`, print the statements.",
        show_default=False,
    ),
]
Roles = Annotated[
    list[RoleOf] | None,
    typer.Option(
        "--role",
        parser=_role_of,
        metavar="PROCESS[=ROLE]",
        help="PostgreSQL: require that a database role has exactly the privileges of a kind of process: migrations, "
        "application, jobs or reader. Without =ROLE, it is the role of SPOKE_DATABASE_URL. May be repeated.",
        show_default=False,
    ),
]
