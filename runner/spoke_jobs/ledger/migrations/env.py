"""Alembic's environment. Migrate on the given connection, and store the version in the ledger's own version table."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from spoke_jobs.ledger.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
if context.is_offline_mode():  # the SQL is only printed
    context.configure(
        dialect_name=connection.dialect.name,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
    )
else:
    if connection.dialect.name == "postgresql":
        lock_timeout = context.config.attributes["lock_timeout"]
        connection.execute(text("SELECT set_config('lock_timeout', :most, true)"), {"most": lock_timeout})
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
    )
context.run_migrations()
