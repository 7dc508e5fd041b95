"""Decode a file's bytes: compression, byte-order marks, encodings, and files that are not text."""

from __future__ import annotations

import re
import zlib

from charset_normalizer import from_bytes

from texting.contacts_csv.refusals import NotACsv

MAX_BYTES = 256 * 1024 * 1024
"""The largest accepted file, in uncompressed bytes: a small gzip file may expand beyond memory."""

_GZIP = b"\x1f\x8b"
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook (.xlsx)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"SQLite format 3", "an SQLite database"),
    (b"{\\rtf", "a rich text document"),
    (b"BZh", "a file compressed by bzip2"),
    (b"\xfd7zXZ", "a file compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd"),
)
_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's, so the longer ones come first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0e-\x1f\x7f]")
_SAVE_AS_CSV = "Save it as CSV (UTF-8), and upload that"


def text_of(data: bytes) -> tuple[str, str]:
    """Return a file's text and its encoding.

    NUL characters and byte-order marks are removed. Line ends stay as they are.

    :raises NotACsv: if the bytes are another kind of file, broken, too large, or no text.
    """
    data = _unpacked(data)
    for magic, name in _OTHER_FORMATS:
        if data.startswith(magic):
            raise NotACsv(f"the file is {name}, not a CSV file. {_SAVE_AS_CSV}")
    text, encoding = _decoded(data)
    if not text.strip("\x00\ufeff \t\r\n"):
        raise NotACsv("the file is empty. Upload a CSV file with a line of headings and a row for each contact")
    if text.count("\x00") > len(text) // 10 or len(_CONTROL.findall(text)) > len(text) // 100:
        raise NotACsv(f"the file is not text. {_SAVE_AS_CSV}")
    return text.replace("\x00", "").lstrip("\ufeff"), encoding


def _unpacked(data: bytes) -> bytes:
    if data.startswith(_GZIP):
        data = _gunzip(data)
    if len(data) > MAX_BYTES:
        raise NotACsv(f"the file is larger than {MAX_BYTES // 2**20} MiB. Split it, and upload the parts")
    return data


def _gunzip(data: bytes) -> bytes:
    unpacked = bytearray()
    try:
        while data.startswith(_GZIP):  # gzip files joined end to end are one file
            member = zlib.decompressobj(wbits=31)
            unpacked += member.decompress(data, MAX_BYTES + 1 - len(unpacked))
            if len(unpacked) > MAX_BYTES:
                break
            if not member.eof:
                raise NotACsv("the compressed file breaks off before its end. Compress it again, and upload that")
            data = member.unused_data
    except zlib.error as error:
        raise NotACsv(f"the compressed file is damaged ({error}). Compress it again, and upload that") from None
    return bytes(unpacked)


def _decoded(data: bytes) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), encoding
            except UnicodeDecodeError as error:
                raise NotACsv(f"the file begins as {encoding} does, and isn't that ({error}). {_SAVE_AS_CSV}") from None
    for encoding in (_unmarked_utf16(data) or "utf-8", "utf-8"):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    if _mostly_utf8(data):  # a UTF-8 file to which another program added a line
        return data.decode("utf-8", "replace"), "utf-8"
    encoding = _guess(data)
    return data.decode(encoding, "replace"), encoding


def _unmarked_utf16(data: bytes) -> str | None:
    """Detect UTF-16 without a byte-order mark: one of the two bytes of letters, delimiters and line ends is zero."""
    sample = data[:4096]
    half = len(sample) // 2
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if second > half * 0.4 and first < half * 0.05:
        return "utf-16-le"
    if first > half * 0.4 and second < half * 0.05:
        return "utf-16-be"
    return None


def _mostly_utf8(data: bytes) -> bool:
    """Whether the text is UTF-8 except for a few broken bytes, which are then replaced by U+FFFD."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    sound = len(re.findall(r"[^\x00-\x7f]", text)) - broken
    return sound > 10 * broken


def _guess(data: bytes) -> str:
    """Guess the one-byte (or East Asian) encoding from the lines that have non-ASCII bytes.

    A few accents fit several encodings equally well. Then prefer Windows-1252, by far the most common one.
    """
    lines = [line for line in data.splitlines() if not line.isascii()]
    matches = from_bytes(b"\n".join(lines[:2000]))
    best = matches.best()
    if best is None:
        return "cp1252"
    fitting = {name for match in matches if match.chaos <= best.chaos for name in match.could_be_from_charset}
    return "cp1252" if "cp1252" in fitting else best.encoding
