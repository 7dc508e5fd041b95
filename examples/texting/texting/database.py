"""The application's database, which is the ledger's as well: rows and jobs are committed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from spoke_jobs.ledger.engine import READ_ONLY, create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.settings import load_settings
from texting.models import Campaign


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


def lock_campaign(session: Session, campaign_id: int) -> Campaign:
    """The campaign as it is, kept from others who lock it until the session's transaction ends.

    Who writes to its contacts, divides them or counts them does. Whoever only refers to the campaign, as an import's
    new contacts do, needn't wait: on PostgreSQL the lock lets foreign keys through.

    :raises LookupError: if there is no such campaign.
    """
    query = select(Campaign).where(Campaign.id == campaign_id).with_for_update(key_share=True)
    # What the session may have read before the lock is out of date.
    campaign = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if campaign is None:
        raise LookupError(f"there is no campaign {campaign_id}")
    return campaign


@cache
def ledger() -> SqlLedger:
    """Where to look up how a job stands."""
    return SqlLedger(engine())
