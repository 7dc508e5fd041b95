"""Contacts files, whole: what is taken, what is left out and counted, what is refused."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from texting.contacts_csv import ContactRow, LeftOut, MissingColumns, NotACsv, Reason, RefusedFile, open_contacts

HEADINGS = "first,last,cell\n"


def read(text: str, opted_out: frozenset[str] = frozenset()) -> list[ContactRow | LeftOut]:
    return list(open_contacts(text.encode()).read(opted_out=opted_out))


def test_a_row_becomes_a_contact() -> None:
    file = open_contacts(
        b"External ID,First Name,Last Name,Mobile,Zip,Pet,Pet\r\n"
        b'7," Ada ","van\nRossum",(212) 555-0100,2134-0001,cat,dog\r\n'
    )
    assert file.custom_fields == ("Pet", "Pet (2)")
    assert list(file.read()) == [
        ContactRow(
            row=1,
            first_name="Ada",
            last_name="van\nRossum",
            cell="+12125550100",
            zip="02134",
            external_id="7",
            custom_fields={"Pet": "cat", "Pet (2)": "dog"},
        )
    ]


def test_rows_left_out_say_why_and_the_first_reason_counts() -> None:
    rows = read(
        HEADINGS + "A,A,\nB,B,12\nC,C,2125550100\nD,D,+1 212 555 0100\nE,E,2125550101\nF,F,2125550101\n",
        opted_out=frozenset({"+12125550101"}),
    )
    assert [row.reason if isinstance(row, LeftOut) else row.first_name for row in rows] == [
        *(Reason.MISSING, Reason.INVALID, "C", Reason.REPEATED, Reason.OPTED_OUT, Reason.REPEATED),
    ]
    assert [row.row for row in rows] == [1, 2, 3, 4, 5, 6]


def test_ragged_rows_and_empty_lines_shift_nothing() -> None:
    file = open_contacts(b"\n\nfirst,last,cell,note\n\nA,A,2125550100\n,,,\n   \nB,B,2125550101,x,beyond\nC\n")
    assert file.rows == 3
    rows = list(file.read())
    assert [row.custom_fields for row in rows if isinstance(row, ContactRow)] == [{"note": ""}, {"note": "x"}]
    assert rows[2] == LeftOut(3, Reason.MISSING)


@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_finds_the_delimiter_and_the_line_ends(delimiter: str, end: str) -> None:
    lines = (["first", "last", "cell", "a,b;c"], ["A", "x;y,z", "212-555-0100", "1,2;3"])
    text = end.join(delimiter.join(f'"{value}"' for value in line) for line in lines)
    (row,) = read(text)
    assert isinstance(row, ContactRow)
    assert (row.last_name, row.custom_fields) == ("x;y,z", {"a,b;c": "1,2;3"})


def test_takes_the_delimiter_that_a_spreadsheet_names() -> None:
    (row,) = read("sep=;\r\nfirst;last;cell\r\nA;B;2125550100\r\n")
    assert isinstance(row, ContactRow)
    assert row.last_name == "B"


@pytest.mark.parametrize("text", ["", HEADINGS, "\n\n" + HEADINGS + ",,\n", "just one line of prose"])
def test_refuses_a_file_without_rows(text: str) -> None:
    with pytest.raises(NotACsv):
        open_contacts(text.encode())


def test_refuses_a_file_without_the_required_columns() -> None:
    with pytest.raises(MissingColumns, match="no column for last name, cell: its first line reads 'first', 'pet'"):
        open_contacts(b"first,pet\nA,cat\n")


@pytest.mark.parametrize("rows_after", [0, 3, 40_000])
def test_refuses_a_quote_left_open_rather_than_swallow_the_rows_after_it(rows_after: int) -> None:
    text = HEADINGS + 'A,A,2125550100\nB,"B,2125550101\n' + "C,C,2125550102\n" * rows_after
    with pytest.raises(NotACsv, match="beginning on line 3"):
        open_contacts(text.encode())


def test_quotes_inside_of_unquoted_values_are_letters() -> None:
    (row,) = read(HEADINGS + 'Joe "The Rock,Lee,2125550100\n')
    assert isinstance(row, ContactRow)
    assert row.first_name == 'Joe "The Rock'


text_values = st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\r\"',;\t|"), max_size=12)


@given(
    rows=st.lists(st.tuples(text_values, text_values, st.integers(0, 9_999), text_values), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    # Python's writer leaves a lone carriage return unquoted where lines end in \n: a file that says something else.
    style=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
    packed=st.booleans(),
)
def test_whatever_is_written_as_csv_is_read_as_it_was(
    rows: list[tuple[str, str, int, str]], delimiter: str, encoding: str, style: tuple[str, int], packed: bool
) -> None:
    end, quoting = style
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["First name", "Last name", "Cell", "Note"])
    writer.writerows((first, last, f"212555{number:04}", note) for first, last, number, note in rows)
    data = text.getvalue().encode(encoding)

    got = list(open_contacts(gzip.compress(data) if packed else data).read())

    expected = {}
    for first, last, number, note in rows:
        expected.setdefault(f"+1212555{number:04}", (first.strip(), last.strip(), note.strip()))
    assert {
        row.cell: (row.first_name, row.last_name, row.custom_fields["Note"])
        for row in got
        if isinstance(row, ContactRow)
    } == expected
    assert sum(isinstance(row, LeftOut) and row.reason is Reason.REPEATED for row in got) == len(rows) - len(expected)


@settings(max_examples=300)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda data: b"first,last,cell\n" + data)
    | st.text(alphabet='a1,;"\n\r\t \x00é', max_size=60).map(lambda text: ("first,last,cell\n" + text).encode("cp1252"))
)
def test_any_bytes_are_read_to_the_last_row_or_refused(data: bytes) -> None:
    try:
        file = open_contacts(data)
    except RefusedFile:
        return
    assert [row.row for row in file.read()] == list(range(1, file.rows + 1))
