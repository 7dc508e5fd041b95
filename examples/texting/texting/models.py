"""The application's tables.

Files are stored in tables, because the database is all that a job's pod shares with the web application.
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
    """Return the current time, aware and in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time that is aware and in UTC in Python, also on SQLite, which stores no time zones."""

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
    """Base of the application's tables. The library's tables have a metadata of their own."""

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
    """An organization that runs campaigns. Opt-outs apply to a whole organization."""

    __tablename__ = "organization"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Assigning(StrEnum):
    """How contacts get their texters."""

    OPEN = "open"
    """Every texter takes the first free contacts."""
    FIXED = "fixed"
    """Every texter has assigned contacts."""
    DYNAMIC = "dynamic"
    """Every texter takes contacts when sending, up to a maximum."""


class Campaign(Base):
    """A list of contacts and a script."""

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), index=True)
    title: Mapped[str]
    script: Mapped[str]
    """The message, with ``{firstName}``, ``{lastName}`` and custom fields' names in braces."""
    country: Mapped[str] = mapped_column(default="US")
    """ISO 3166 code, two capital letters, for numbers without a country code."""
    assigning: Mapped[str] = mapped_column(default=Assigning.OPEN)
    started_at: Mapped[datetime | None]
    """When the campaign started. None: not started."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class OptOut(Base):
    """A number that an organization must not text again."""

    __tablename__ = "opt_out"
    __table_args__ = (UniqueConstraint("organization_id", "cell"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"))
    cell: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Upload(Base):
    """An uploaded contacts file, unchanged."""

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), index=True)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    custom_fields: Mapped[list[str]] = mapped_column(default=list)
    """The file's custom fields in its own order. Set when its import starts."""
    summary: Mapped[dict[str, int] | None]
    """The import's summary. Set when all rows are loaded."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Assignment(Base):
    """A texter's share of a campaign's contacts. A texter occurs once in a campaign."""

    __tablename__ = "assignment"
    # An index, not a constraint: SQLite cannot add a constraint to a table that is referred to.
    __table_args__ = (Index("ix_assignment_campaign_id_texter", "campaign_id", "texter", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    texter: Mapped[str]
    max_contacts: Mapped[int | None]
    """Maximum number of contacts, including written ones. None: no limit."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Contact(Base):
    """A person to text in one campaign. A number occurs once in a campaign."""

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
    """The uid of the job that loaded it, so that a later attempt also counts the rows of earlier ones."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class MessageState(StrEnum):
    """A message's state."""

    QUEUED = "queued"
    SENT = "sent"
    HELD = "held"
    """The contact opted out before it was sent."""
    REFUSED = "refused"
    """The carrier refused it for good."""


class Message(Base):
    """A text to one contact."""

    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contact.id"), index=True)
    key: Mapped[UUID] = mapped_column(Uuid, default=uuid4, unique=True)
    """The carrier's idempotency key. An id would not be unique: another database uses the same ids."""
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
    """A campaign's numbers for the texters' pages, counted beforehand. Without a row, a page counts by itself.

    The row is never wrong: every change of the numbers updates or deletes it in the same transaction, with the
    campaign's row locked (`texting.start_cache`).
    """

    __tablename__ = "campaign_cache"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), primary_key=True, autoincrement=False)
    script: Mapped[str]
    fields: Mapped[list[str]]
    """The custom fields that contacts have."""
    contacts: Mapped[int]
    texters: Mapped[dict[str, dict[str, int | None]]]
    """By texter: the number of contacts, the number still to be written to, and the maximum."""
    warmed_at: Mapped[datetime] = mapped_column(default=utc_now)
