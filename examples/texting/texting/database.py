"""The application's database. It is the ledger's as well, so that rows and jobs are committed together."""

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
    """Return the process's engine for SPOKE_DATABASE_URL.

    :raises spoke_jobs.errors.ConfigurationError: if it is unset or unusable.
    """
    return create_engine(load_settings().database)


@cache
def sessions() -> sessionmaker[Session]:
    """Return the sessionmaker. ``with sessions().begin() as session:`` is one transaction."""
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def reading() -> Iterator[Session]:
    """Yield a read-only session. On SQLite it does not wait for writers, unlike a default transaction."""
    with sessions()() as session:
        session.connection(execution_options={READ_ONLY: True})
        yield session


def lock_campaign(session: Session, campaign_id: int) -> Campaign:
    """Lock and return the campaign until the session's transaction ends.

    Sending, dividing and counting lock the campaign. New rows that refer to it, such as an import's contacts, do not
    wait: on PostgreSQL this lock does not conflict with foreign keys.

    :raises LookupError: if there is no such campaign.
    """
    query = select(Campaign).where(Campaign.id == campaign_id).with_for_update(key_share=True)
    # The session may have read the campaign before the lock: read it again.
    campaign = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if campaign is None:
        raise LookupError(f"there is no campaign {campaign_id}")
    return campaign


@cache
def ledger() -> SqlLedger:
    """Return the ledger, to look up a job's state."""
    return SqlLedger(engine())
