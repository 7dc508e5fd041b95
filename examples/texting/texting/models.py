"""The application's tables: who texts whom, about what, and the files that go in and come out.

Files live in tables, not in a folder: a job's pod shares the database with the web application and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import (
    JSON,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def utc_now() -> datetime:
    """The current moment, aware and in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment that is aware and in UTC in Python, on SQLite too, which keeps no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone: use utc_now(), or datetime with tzinfo=UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The application's own tables; the library keeps its tables in a metadata of its own."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class and never changes it
        datetime: UtcDateTime,
        str: Text,
        dict[str, str]: JSON,
        dict[str, int]: JSON(none_as_null=True),
        dict[str, dict[str, int | None]]: JSON,
        list[str]: JSON,
    }


class Organization(Base):
    """Who runs campaigns. Opt-outs hold for a whole organisation."""

    __tablename__ = "organization"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Assigning(StrEnum):
    """Whom a campaign's texters write to."""

    OPEN = "open"
    """Whoever asks, to the first contacts that are nobody's."""
    FIXED = "fixed"
    """Each to the contacts that were assigned to them."""
    DYNAMIC = "dynamic"
    """Each to contacts that they take when they ask, up to a maximum of their own."""


class Campaign(Base):
    """One round of texting: a list of contacts and what to say to them."""

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), index=True)
    title: Mapped[str]
    script: Mapped[str]
    """The message, with ``{firstName}``, ``{lastName}`` and custom fields' names in braces."""
    country: Mapped[str] = mapped_column(default="US")
    """ISO 3166 code, two capital letters: how to read numbers that name no country."""
    assigning: Mapped[str] = mapped_column(default=Assigning.OPEN)
    started_at: Mapped[datetime | None]
    """Since when texters may write; None: not yet."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class OptOut(Base):
    """A number that asked an organisation not to be texted again."""

    __tablename__ = "opt_out"
    __table_args__ = (UniqueConstraint("organization_id", "cell"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"))
    cell: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Upload(Base):
    """A contacts file as it came: the bytes, compressed or not."""

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), index=True)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    custom_fields: Mapped[list[str]] = mapped_column(default=list)
    """The names of the file's custom fields in its own order, known once its import has begun."""
    summary: Mapped[dict[str, int] | None]
    """What became of its rows, once they are all loaded."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Assignment(Base):
    """A texter's share of a campaign's contacts. A campaign has a texter once."""

    __tablename__ = "assignment"
    # An index, not a constraint: SQLite can't add that to a table that has rows and is referred to.
    __table_args__ = (Index("ix_assignment_campaign_id_texter", "campaign_id", "texter", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    texter: Mapped[str]
    max_contacts: Mapped[int | None]
    """How many contacts the texter may hold, written ones included; None: any number."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Contact(Base):
    """A person to text in one campaign. A campaign has a number once."""

    __tablename__ = "contact"
    __table_args__ = (UniqueConstraint("campaign_id", "cell"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"), index=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    cell: Mapped[str]
    """E.164: a plus sign, the country's code, the number."""
    zip: Mapped[str]
    external_id: Mapped[str]
    custom_fields: Mapped[dict[str, str]]
    import_uid: Mapped[UUID] = mapped_column(Uuid, index=True)
    """The uid of the job that loaded it: an attempt that follows a killed one counts what both loaded."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class MessageState(StrEnum):
    """How far a message has come."""

    QUEUED = "queued"
    SENT = "sent"
    HELD = "held"
    """The contact opted out before it was sent."""
    REFUSED = "refused"
    """The carrier won't take it, now or later."""


class Message(Base):
    """A text to one contact."""

    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contact.id"), index=True)
    key: Mapped[UUID] = mapped_column(Uuid, default=uuid4, unique=True)
    """By which the carrier knows it again: an id would come back in the next database."""
    text: Mapped[str]
    state: Mapped[str] = mapped_column(default=MessageState.QUEUED)
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    sent_at: Mapped[datetime | None]


class ExportFile(Base):
    """A finished export: a CSV file in UTF-8, compressed with gzip."""

    __tablename__ = "export_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), index=True)
    job_uid: Mapped[UUID] = mapped_column(Uuid, unique=True)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    rows: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class CampaignCache(Base):
    """What texters read when they begin, counted beforehand; no row: not counted, and to be read from the rest.

    It is never wrong: whoever changes what it says changes or deletes it in the same transaction, with the campaign's
    row locked (`texting.start_cache`).
    """

    __tablename__ = "campaign_cache"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), primary_key=True, autoincrement=False)
    script: Mapped[str]
    fields: Mapped[list[str]]
    """The custom fields that contacts have."""
    contacts: Mapped[int]
    texters: Mapped[dict[str, dict[str, int | None]]]
    """By texter: how many contacts they hold, how many of these are still to be written to, and their maximum."""
    warmed_at: Mapped[datetime] = mapped_column(default=utc_now)
