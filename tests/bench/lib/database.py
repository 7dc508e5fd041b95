"""A fresh PostgreSQL database with the ledger's tables, for what measures this library alone."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from tests.postgres import server_url

from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.migrations import migrate

POSTGRES_URL = server_url(os.environ)


@contextmanager
def ledger_database() -> Iterator[Engine]:
    """Removed at the end, whoever is still connected."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    admin = create_engine(POSTGRES_URL, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine = create_ledger_engine(make_url(POSTGRES_URL).set(database=name))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()
