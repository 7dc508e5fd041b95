"""Read what a role of PostgreSQL may do with the ledger's tables."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, text

from spoke_jobs.errors import DatabaseError
from spoke_jobs.ledger.access.privileges import BY_COLUMN, HeldPrivileges, Location, Verb, default_sequences, quoted
from spoke_jobs.ledger.tables import SCHEMA, VERSION_TABLE, job_request, metadata, sql_name

_TABLES = sorted({table.name for table in metadata.tables.values()} | {VERSION_TABLE})
_SCHEMA = text("""
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(:table)
""")
_PUBLIC_CREATES = text("SELECT has_schema_privilege('public', oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema")
_ROLE = text("""
SELECT rolsuper AS superuser, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
    has_schema_privilege(r.oid, n.oid, 'USAGE') AS uses_schema,
    has_schema_privilege(r.oid, n.oid, 'CREATE') AS creates_tables,
    has_database_privilege(r.oid, d.oid, 'CREATE') AS creates_schemas
FROM pg_roles r, pg_namespace n, pg_database d
WHERE r.rolname = :role AND n.nspname = :schema AND d.datname = current_database()
""")
_ATTRIBUTES = {
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_OWNED = text("""
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = ANY(:tables) AND pg_has_role(:role, c.relowner, 'MEMBER')
""")
_SEQUENCES = text("""
SELECT c.relname, pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) AS sequence
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped
WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname = ANY(:tables)
""")
_BY_COLUMN = text("""
SELECT c.relname, a.attname, v.verb, has_column_privilege(:role, c.oid, a.attnum, v.verb) AS held
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN unnest(cast(:verbs AS text[])) AS v(verb)
WHERE n.nspname = :schema AND c.relname = ANY(:tables)
""")
_BY_TABLE = text("""
SELECT c.relname, v.verb
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(cast(:verbs AS text[])) AS v(verb)
WHERE n.nspname = :schema AND c.relname = ANY(:tables) AND has_table_privilege(:role, c.oid, v.verb)
""")
_MAY_USE = text("SELECT has_sequence_privilege(:role, cast(:sequence AS regclass), 'USAGE')")


def locate(connection: Connection) -> Location:
    """Find the ledger's tables. While they do not exist, return where a migration would create them."""
    schema = connection.scalar(_SCHEMA, {"table": sql_name(job_request.name)})
    if schema is None:
        schema = SCHEMA or connection.scalar(text("SELECT current_schema()")) or "public"
    found = _sequences(connection, schema)
    sequences = {
        table: found.get(table, f"{quoted(schema)}.{quoted(name)}") for table, name in default_sequences().items()
    }
    return Location(schema, sequences, bool(connection.scalar(_PUBLIC_CREATES, {"schema": schema})))


def held_privileges(connection: Connection, role: str | None = None) -> HeldPrivileges:
    """Read what a role may do, also as a member of other roles.

    :param role: by default, the connection's own role.
    :raises DatabaseError: if there is no such role.
    """
    role = role or connection.scalar(text("SELECT current_user"))
    assert role is not None
    schema = locate(connection).schema
    asked: dict[str, Any] = {"role": role, "schema": schema, "tables": _TABLES}
    row = connection.execute(_ROLE, asked).mappings().one_or_none()
    if row is None:
        raise DatabaseError(f"there is no role {role!r} in the database: CREATE ROLE {quoted(role)}")
    tables: dict[str, dict[Verb, frozenset[str]]] = defaultdict(dict)
    columns: dict[str, frozenset[str]] = {}
    for table, column, verb, held in connection.execute(_BY_COLUMN, asked | {"verbs": list(BY_COLUMN)}):
        columns[table] = columns.get(table, frozenset()) | {column}
        if held:
            tables[table][Verb(verb)] = tables[table].get(Verb(verb), frozenset()) | {column}
    others = [verb for verb in Verb if verb not in BY_COLUMN]
    for table, verb in connection.execute(_BY_TABLE, asked | {"verbs": others}):
        tables[table][Verb(verb)] = columns[table]
    return HeldPrivileges(
        role=role,
        superuser=row["superuser"],
        attributes=tuple(name for column, name in _ATTRIBUTES.items() if row[column]),
        schema=schema,
        uses_schema=row["uses_schema"],
        creates_tables=row["creates_tables"],
        creates_schemas=row["creates_schemas"],
        owned=frozenset(connection.scalars(_OWNED, asked)),
        tables=tables,
        sequences=frozenset(
            table
            for table, sequence in _sequences(connection, schema).items()
            if connection.scalar(_MAY_USE, {"role": role, "sequence": sequence})
        ),
        columns=columns,
    )


def _sequences(connection: Connection, schema: str) -> dict[str, str]:
    rows = connection.execute(_SEQUENCES, {"schema": schema, "tables": _TABLES})
    return {table: sequence for table, sequence in rows if sequence is not None}
