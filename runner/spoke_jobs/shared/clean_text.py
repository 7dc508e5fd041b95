"""Text that others wrote, in a form that every database, log, API and terminal can hold.

Each function is total: any text is valid input.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any

CAUSE_LIMIT = 40
CAUSE_PATTERN = rf"[A-Za-z][A-Za-z0-9_]{{0,{CAUSE_LIMIT - 1}}}"
"""The form of a cause's name. A name that has it and is not in the table comes from another release."""
ERROR_TYPE_LIMIT = 200
ERROR_TYPE_PATTERN = rf"[\w.<>\[\], ]{{1,{ERROR_TYPE_LIMIT}}}"
"""The form of an exception's class with its module: ``app.Refused``, ``app.load.<locals>.Refused``."""
UNSTORABLE = "\ufffd"
"""Stands for each character that can't be stored."""
_REFUSED = re.compile("[\x00\ud800-\udfff]")
_IGNORABLE = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""What is drawn as nothing: ``Default_Ignorable_Code_Point`` of DerivedCoreProperties.txt, Unicode 16.0."""
_CONTROL = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except newline and tab
    rf"{_IGNORABLE}\u2800"  # invisible, or the direction of text; an empty pattern of Braille
    r"\u2028\u2029\ufff9-\ufffb\ud800-\udfff"  # separators of lines, annotations, lone surrogates
    r"\U00013430-\U0001343f"  # formats of hieroglyphs
)
_INVISIBLE = re.compile(f"[{_CONTROL}]")
_INVISIBLE_IN_A_LINE = re.compile(f"[{_CONTROL}\\n\\t]")


def is_storable(text: str) -> bool:
    """Whether every database can store the text: it has no NUL and no lone surrogate."""
    if text.isascii():  # most texts, and much quicker
        return "\x00" not in text
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def storable(text: str, limit: int | None = None) -> str:
    """Return the text with :data:`UNSTORABLE` for NUL characters and lone surrogates, cut to ``limit`` characters."""
    text = text[:limit]
    if text.isascii() and "\x00" not in text:  # most texts, and much quicker
        return text
    return _REFUSED.sub(UNSTORABLE, text)


def visible(text: str) -> str:
    """Return the text with escapes such as ``\\x1b`` for control characters, except newlines and tabs.

    Control characters are those that command a terminal, change the direction of text, or are invisible. An emoji may
    contain some of them: the selector ``\\ufe0f``, which asks for its colored form, is shown as an escape behind it.
    """
    return text if _is_plain(text) else _INVISIBLE.sub(_escape, text)


def visible_in_a_line(text: str) -> str:
    """Return the text with escapes for control characters, newlines and tabs, so that it can be a field of a line."""
    return text if _is_plain(text) else _INVISIBLE_IN_A_LINE.sub(_escape, text)


def visible_json(document: str) -> str:
    """Return the same JSON value, with control characters in its strings as JSON's own escapes."""
    return document if _is_plain(document) else _INVISIBLE.sub(_json_escape, document)


def _is_plain(text: str) -> bool:
    """Whether the text is printable ASCII without newlines and tabs, as most lines are. It needs no escapes."""
    return text.isascii() and text.isprintable()


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()  # json.dumps escapes neither DEL nor C1
    return re.sub("....", r"\\u\g<0>", units)


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 4
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # Python writes no number of more than 4,300 digits
            return f"a number of {x.bit_length():,} bits"


_SHORT_REPR = _ShortRepr()


def short_repr(value: Any) -> str:
    """Return the `repr` of a value that others gave, with ``...`` for what is too long or nested too deep.

    A few lines of YAML with aliases make a list whose whole `repr` would fill the memory.
    """
    return _SHORT_REPR.repr(value)


def is_cause_name(text: str) -> bool:
    """Whether the text has the form of a cause's name."""
    return re.fullmatch(CAUSE_PATTERN, text) is not None


def error_type(text: str) -> str:
    """Return the name of an exception's class, or an empty text if it does not have the form of one."""
    return text if re.fullmatch(ERROR_TYPE_PATTERN, text) is not None else ""
