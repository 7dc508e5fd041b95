"""The application's tables, and the AsyncSession of a request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from sqlalchemy import ForeignKey
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from spoke_jobs.ledger.engine import configure_sqlite


class Base(DeclarativeBase):
    """Base of the tables."""


class Upload(Base):
    """An uploaded list of names."""

    __tablename__ = "upload"
    id: Mapped[int] = mapped_column(primary_key=True)
    names: Mapped[str]


class Contact(Base):
    """An imported name."""

    __tablename__ = "contact"
    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("upload.id"))
    name: Mapped[str]


class Notice(Base):
    """A line that the application shows."""

    __tablename__ = "notice"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


_url = make_url(os.environ["SPOKE_DATABASE_URL"])
_sqlite = _url.get_backend_name() == "sqlite"
# psycopg also supports asyncio. SQLite needs another driver.
async_engine = create_async_engine(_url.set(drivername="sqlite+aiosqlite") if _sqlite else _url)
if _sqlite:  # the ledger needs it: docs/architecture.md, "Limits to know"
    configure_sqlite(async_engine.sync_engine)

async_sessions = async_sessionmaker(async_engine, expire_on_commit=False)


async def open_session() -> AsyncIterator[AsyncSession]:
    """Yield a request's session. At the end of the request, uncommitted writes are rolled back."""
    async with async_sessions() as session:
        yield session
