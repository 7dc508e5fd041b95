"""The application's tables, as Flask-SQLAlchemy has them."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What the tables have in common."""


db = SQLAlchemy(model_class=Base)


class Upload(db.Model):
    """Names that somebody sent."""

    id: Mapped[int] = mapped_column(primary_key=True)
    names: Mapped[str]


class Contact(db.Model):
    """A name that was imported."""

    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("upload.id"))
    name: Mapped[str]
