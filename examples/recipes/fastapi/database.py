"""The application's tables, and its two ways to them: an AsyncSession for requests, a plain one for the rest."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from spoke_jobs.ledger.engine import configure_sqlite


class Base(DeclarativeBase):
    """What the tables have in common."""


class Upload(Base):
    """Names that somebody sent."""

    __tablename__ = "upload"
    id: Mapped[int] = mapped_column(primary_key=True)
    names: Mapped[str]


class Contact(Base):
    """A name that was imported."""

    __tablename__ = "contact"
    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("upload.id"))
    name: Mapped[str]


class Notice(Base):
    """A line for somebody to read."""

    __tablename__ = "notice"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


_url = make_url(os.environ["SPOKE_DATABASE_URL"])
_sqlite = _url.get_backend_name() == "sqlite"
# psycopg has both ways in one driver; SQLite needs another one for asyncio.
async_engine = create_async_engine(_url.set(drivername="sqlite+aiosqlite") if _sqlite else _url)
engine = create_engine(_url)
if _sqlite:  # as a ledger needs it: docs/architecture.md, "Limits to know"
    configure_sqlite(async_engine.sync_engine)
    configure_sqlite(engine)

async_sessions = async_sessionmaker(async_engine, expire_on_commit=False)
sessions = sessionmaker(engine)


async def open_session() -> AsyncIterator[AsyncSession]:
    """A request's session; what isn't committed when it is answered is rolled back."""
    async with async_sessions() as session:
        yield session
