"""The application's database, which is the ledger's as well: rows and jobs are committed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from spoke_jobs.ledger.engine import READ_ONLY, create_engine
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.settings import load_settings


@cache
def engine() -> Engine:
    """The process's engine, on what SPOKE_DATABASE_URL names.

    :raises spoke_jobs.errors.ConfigurationError: if it is unset, or names no database that can serve.
    """
    return create_engine(load_settings().database_url.get_secret_value())


@cache
def sessions() -> sessionmaker[Session]:
    """Makes sessions; ``with sessions().begin() as session:`` is one transaction."""
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def reading() -> Iterator[Session]:
    """A session that only reads: on SQLite, where a transaction is a writer's by default, it waits for none."""
    with sessions()() as session:
        session.connection(execution_options={READ_ONLY: True})
        yield session


@cache
def ledger() -> SqlLedger:
    """Where to look up how a job stands."""
    return SqlLedger(engine())
