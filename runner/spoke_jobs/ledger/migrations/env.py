"""Alembic's environment. Migrate on the given connection, and store the version in the ledger's own version table."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from spoke_jobs.ledger.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Processes that start at the same time migrate one after another.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": VERSION_TABLE})
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
