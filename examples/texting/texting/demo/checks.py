"""Compare the demonstration's numbers with the file."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from texting.exporting import FIELDS
from texting.sample import CUSTOM_FIELDS, Sample, SampleContact, checksum
from texting.spreadsheet import as_text
from texting.start_cache import CampaignNumbers


@dataclass(frozen=True, slots=True)
class Check:
    """An expected and an actual number."""

    what: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        """Whether they are equal."""
        return self.expected == self.found


def import_checks(sample: Sample, result: Mapping[str, int], contacts: int) -> list[Check]:
    """Check the import's summary and the number of contacts."""
    rows = [Check(f"rows {name.replace('_', ' ')}", count, result.get(name)) for name, count in sample.summary.items()]
    return [*rows, Check("contacts in the table", sample.summary["loaded"], contacts)]


def assignment_checks(
    sample: Sample, texters: Sequence[str], result: Mapping[str, int], counted: CampaignNumbers
) -> list[Check]:
    """Check that every contact has a texter, that shares are equal, and that the texters' pages agree."""
    loaded = sample.summary["loaded"]
    parts = {
        texter: (loaded + len(texters) - 1 - place) // len(texters)  # the first ones get the remainder
        for place, texter in enumerate(texters)
    }
    return [
        Check("contacts assigned", loaded, result.get("assigned")),
        Check("by texter, as counted", parts, {texter: each.contacts for texter, each in counted.texters.items()}),
    ]


def left_checks(sample: Sample, messages: int, counted: CampaignNumbers) -> list[Check]:
    """Check that the texters' pages count their messages."""
    left = sum(each.to_write for each in counted.texters.values())
    return [Check("left to write, as counted", sample.summary["loaded"] - messages, left)]


def message_checks(messages: int, states: Mapping[str, int], delivered: int) -> list[Check]:
    """Check that every message was sent, and delivered once."""
    return [
        Check("messages, by state", {"sent": messages}, dict(states)),
        Check("delivered by the carrier", messages, delivered),
    ]


def export_checks(sample: Sample, messages: int, content: bytes) -> list[Check]:
    """Check the export against the file: number of rows, values, number of messages."""
    rows = _rows(content)
    return [
        Check("rows in the export", len(sample.contacts), len(rows)),
        Check("messages sent, by the export", messages, sum(row["message_state"] == "sent" for row in rows)),
        Check(
            "checksum of all its values",
            checksum(_expected(contact) for contact in sample.contacts)[:16],
            checksum(tuple(row[name] for name in (*FIELDS, *CUSTOM_FIELDS)) for row in rows)[:16],
        ),
    ]


def check_table(checks: Sequence[Check]) -> Table:
    """Format the checks as text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CHECK")
    table.add_column("BY THE FILE", justify="right")
    table.add_column("FOUND", justify="right")
    table.add_column("")
    for check in checks:
        verdict = Text("ok", "green") if check.holds else Text("WRONG", "bold red")
        table.add_row(check.what, _shown(check.expected), _shown(check.found), verdict)
    return table


def _rows(content: bytes) -> list[dict[str, str]]:
    text = gzip.decompress(content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _expected(contact: SampleContact) -> tuple[str, ...]:
    return tuple(as_text(value) for value in (*(getattr(contact, name) for name in FIELDS), *contact.custom_fields))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in sorted(value.items())) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
