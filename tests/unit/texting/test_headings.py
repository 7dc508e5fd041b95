"""Which column is which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from texting.contacts_csv import MissingColumns
from texting.contacts_csv.headings import columns_of


@pytest.mark.parametrize(
    "first", ["firstName", "First Name", "FIRST_NAME", " first-name ", "givenname", "First", "fname"]
)
@pytest.mark.parametrize("last", ["lastName", "Last Name", "surname", "LAST", "Family.Name"])
@pytest.mark.parametrize("cell", ["cell", "Mobile", "phone_number", "Phone", "number", "Cell Phone", "ＣＥＬＬ"])
def test_knows_the_spellings(first: str, last: str, cell: str) -> None:
    columns = columns_of(["id", cell, last, first])
    assert (columns.first_name, columns.last_name, columns.cell) == (3, 2, 1)
    assert columns.custom == (("id", 0),)


def test_finds_the_optional_columns() -> None:
    columns = columns_of(["first", "last", "cell", "postalCode", "external_id"])
    assert (columns.zip, columns.external_id, columns.custom) == (3, 4, ())
    columns = columns_of(["first", "last", "cell"])
    assert (columns.zip, columns.external_id) == (None, None)


def test_takes_the_likeliest_of_several_and_keeps_the_others_as_custom_fields() -> None:
    columns = columns_of(["Phone", "first", "last", "cell", "Cell"])
    assert columns.cell == 3
    assert columns.custom == (("Phone", 0), ("Cell", 4))


def test_repeated_custom_fields_get_numbers_that_no_other_heading_has() -> None:
    columns = columns_of(["first", "last", "cell", "note", "note", "note (2)", "", "note", " note "])
    assert [name for name, _ in columns.custom] == ["note", "note (3)", "note (2)", "note (4)", "note (5)"]


def test_names_what_is_missing_and_what_was_found() -> None:
    with pytest.raises(MissingColumns) as refused:
        columns_of(["Name", "Phone"])
    assert refused.value.missing == ("first name", "last name")
    assert "first name, last name" in str(refused.value)
    assert "'Name', 'Phone'" in str(refused.value)
    assert "firstName" in str(refused.value)


@given(st.lists(st.text(alphabet="ab ()23", max_size=6), max_size=12))
def test_no_custom_field_is_lost_or_hides_another(further: list[str]) -> None:
    custom = columns_of(["first", "last", "cell", *further]).custom
    assert [place for _, place in custom] == [place for place, name in enumerate(further, start=3) if name.strip()]
    assert len({name for name, _ in custom}) == len(custom)
