"""The reference's table `job_request`, and the statements that the reference's own code sends to it.

Written from its migrations and its code (MoveOnOrg/Spoke at 12a0729). Knex sends the columns that the code names, and
no others. On SQLite it sends a JavaScript Date as integer milliseconds, NULL for what is not given, and leaves foreign
keys off.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Engine, text

POSTGRESQL = """
CREATE TABLE organization (id serial PRIMARY KEY);
CREATE TABLE campaign (id serial PRIMARY KEY);
CREATE TABLE job_request (
    id serial PRIMARY KEY,
    campaign_id integer REFERENCES campaign (id),
    payload text NOT NULL,
    queue_name text NOT NULL,
    job_type text NOT NULL,
    result_message text DEFAULT '',
    locks_queue boolean DEFAULT '0',
    assigned boolean DEFAULT '0',
    status integer DEFAULT '0',
    updated_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    created_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    organization_id integer REFERENCES organization (id)
);
CREATE INDEX job_request_queue_name_index ON job_request (queue_name);
CREATE INDEX job_request_organization_id_index ON job_request (organization_id);
"""
SQLITE = """
CREATE TABLE organization (id integer NOT NULL PRIMARY KEY AUTOINCREMENT);
CREATE TABLE campaign (id integer NOT NULL PRIMARY KEY AUTOINCREMENT);
CREATE TABLE job_request (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    campaign_id integer NULL,
    organization_id integer NULL,
    payload text NOT NULL,
    queue_name text NOT NULL,
    job_type text NOT NULL,
    result_message text DEFAULT '',
    locks_queue boolean DEFAULT '0',
    assigned boolean DEFAULT '0',
    status integer DEFAULT '0',
    updated_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    created_at datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (organization_id) REFERENCES organization (id),
    FOREIGN KEY (campaign_id) REFERENCES campaign (id)
);
CREATE INDEX job_request_organization_id_index ON job_request (organization_id);
CREATE INDEX job_request_queue_name_index ON job_request (queue_name);
"""
ROWS = """
INSERT INTO organization (id) VALUES (1);
INSERT INTO campaign (id) VALUES (1);
"""
Row = dict[str, Any]


def run_script(engine: Engine, script: str) -> None:
    """Run statements that are separated by a semicolon at a line's end."""
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";\n")):
            connection.execute(text(statement))


def create_tables(engine: Engine) -> None:
    """Create the reference's tables, with an organization and a campaign."""
    run_script(engine, POSTGRESQL if engine.dialect.name == "postgresql" else SQLITE)
    run_script(engine, ROWS)


class ReferenceCode:
    """A process of the reference: each statement on its own, on a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self.sqlite = engine.dialect.name == "sqlite"
        if self.sqlite:
            self._connection: Any = sqlite3.connect(str(engine.url.database), isolation_level=None, timeout=10)
            self._connection.row_factory = sqlite3.Row
        else:
            url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=None, row_factory=dict_row)

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str) -> None:
        """Run a statement of an administrator."""
        self._connection.execute(statement)

    def dispatch(
        self,
        job_type: str = "export",
        payload: str = "{}",
        *,
        queue: str = "1:export",
        locks: bool = False,
        assigned: bool = False,
    ) -> int:
        """Save a job; the organization is not given."""
        columns = ("assigned", "campaign_id", "job_type", "locks_queue", "organization_id", "payload", "queue_name")
        values: list[Any] = [assigned, 1, job_type, locks, payload, queue]
        marks = ["?" if self.sqlite else "%s"] * len(values)
        if self.sqlite:
            values.insert(4, None)
            marks.append("?")
        else:
            marks.insert(4, "DEFAULT")
        statement = f"INSERT INTO job_request ({', '.join(columns)}) VALUES ({', '.join(marks)})"
        if self.sqlite:
            return int(self._connection.execute(statement, values).lastrowid)
        return int(self._connection.execute(statement + " RETURNING id", values).fetchone()["id"])

    def row(self, job_id: int) -> Row | None:
        found = self._query("SELECT * FROM job_request WHERE id = ?", job_id)
        return found[0] if found else None

    def next_job(self) -> Row | None:
        """Take the oldest unassigned job, as its loop does."""
        found = self._query("SELECT * FROM job_request WHERE assigned = ? ORDER BY created_at LIMIT 1", False)
        return found[0] if found and self.assign(found[0]["id"]) else None

    def assign(self, job_id: int) -> bool:
        """Mark a job as assigned; False if that changed no row."""
        return self._change("UPDATE job_request SET assigned = ? WHERE id = ?", True, job_id) == 1

    def progress(self, job_id: int, percent: int) -> int:
        return self._change(
            "UPDATE job_request SET status = ?, updated_at = ? WHERE id = ?", percent, self._date(), job_id
        )

    def increment(self, job_id: int) -> int:
        return self._change("UPDATE job_request SET status = status + 1 WHERE id = ?", job_id)

    def fail(self, job_id: int, message: str) -> int:
        return self._change("UPDATE job_request SET result_message = ?, status = -1 WHERE id = ?", message, job_id)

    def delete(self, job_id: int) -> int:
        return self._change("DELETE FROM job_request WHERE id = ?", job_id)

    def discard(self, job_id: int, campaign: int = 1) -> int:
        return self._change("DELETE FROM job_request WHERE id = ? AND campaign_id = ?", job_id, campaign)

    def delete_others(self, job_id: int, job_type: str, campaign: int = 1) -> int:
        return self._change(
            "DELETE FROM job_request WHERE campaign_id = ? AND job_type = ? AND NOT id = ?", campaign, job_type, job_id
        )

    def clear_old(self, age_seconds: float = 120) -> int:
        """Delete assigned jobs that have not been updated for some time."""
        return self._change(
            "DELETE FROM job_request WHERE assigned = ? AND updated_at < ?", True, self._date(-age_seconds)
        )

    def put(self, job_id: int, column: str, value: str) -> int:
        """Set a column to an SQL expression."""
        return self._change(f"UPDATE job_request SET {column} = {value} WHERE id = ?", job_id)

    def pending(self, campaign: int = 1) -> Sequence[Row]:
        """Read the jobs that it shows as pending: all of a campaign's rows."""
        return self._query("SELECT * FROM job_request WHERE campaign_id = ? ORDER BY updated_at DESC", campaign)

    def _date(self, seconds: float = 0) -> Any:
        if self.sqlite:
            return int((time.time() + seconds) * 1000)
        return datetime.now(UTC) + timedelta(seconds=seconds)

    def _query(self, statement: str, *values: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(self._own(statement), values)]

    def _change(self, statement: str, *values: Any) -> int:
        return int(self._connection.execute(self._own(statement), values).rowcount)

    def _own(self, statement: str) -> str:
        return statement if self.sqlite else statement.replace("?", "%s")


def speak(code: ReferenceCode) -> None:
    """Send every statement, and check what the reference's code relies on. No worker may run."""
    first, second = code.dispatch(), code.dispatch("import_script", "H4sIAAAA", queue="1:import_script", locks=True)
    third = code.dispatch(assigned=True)
    row = code.row(first)
    assert row is not None
    assert (row["status"], row["result_message"], bool(row["assigned"]), row["organization_id"]) == (0, "", False, None)
    assert row["created_at"] is not None
    assert row["updated_at"] is not None
    taken = code.next_job()
    assert taken is not None
    assert taken["id"] == first
    assert code.next_job() is not None
    assert code.next_job() is None
    assert code.progress(first, 40) == 1
    assert code.increment(first) == 1
    row = code.row(first)
    assert row is not None
    assert (row["status"], bool(row["assigned"])) == (41, True)
    assert {row["id"] for row in code.pending()} == {first, second, third}
    assert code.fail(second, "no such document") == 1
    row = code.row(second)
    assert row is not None
    assert (row["status"], row["result_message"]) == (-1, "no such document")
    assert code.delete_others(first, "export") == 1
    assert code.row(third) is None
    assert code.delete(first) == 1
    assert code.discard(second) == 1
    assert code.clear_old() == 0
    assert code.pending() == []
