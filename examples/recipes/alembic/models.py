"""The application's tables, without the ledger's. A contact refers to the job that imported it, by its id."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the tables."""


class Contact(Base):
    """A contact, and the job that imported it."""

    __tablename__ = "contact"
    __table_args__ = (Index("ix_contact_name", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    job_id: Mapped[int | None]
