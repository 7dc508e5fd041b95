"""Load a contacts file into a campaign. An attempt may be killed at any point, and the next one continues.

The job's checkpoint says how many rows of the file are loaded, and how they were counted. It is committed together with
the rows. The next attempt reads the file again, and loads only the rows after that place. A row is loaded at most once
in any case, because a number is unique within a campaign in the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, undefer

from texting.contacts_csv import ContactRow, LeftOut, Reason
from texting.models import Campaign, Contact, OptOut, Upload

BATCH_ROWS = 2_000
"""Rows per transaction. On SQLite a transaction blocks all other writers, including the job's heartbeat."""
LOADED = "loaded"

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """The number of a file's rows by result. Their sum is the number of rows."""

    loaded: int
    repeated: int
    """The number occurred earlier in the file, or was in the campaign before the import."""
    invalid: int
    missing: int
    opted_out: int

    def to_json(self) -> dict[str, int]:
        """Return the job's result."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """An import's input."""

    content: bytes
    country: str
    opted_out: frozenset[str]


@dataclass(frozen=True, slots=True)
class Place:
    """How far an import is: the job's checkpoint."""

    rows: int = 0
    """The number of rows that are loaded or left out."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """These rows, by the reason why they are left out; the loaded ones are under ``LOADED``."""

    @classmethod
    def of(cls, checkpoint: Any) -> Place:
        """Read a checkpoint. None: the import begins."""
        return cls() if checkpoint is None else cls(checkpoint["rows"], checkpoint["counted"])

    def after(self, batch: Sequence[ContactRow | LeftOut]) -> Place:
        """Return the place after another batch."""
        more = Counter(row.reason.value if isinstance(row, LeftOut) else LOADED for row in batch)
        return Place(batch[-1].row, Counter(self.counted) + more)

    def to_json(self) -> dict[str, Any]:
        """Return the checkpoint."""
        return {"rows": self.rows, "counted": dict(self.counted)}


class UploadNotFoundError(LookupError):
    """There is no such upload in that campaign."""


def load_source(session: Session, upload_id: int) -> Source:
    """Read the upload, and the numbers that had opted out when it was uploaded.

    Every attempt must leave out the same rows, or the summary would be inconsistent. Sending checks later opt-outs
    before each message.

    :raises UploadNotFoundError: if there is no such upload.
    """
    upload = session.get(Upload, upload_id, options=[undefer(Upload.content)])
    if upload is None:
        raise UploadNotFoundError(
            f"there is no upload {upload_id}: it has been deleted since the import was dispatched"
        )
    campaign = session.get_one(Campaign, upload.campaign_id)
    return Source(
        content=upload.content,
        country=campaign.country,
        opted_out=_opted_out(session, campaign.organization_id, upload.created_at),
    )


def load_rows(session: Session, campaign_id: int, import_uid: UUID, rows: Iterable[ContactRow | LeftOut]) -> None:
    """Insert the rows whose numbers are not in the campaign yet. The caller commits."""
    contacts = [row for row in rows if isinstance(row, ContactRow)]
    if contacts:
        _insert_new(session, campaign_id, import_uid, contacts)


def summarize(session: Session, import_uid: UUID, counted: Mapping[str, int]) -> ImportSummary:
    """Summarize after the last row. A number that this job did not load was in the campaign before."""
    loaded = session.scalar(select(func.count()).where(Contact.import_uid == import_uid)) or 0
    return ImportSummary(
        loaded=loaded,
        repeated=counted.get(Reason.REPEATED, 0) + counted.get(LOADED, 0) - loaded,
        invalid=counted.get(Reason.INVALID, 0),
        missing=counted.get(Reason.MISSING, 0),
        opted_out=counted.get(Reason.OPTED_OUT, 0),
    )


def batches(items: Iterable[_Item], size: int = BATCH_ROWS) -> Iterator[list[_Item]]:
    """Yield the items in lists of ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _opted_out(session: Session, organization_id: int, until: datetime) -> frozenset[str]:
    query = select(OptOut.cell).where(OptOut.organization_id == organization_id, OptOut.created_at <= until)
    return frozenset(session.scalars(query))


def _insert_new(session: Session, campaign_id: int, import_uid: UUID, contacts: Sequence[ContactRow]) -> None:
    # SQLAlchemy has a separate ON CONFLICT for each dialect.
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = [
        {
            "campaign_id": campaign_id,
            "first_name": contact.first_name,
            "last_name": contact.last_name,
            "cell": contact.cell,
            "zip": contact.zip,
            "external_id": contact.external_id,
            "custom_fields": contact.custom_fields,
            "import_uid": import_uid,
        }
        for contact in contacts
    ]
    session.execute(insert(Contact).on_conflict_do_nothing(index_elements=["campaign_id", "cell"]), values)
