"""A file's bytes to text: the encodings and wrappings that organizations' programs write, and what is no text."""

from __future__ import annotations

import gzip

import pytest

from texting.contacts_csv import NotACsv, decoding
from texting.contacts_csv.decoding import text_of

WESTERN = "first,last,cell\nJosé,Muñoz,1\nRenée,Lefèvre,2\nJürgen,Groß,3\n"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", WESTERN),
        ("utf-8-sig", WESTERN),
        ("utf-16", WESTERN),
        ("utf-16-le", WESTERN),
        ("utf-16-be", WESTERN),
        ("utf-32", WESTERN),
        ("cp1252", WESTERN),
        ("cp1252", "first,last,cell\nJosé,Munoz,(212) 555-0100\n"),
        ("cp1252", "first,last,cell,note\nAnn,O\u2019Brien,1,\u201csure\u201d \u2013 ok\n"),
        ("latin-1", WESTERN),
        ("cp1250", "first,last,cell\nJiří,Dvořák,1\nŽofie,Šťastná,2\nŁukasz,Wójcik,3\nZdeněk,Říha,4\n"),
        ("cp1251", "first,last,cell\nИван,Петров,1\nАнна,Сидорова,2\nМария,Кузнецова,3\n"),
    ],
)
def test_reads_every_letter_whatever_the_encoding(encoding: str, text: str) -> None:
    assert text_of(text.encode(encoding))[0] == text


def test_one_broken_line_does_not_spoil_the_names_of_a_utf8_file() -> None:
    data = WESTERN.encode() * 3 + "Zoë,x,4\n".encode("latin-1")
    text, encoding = text_of(data)
    assert encoding == "utf-8"
    assert text.count("José") == 3
    assert "Zo\ufffd,x,4" in text


@pytest.mark.parametrize("times", [1, 2])
def test_unpacks_gzip_and_gzip_files_joined_end_to_end(times: int) -> None:
    assert text_of(gzip.compress(WESTERN.encode()) * times)[0] == WESTERN * times


def test_drops_nul_characters() -> None:
    assert text_of(b"first,last,cell\nA\x00nn,Lee,1\n" + b"Bo,Ng,2\n" * 5)[0].splitlines()[1] == "Ann,Lee,1"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"PK\x03\x04" + bytes(100), "Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel workbook"),
        (b"%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 20, "not text"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n", mtime=0), "PNG"),
        (gzip.compress(WESTERN.encode(), mtime=0)[:-12], "breaks off"),
        (b"\x1f\x8bnonsense", "damaged"),
        (b"\xff\xfea", "isn't that"),
    ],
)
def test_refuses_what_is_no_text_by_name(data: bytes, says: str) -> None:
    with pytest.raises(NotACsv, match=says):
        text_of(data)


def test_refuses_a_small_file_that_unpacks_to_a_huge_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 2**20)
    assert text_of(gzip.compress(b"x" * 2**20))
    with pytest.raises(NotACsv, match="larger than 1 MiB"):
        text_of(gzip.compress(b"x" * (2**20 + 1)))
