"""The database: make it, or take the one of an earlier run. It stays, because it takes long to fill."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from tests.bench.lib.database import POSTGRES_URL
from tests.bench.lib.processes import BenchError
from tests.bench.web import fill
from tests.bench.web.fill import Step
from tests.bench.web.layout import SCHEDULES, Layout, type_name

from spoke_jobs import Every
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.tables import job_schedule
from spoke_jobs.schedules.schedule import Schedule

KEPT_DAYS = 7
"""For how long the history of an earlier run is taken: later, it would be older than what is measured needs."""
_MINUTES_PER_MILLION = 2
"""What filling takes on two cores, for the message."""
_NAME = "bench_web_{}"
_BULK_TABLES = ("job_request", "job_attempt")
_SETTINGS = ("synchronous_commit = off", "maintenance_work_mem = '256MB'", "work_mem = '64MB'")
"""Of the session that fills. What is measured runs with the server's own."""
Say = Callable[[str], None]


def database_for(layout: Layout, say: Say) -> URL:
    """Return the database, filled, with recent rows that are new.

    :raises BenchError: if there is not enough disk space.
    """
    url = make_url(POSTGRES_URL).set(database=_NAME.format(layout.rows))
    with _connect(make_url(POSTGRES_URL)) as server:
        (there,) = server.execute(
            "SELECT count(*) FROM pg_database WHERE datname = %s", (url.database,)
        ).fetchone() or (0,)
    if there and _is_usable(url, layout):
        say(f"the database {url.database} is there, with the history of an earlier run")
    else:
        _make(url, layout, say)
    with _connect(url) as connection:
        _run(connection, [*fill.clearing(layout), *fill.recent(layout, _now(connection))], say)
        _insert_schedules(url)
        began = time.monotonic()
        connection.execute("VACUUM (ANALYZE)")  # as autovacuum does within the minute; plans depend on it
        say(f"vacuumed and analyzed: {time.monotonic() - began:.0f} s")
    return url


def remove(url: URL) -> None:
    """Remove the database, whoever is still connected."""
    with _connect(make_url(POSTGRES_URL)) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(url.database or "")))


def disk_problem(needed: int, free: int | None, kept: Iterable[str]) -> str:
    """Return why the database can't be made; empty if there is enough space, or nobody can tell.

    :param needed: bytes.
    :param free: bytes; None if unknown.
    :param kept: the databases of earlier runs.
    """
    if free is None or free >= needed:
        return ""
    others = ", ".join(sorted(kept))
    remedy = f"remove what an earlier run kept ({others}), or " if others else ""
    return (
        f"the database takes {needed / 1e9:.0f} GB while it is made, and the disk has {free / 1e9:.0f} GB: {remedy}"
        "choose fewer rows, ROWS=1000000 for example"
    )


def _make(url: URL, layout: Layout, say: Say) -> None:
    remove(url)
    with _connect(make_url(POSTGRES_URL)) as server:
        rows = server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_web\\_%'").fetchall()
        if problem := disk_problem(layout.bytes, _free_bytes(server), [name for (name,) in rows]):
            raise BenchError(problem)
        minutes = max(layout.rows * _MINUTES_PER_MILLION // 10**6, 1)
        say(f"filling {url.database} with {layout.rows:,} jobs: some {minutes} minutes, {layout.bytes / 1e9:.0f} GB")
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(url.database or "")))
    engine = create_engine(url)
    migrate(engine)
    engine.dispose()
    with _connect(url) as connection:
        for setting in _SETTINGS:
            connection.execute(f"SET {setting}".encode())
        kept = [step for table in _BULK_TABLES for step in _without_indexes(connection, table)]
        _run(connection, fill.history(layout, _now(connection)), say)
        _run(connection, kept, say)
        connection.execute("CREATE TABLE bench_history (fingerprint text, filled_at timestamptz)")
        connection.execute("INSERT INTO bench_history VALUES (%s, now())", (fill.fingerprint(layout),))


def _is_usable(url: URL, layout: Layout) -> bool:
    """Whether the history is what this run would write. One that was not written to its end is not."""
    with _connect(url) as connection:
        if connection.execute("SELECT to_regclass('bench_history')").fetchone() == (None,):
            return False
        row = connection.execute("SELECT fingerprint, filled_at FROM bench_history").fetchone()
    return row is not None and row[0] == fill.fingerprint(layout) and is_recent(row[1], datetime.now(UTC))


def is_recent(filled_at: datetime, now: datetime) -> bool:
    """Whether a history is young enough."""
    return now - filled_at < timedelta(days=KEPT_DAYS)


def _without_indexes(connection: psycopg.Connection, table: str) -> list[Step]:
    """Drop the indexes of a table but the primary key's. Return what makes them again, faster, after the rows."""
    constraints = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND contype = 'u'",
        (table,),
    ).fetchall()
    again = []
    for name, definition in constraints:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
        again.append(Step(f"index {name}", f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"))
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "WHERE indrelid = to_regclass(%s) AND NOT indisprimary",
        (table,),
    ).fetchall()
    for name, definition in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
        again.append(Step(f"index {name}", definition))
    return again


def _run(connection: psycopg.Connection, steps: Iterable[Step], say: Say) -> None:
    for what, statement in steps:
        began = time.monotonic()
        connection.execute(statement.encode())
        if (taken := time.monotonic() - began) > 1:
            say(f"{what}: {taken:.0f} s")


def _insert_schedules(url: URL) -> None:
    """Write schedules of types with many jobs, each with an organization."""
    now = datetime.now(UTC)
    rows = []
    for number in range(SCHEDULES):
        timing = Every(minutes=15 * (1 + number % 96))
        options = {"organization_id": 1 + number * 7919 % 9_999}
        schedule = Schedule(f"schedule-{number:04}", type_name(number % 100), timing, options=options)
        rows.append(
            {
                "name": schedule.name,
                "runner": "legacy",
                "origin": "dynamic",
                "job_type": schedule.job_type,
                "definition": schedule.to_json(),
                "digest": schedule.digest,
                "next_due_at": timing.after(now),
                "served_at": now,
                "created_at": now,
                "updated_at": now,
            }
        )
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(job_schedule.insert(), rows)
    engine.dispose()


def _connect(url: URL) -> psycopg.Connection:
    return psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
        # VACUUM says of the catalogue's own tables that they aren't ours
        options="-c client_min_messages=error",
    )


def _now(connection: psycopg.Connection) -> str:
    (now,) = connection.execute("SELECT now()").fetchone() or (datetime.now(UTC),)
    return str(now.isoformat())


def _free_bytes(connection: psycopg.Connection) -> int | None:
    """Return the free space of the server's disk; None if it is not on this machine, or may not be looked at.

    A server process works in the data folder.
    """
    folder = Path(f"/proc/{connection.info.backend_pid}/cwd")
    try:
        return shutil.disk_usage(folder.readlink()).free
    except OSError:
        return None
