"""The sample file says the truth about itself."""

from __future__ import annotations

from collections import Counter

import phonenumbers
import pytest

from texting.contacts_csv import ContactRow, LeftOut, open_contacts
from texting.sample import _AREAS, _PER_AREA, CUSTOM_FIELDS, HEADINGS, _e164, checksum, make_sample


def test_what_the_reader_finds_is_what_the_maker_put_in() -> None:
    sample = make_sample(3_000, seed=7)
    file = open_contacts(sample.data)
    rows = list(file.read(opted_out=frozenset(sample.opted_out)))

    assert file.rows == 3_000
    assert file.custom_fields == CUSTOM_FIELDS
    counted = Counter(str(row.reason) if isinstance(row, LeftOut) else "loaded" for row in rows)
    assert counted == sample.summary
    assert all(sample.summary.values()), "a sample without one kind of trouble shows nothing of it"
    assert [
        (row.first_name, row.last_name, row.cell, row.zip, row.external_id, *row.custom_fields.values())
        for row in rows
        if isinstance(row, ContactRow)
    ] == [
        (each.first_name, each.last_name, each.cell, each.zip, each.external_id, *each.custom_fields)
        for each in sample.contacts
    ]


def test_every_area_that_it_uses_has_valid_numbers() -> None:
    for area in range(len(_AREAS)):
        assert phonenumbers.is_valid_number(phonenumbers.parse(_e164(area * _PER_AREA)))


def test_the_file_holds_the_troubles_it_is_for() -> None:
    data = make_sample(3_000, seed=7).data
    assert data.startswith(b"\xef\xbb\xbf")
    assert b'"two lines\nin one value"' in data
    assert b"\r\n\r\n" in data
    assert HEADINGS.count("note") == 2


def test_the_same_seed_makes_the_same_bytes_and_another_other_ones() -> None:
    assert make_sample(500, seed=1).data == make_sample(500, seed=1).data
    assert make_sample(500, seed=1).data != make_sample(500, seed=2).data


@pytest.mark.parametrize("rows", [0, 99, 10_000_000])
def test_refuses_a_size_that_it_cannot_make(rows: int) -> None:
    with pytest.raises(ValueError, match="a sample has from 100 to"):
        make_sample(rows, seed=1)


def test_the_checksum_minds_every_value_and_no_order() -> None:
    rows = [("a", "b"), ("c", "d")]
    assert checksum(rows) == checksum(reversed(rows))
    assert checksum(rows) != checksum([("a", "b"), ("c", "e")])
    assert checksum([("ab", "")]) != checksum([("a", "b")])
