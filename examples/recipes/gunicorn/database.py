"""The application's table and engine, made before the fork; gunicorn.conf.py has each worker let go of connections."""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    """What the tables have in common."""


class Line(Base):
    """A line that a job or a task left."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    process: Mapped[int]


engine = create_engine(os.environ["SPOKE_DATABASE_URL"])
sessions = sessionmaker(engine)
