"""The application's Alembic environment. Only the argument ``include_object`` concerns the ledger."""

from __future__ import annotations

import os

from alembic import context
from models import Base
from sqlalchemy import create_engine

from spoke_jobs.ledger.tables import include_object

engine = create_engine(os.environ["SPOKE_DATABASE_URL"])
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_object,  # `spoke-jobs migrate` maintains the ledger's tables
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
