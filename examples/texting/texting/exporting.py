"""Export a campaign's contacts with their messages' states, as a CSV file for spreadsheets."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from texting.models import Contact, Message, Upload
from texting.spreadsheet import as_text

BATCH_ROWS = 5_000
"""Contacts per query and transaction. On SQLite a long transaction would block the job's heartbeat."""
FIELDS = ("external_id", "first_name", "last_name", "cell", "zip")
MESSAGE_FIELDS = ("message_state", "message_sent_at", "message_error")


@dataclass(frozen=True, slots=True)
class ExportRow:
    """A contact with its latest message."""

    contact_id: int
    about: tuple[str, ...]
    """The values of `FIELDS`."""
    custom_fields: dict[str, str]
    state: str | None
    """The message's state. None: no message."""
    sent_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class FinishedExport:
    """A finished CSV file."""

    content: bytes = field(repr=False)
    """Compressed with gzip."""
    rows: int
    sha256: str
    """Of the uncompressed file, hexadecimal."""


def count_contacts(session: Session, campaign_id: int) -> int:
    """Count the rows of the campaign's export."""
    return session.scalar(select(func.count()).where(Contact.campaign_id == campaign_id)) or 0


def custom_field_names(session: Session, campaign_id: int) -> tuple[str, ...]:
    """List the campaign's custom fields once each, in the order of its uploads and their columns."""
    uploads = session.scalars(select(Upload.custom_fields).where(Upload.campaign_id == campaign_id).order_by(Upload.id))
    return tuple(dict.fromkeys(name for names in uploads for name in names))


def read_batches(session: Session, campaign_id: int) -> Iterator[Sequence[ExportRow]]:
    """Yield the campaign's contacts by id, in batches with one transaction each."""
    # Columns, not objects: creating an object for each contact would take most of the job's time.
    page = (
        select(Contact.id, *(getattr(Contact, name) for name in FIELDS), Contact.custom_fields)
        .where(Contact.campaign_id == campaign_id)
        .order_by(Contact.id)
        .limit(BATCH_ROWS)
    )
    # The batch's messages are a separate query. With a subquery for each contact's latest message, PostgreSQL would
    # scan all messages for each contact without one, until it has statistics of the new table.
    messages = (
        select(Message.contact_id, Message.state, Message.sent_at, Message.error)
        .join(Contact, Contact.id == Message.contact_id)
        .where(Contact.campaign_id == campaign_id)
        .order_by(Message.id)
    )
    last = 0
    while rows := session.execute(page.where(Contact.id > last)).all():
        within = messages.where(Contact.id > last, Contact.id <= rows[-1][0])
        latest: dict[int, tuple[str, datetime | None, str]] = {
            key: (state, sent_at, error) for key, state, sent_at, error in session.execute(within)
        }
        session.rollback()
        last = rows[-1][0]
        batch = []
        for key, *rest in rows:
            state, sent_at, error = latest.get(key, (None, None, None))
            batch.append(ExportRow(key, tuple(rest[: len(FIELDS)]), rest[len(FIELDS)], state, sent_at, error))
        yield batch


class CsvExport:
    """A file that is compressed while it is written."""

    def __init__(self, custom_fields: Sequence[str]) -> None:
        self._custom_fields = custom_fields
        self._packed = io.BytesIO()
        self._hash = hashlib.sha256()
        self._gzip = gzip.GzipFile(fileobj=self._packed, mode="wb", compresslevel=6, mtime=0)
        self.rows = 0
        # Without a byte-order mark, spreadsheets read UTF-8 as a national encoding.
        self._write("\ufeff", [(*FIELDS, *(as_text(name) for name in custom_fields), *MESSAGE_FIELDS)])

    def add(self, batch: Sequence[ExportRow]) -> None:
        """Append contacts."""
        self._write("", [self._line(row) for row in batch])
        self.rows += len(batch)

    def finish(self) -> FinishedExport:
        """Return the finished file."""
        self._gzip.close()
        return FinishedExport(content=self._packed.getvalue(), rows=self.rows, sha256=self._hash.hexdigest())

    def _line(self, row: ExportRow) -> tuple[str, ...]:
        custom = [row.custom_fields.get(name, "") for name in self._custom_fields]
        sent_at = row.sent_at.isoformat(timespec="seconds") if row.sent_at else ""
        return tuple(as_text(value) for value in (*row.about, *custom, row.state or "", sent_at, row.error or ""))

    def _write(self, before: str, lines: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        data = (before + text.getvalue()).encode()
        self._hash.update(data)
        self._gzip.write(data)
