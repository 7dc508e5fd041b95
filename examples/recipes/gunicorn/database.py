"""The application's table and engine, created before the fork. Each worker drops its connections (gunicorn.conf.py)."""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    """Base of the tables."""


class Line(Base):
    """A line that a job or a task stored."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    process: Mapped[int]


engine = create_engine(os.environ["SPOKE_DATABASE_URL"])
sessions = sessionmaker(engine)
