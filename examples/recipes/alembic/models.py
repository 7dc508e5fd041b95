"""The application's tables. The ledger's are none of them, and may be referred to: here, which job made a contact."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What the tables have in common."""


class Contact(Base):
    """A contact, and the job that imported it."""

    __tablename__ = "contact"
    __table_args__ = (Index("ix_contact_name", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    job_id: Mapped[int | None]
