"""Alembic's environment. Migrate on the given connection, independently of the library's migrations."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from spoke_jobs.ledger.tables import include_object
from texting.models import Base
from texting.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Two pods that start at the same time migrate one after the other.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": VERSION_TABLE})
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=include_object,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
