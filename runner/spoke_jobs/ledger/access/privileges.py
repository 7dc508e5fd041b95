"""What each kind of process does with each of the ledger's tables. The privileges of the roles follow from it.

Pure: ``role_privileges`` reads what a role has, and ``migrations`` runs the statements. Only PostgreSQL has roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK
from spoke_jobs.ledger.lifecycle import checkpoints, inserts, transitions
from spoke_jobs.ledger.outbox import task_outbox
from spoke_jobs.ledger.tables import VERSION_TABLE, metadata
from spoke_jobs.model import UNMEASURED, Failure


class Process(StrEnum):
    """A kind of process, with a database role of its own."""

    MIGRATIONS = "migrations"
    """`spoke-jobs migrate`. Its role owns the tables."""
    APPLICATION = "application"
    """The application's own processes, workers, sync, the task deployment, and the commands that change jobs."""
    JOBS = "jobs"
    """The pods of jobs (`spoke-jobs run`)."""
    READER = "reader"
    """Commands that only read (`ls`, `show`, `why`, `watch`), and dashboards."""


class Verb(StrEnum):
    """A privilege on a table."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    TRUNCATE = "TRUNCATE"
    REFERENCES = "REFERENCES"
    TRIGGER = "TRIGGER"


ALL: frozenset[str] = frozenset({"*"})
"""The whole table, with columns that later migrations add."""
BY_COLUMN = (Verb.SELECT, Verb.INSERT, Verb.UPDATE, Verb.REFERENCES)
"""The privileges that PostgreSQL can grant on single columns."""
Access = Mapping[Verb, frozenset[str]]
"""The columns by statement."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the processes do with one table. The role of migrations owns it."""

    application: Access
    jobs: Access
    reader: Access

    def of(self, process: Process) -> Access:
        """Return what a process does with the table."""
        of: dict[Process, Access] = {
            Process.APPLICATION: self.application,
            Process.JOBS: self.jobs,
            Process.READER: self.reader,
        }
        return of.get(process, {})


def _written(*changes: Mapping[str, object]) -> frozenset[str]:
    return frozenset().union(*changes)


_FAILURE = Failure("")
_END_OF_ATTEMPT = (
    transitions.attempt_succeeded(DATABASE_CLOCK, transitions.used(UNMEASURED)),
    transitions.attempt_failed(DATABASE_CLOCK, _FAILURE),
)
_JOB_OF_ATTEMPT = _written(
    transitions.job_claimed(DATABASE_CLOCK, 1, None),
    transitions.job_progressed(DATABASE_CLOCK, 0, ""),
    transitions.job_succeeded(DATABASE_CLOCK, None, "", 0),
    transitions.job_waits_again(DATABASE_CLOCK, _FAILURE, 0),
    transitions.job_failed(DATABASE_CLOCK, _FAILURE, 0),
    {"options": None},  # of a job that other code dispatched
    transitions.job_unblocked(DATABASE_CLOCK, None, None),
    {"awaited": None, "batch_open": None},
)
_SUBMISSION = frozenset({"submitted_at"})
"""A pod with SPOKE_SUBMIT=runner records that it created the SpokeJob of a job that it dispatched."""
_ATTEMPT_BEGUN = _written(transitions.new_attempt(DATABASE_CLOCK, 1, 1, 1, "", None, "", 1), {"token": None})
_READ: Access = {Verb.SELECT: ALL}
_WRITE: Access = {Verb.SELECT: ALL, Verb.INSERT: ALL, Verb.UPDATE: ALL, Verb.DELETE: ALL}

NEEDS: Mapping[str, Needs] = MappingProxyType(
    {
        "job_request": Needs(
            application=_WRITE,
            jobs={
                Verb.SELECT: ALL,
                # A row with a schedule's due time would keep the schedule from dispatching its own job.
                Verb.INSERT: inserts.COLUMNS - inserts.OF_SCHEDULE,
                Verb.UPDATE: _JOB_OF_ATTEMPT | _SUBMISSION,
            },
            reader=_READ,
        ),
        "job_attempt": Needs(
            application=_WRITE,
            jobs={
                Verb.SELECT: ALL,
                Verb.INSERT: _ATTEMPT_BEGUN,
                Verb.UPDATE: _written(
                    transitions.attempt_claimed(DATABASE_CLOCK, "", 1), *_END_OF_ATTEMPT, {"token": None}
                ),
            },
            reader=_READ,
        ),
        # Sync writes reports. PostgreSQL deletes them with their jobs, by the rights of the table's owner.
        "attempt_report": Needs(application={Verb.SELECT: ALL, Verb.INSERT: ALL}, jobs={}, reader=_READ),
        # PostgreSQL deletes them with their jobs. A retry by hand may clear them.
        "job_checkpoint": Needs(
            application=_WRITE,
            jobs={Verb.SELECT: ALL, Verb.INSERT: checkpoints.COLUMNS, Verb.UPDATE: frozenset(checkpoints.CHANGED)},
            reader=_READ,
        ),
        "job_batch": Needs(
            application=_WRITE,
            jobs={
                Verb.SELECT: ALL,
                Verb.INSERT: frozenset({"name", "on_failed", "created_at"}),
                Verb.UPDATE: frozenset({"total", "succeeded", "failed", "then_id", "closed_at", "finished_at"}),
            },
            reader=_READ,
        ),
        "job_dependency": Needs(
            application=_WRITE,
            jobs={
                Verb.SELECT: ALL,
                Verb.INSERT: frozenset({"job_id", "needs_id", "open", "runs_after_failure"}),
                Verb.UPDATE: frozenset({"open"}),
            },
            reader=_READ,
        ),
        "queue_lock": Needs(
            application=_WRITE,
            jobs={
                Verb.SELECT: ALL,
                Verb.INSERT: frozenset({"queue_name", "job_id", "token", "acquired_at"}),
                Verb.UPDATE: frozenset({"token"}),
                Verb.DELETE: ALL,
            },
            reader=_READ,
        ),
        "task_outbox": Needs(application=_WRITE, jobs={Verb.INSERT: task_outbox.COLUMNS}, reader=_READ),
        "task_replica": Needs(application=_WRITE, jobs={}, reader=_READ),
        "job_event": Needs(
            application={Verb.SELECT: ALL, Verb.INSERT: ALL, Verb.DELETE: ALL},  # deletes those whose retention is over
            jobs={},
            reader=_READ,
        ),
        # Pods start when the operator says so. One that was created before a pause does not call its job.
        "job_limit": Needs(application=_WRITE, jobs=_READ, reader=_READ),
        # Claims of workers keep the buckets of rates. Pods of jobs take no tokens.
        "job_limit_bucket": Needs(application=_WRITE, jobs={}, reader=_READ),
        # Pods of jobs run no schedules. A job may change one at run time with the application's role.
        "job_schedule": Needs(application=_WRITE, jobs={}, reader=_READ),
        # `spoke-jobs notify`, the commands that mute and dashboards that change something have the application's role.
        **dict.fromkeys(
            ("notice_channel", "notice_seen", "notice_group", "notice_outbox", "notice_mute"),
            Needs(application=_WRITE, jobs={}, reader=_READ),
        ),
        VERSION_TABLE: Needs(application=_READ, jobs=_READ, reader=_READ),
    }
)
"""By table. A test checks that no table is missing, and another that each process can work with what it gets."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the tables are."""

    schema: str
    sequences: Mapping[str, str]
    """The sequence that numbers the rows, by table, for tables that have one: quoted, with its schema."""
    public_creates: bool = False
    """Whether everybody may create tables in the schema, as in `public` before PostgreSQL 15."""


def default_sequences() -> dict[str, str]:
    """Return the sequences' names that PostgreSQL gives."""
    found = {}
    for table in metadata.tables.values():
        column = table.autoincrement_column
        if column is not None:
            found[table.name] = f"{table.name}_{column.name}_seq"
    return found


def quoted(name: str) -> str:
    """Quote an identifier. Quoted, `public` is a role's name, and not everybody."""
    return '"' + name.replace('"', '""') + '"'


def statements(process: Process, role: str, where: Location) -> Iterator[str]:
    """Return the SQL that gives a role exactly the process's privileges on the ledger's tables, and none to others.

    They may be run again at any time, in one transaction.
    """
    schema, to = quoted(where.schema), quoted(role)
    if process is Process.MIGRATIONS:
        yield f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {to}"
        return
    if where.public_creates:
        yield f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"
    yield f"REVOKE CREATE ON SCHEMA {schema} FROM {to}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {to}"
    for table, needs in NEEDS.items():
        name, access = f"{schema}.{quoted(table)}", needs.of(process)
        yield f"REVOKE ALL ON TABLE {name} FROM {to}"
        if access:
            yield f"GRANT {', '.join(_clauses(access))} ON TABLE {name} TO {to}"
        if sequence := where.sequences.get(table):
            yield f"REVOKE ALL ON SEQUENCE {sequence} FROM {to}"
            if Verb.INSERT in access:
                yield f"GRANT USAGE ON SEQUENCE {sequence} TO {to}"


def _clauses(access: Access) -> Iterator[str]:
    for verb, columns in access.items():
        yield verb if columns == ALL else f"{verb} ({', '.join(map(quoted, sorted(columns)))})"


@dataclass(frozen=True, slots=True)
class HeldPrivileges:
    """What a role may do, also as a member of other roles."""

    role: str
    superuser: bool
    attributes: tuple[str, ...]
    """What it may do in the whole server: CREATEROLE, CREATEDB, BYPASSRLS, REPLICATION."""
    schema: str
    uses_schema: bool
    creates_tables: bool
    creates_schemas: bool
    owned: frozenset[str]
    """The ledger's tables whose owner it is, or acts as."""
    tables: Mapping[str, Access]
    """By table. The columns are named, also if the privilege is on the whole table."""
    sequences: frozenset[str]
    """The tables whose sequence it may use."""
    columns: Mapping[str, frozenset[str]]
    """The columns of each table."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a role has beyond a process's needs, and what it lacks. Sentences without a subject: "may ..."."""

    excess: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


def compare(process: Process, held: HeldPrivileges) -> Comparison:
    """Compare what a role has with what a process needs."""
    if held.superuser:
        return Comparison(excess=("is a superuser",))
    excess = [f"has {', '.join(held.attributes)}"] if held.attributes else []
    lacking = [] if held.uses_schema else [f"may not use the schema {held.schema}"]
    if process is Process.MIGRATIONS:
        if others := set(held.columns) - held.owned:
            lacking.append(f"does not own {_few(others, held)}")
        if not held.creates_tables:
            lacking.append(f"may not create tables in the schema {held.schema}")
        return Comparison(tuple(excess), tuple(lacking))
    if held.creates_tables:
        excess.append(f"may create tables in the schema {held.schema}")
    if held.creates_schemas:
        excess.append("may create schemas in the database")
    if held.owned:
        excess.append(
            f"owns {_few(held.owned, held)}, so it may alter and drop {'them' if len(held.owned) > 1 else 'it'}"
        )
    for table in held.columns:
        if table in held.owned:
            continue
        more, less = _differences(table, NEEDS[table].of(process), held)
        excess += more
        lacking += less
    return Comparison(tuple(excess), tuple(lacking))


def _differences(table: str, needed: Access, held: HeldPrivileges) -> tuple[list[str], list[str]]:
    excess, lacking = [], []
    columns, has = held.columns[table], held.tables.get(table, {})
    for verb in Verb:
        wanted = needed.get(verb, frozenset())
        wanted = columns if wanted == ALL else wanted & columns
        got = has.get(verb, frozenset())
        if got - wanted:
            excess.append(f"may {verb} {_on(table, verb, got - wanted, columns)}")
        if wanted - got:
            lacking.append(f"may not {verb} {_on(table, verb, wanted - got, columns)}")
    if Verb.INSERT in needed and table in default_sequences() and table not in held.sequences:
        lacking.append(f"may not use the sequence of {table}")
    return excess, lacking


def _on(table: str, verb: Verb, which: frozenset[str], columns: frozenset[str]) -> str:
    if which == columns or verb not in BY_COLUMN:
        return table
    return f"{table} ({', '.join(sorted(which))})"


def _few(tables: frozenset[str] | set[str], held: HeldPrivileges) -> str:
    if set(tables) == set(held.columns):
        return "the ledger's tables"
    return f"the tables {', '.join(sorted(tables))}" if len(tables) > 1 else f"the table {next(iter(tables))}"
