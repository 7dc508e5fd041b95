"""The application's tables, with Flask-SQLAlchemy."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the tables."""


db = SQLAlchemy(model_class=Base)


class Upload(db.Model):
    """An uploaded list of names."""

    id: Mapped[int] = mapped_column(primary_key=True)
    names: Mapped[str]


class Contact(db.Model):
    """An imported name."""

    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("upload.id"))
    name: Mapped[str]
