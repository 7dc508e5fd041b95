"""The privileges of the processes' roles, as a table (with PostgreSQL: tests/integration/ledger/test_roles.py)."""

from __future__ import annotations

from typing import Any

import pytest

from spoke_jobs.ledger.access.privileges import (
    ALL,
    NEEDS,
    Access,
    HeldPrivileges,
    Location,
    Process,
    Verb,
    compare,
    default_sequences,
    statements,
)
from spoke_jobs.ledger.tables import VERSION_TABLE, metadata

COLUMNS = {table.name: frozenset(table.columns.keys()) for table in metadata.tables.values()} | {
    VERSION_TABLE: frozenset({"version_num"})
}
WHERE = Location("public", {"job_request": '"public"."job_request_id_seq"'})


def held(process: Process = Process.JOBS, **changes: Any) -> HeldPrivileges:
    """What a role has that has exactly what the process needs."""
    tables: dict[str, Access] = {
        table: {
            verb: COLUMNS[table] if columns == ALL else columns for verb, columns in NEEDS[table].of(process).items()
        }
        for table in COLUMNS
    }
    values: dict[str, Any] = {
        "role": "shop",
        "superuser": False,
        "attributes": (),
        "schema": "public",
        "uses_schema": True,
        "creates_tables": process is Process.MIGRATIONS,
        "creates_schemas": False,
        "owned": frozenset(COLUMNS) if process is Process.MIGRATIONS else frozenset(),
        "tables": tables,
        "sequences": frozenset(default_sequences()),
        "columns": COLUMNS,
    }
    return HeldPrivileges(**(values | changes))


def test_no_table_and_no_column_is_forgotten() -> None:
    missing = COLUMNS.keys() - NEEDS.keys()
    assert not missing, f"add to NEEDS in ledger/access/privileges.py what each process does with {', '.join(missing)}"
    assert not NEEDS.keys() - COLUMNS.keys(), "NEEDS names a table that there is not"
    for table, needs in NEEDS.items():
        for process in Process:
            for columns in needs.of(process).values():
                assert columns == ALL or columns <= COLUMNS[table], (table, columns - COLUMNS[table])


def test_a_job_s_pod_changes_no_job_that_was_dispatched() -> None:
    """What a job is, whose it is and who runs it is decided at the dispatch."""
    written = NEEDS["job_request"].jobs[Verb.UPDATE]
    fixed = {"id", "uid", "job_type", "payload", "runner", "queue_name", "locks_queue", "organization_id", "run"}
    assert not fixed & written


@pytest.mark.parametrize("process", Process)
def test_who_has_what_it_needs_is_told_nothing(process: Process) -> None:
    found = compare(process, held(process))
    assert (found.excess, found.lacking) == ((), ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"superuser": True}, "is a superuser"),
        ({"attributes": ("CREATEROLE", "CREATEDB")}, "has CREATEROLE, CREATEDB"),
        ({"creates_tables": True}, "may create tables in the schema public"),
        ({"creates_schemas": True}, "may create schemas in the database"),
        ({"owned": frozenset({"queue_lock"})}, "owns the table queue_lock, so it may alter and drop it"),
    ],
)
def test_what_a_role_has_beyond_its_need_is_said(changes: dict[str, Any], said: str) -> None:
    assert compare(Process.JOBS, held(**changes)).excess == (said,)


def test_privileges_on_tables_are_compared_by_column() -> None:
    tables = dict(held().tables)
    tables["job_request"] = dict(tables["job_request"]) | {
        Verb.UPDATE: tables["job_request"][Verb.UPDATE] - {"state"} | {"payload"},
        Verb.DELETE: COLUMNS["job_request"],
    }
    del tables["queue_lock"]
    found = compare(Process.JOBS, held(tables=tables, sequences=frozenset({"job_request", "job_attempt", "job_batch"})))
    assert found.excess == ("may UPDATE job_request (payload)", "may DELETE job_request")
    assert found.lacking == (
        "may not UPDATE job_request (state)",
        "may not SELECT queue_lock",
        "may not INSERT queue_lock",
        "may not UPDATE queue_lock (token)",
        "may not DELETE queue_lock",
        "may not use the sequence of task_outbox",
    )


def test_an_owner_is_not_told_of_each_privilege() -> None:
    found = compare(Process.APPLICATION, held(Process.MIGRATIONS))
    assert found.excess == (
        "may create tables in the schema public",
        "owns the ledger's tables, so it may alter and drop them",
    )


def test_migrations_own_all_tables() -> None:
    lacking = compare(Process.MIGRATIONS, held(Process.APPLICATION)).lacking
    assert lacking[0] == "does not own the ledger's tables"
    assert lacking[1] == "may not create tables in the schema public"


def test_names_are_quoted() -> None:
    """Unquoted, `public` is everybody, and a role's name is SQL."""
    for process in Process:
        for statement in statements(process, 'a"; DROP TABLE x; --', WHERE):
            assert '"a""; DROP TABLE x; --"' in statement
    assert not any("TO public" in line for line in statements(Process.JOBS, "public", WHERE))


def test_everybody_s_right_to_create_tables_is_revoked_where_it_exists() -> None:
    revoked = 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC'
    assert revoked not in list(statements(Process.JOBS, "shop", WHERE))
    assert revoked in list(statements(Process.JOBS, "shop", Location("public", {}, public_creates=True)))
