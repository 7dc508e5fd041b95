"""Alembic's environment: it migrates on the connection that it is given, and keeps its version in our own table."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from spoke_jobs.ledger.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Two pods that start together migrate one after the other.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": VERSION_TABLE})
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
