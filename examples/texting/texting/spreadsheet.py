"""CSV for people who open it in a spreadsheet."""

from __future__ import annotations

import re

_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full-width forms run as well
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


def as_text(value: str) -> str:
    """A value that a spreadsheet shows and doesn't run.

    What a contact wrote in a form can begin like a formula (``=HYPERLINK(...)``); an apostrophe before it keeps it
    text. Plain numbers, and so telephone numbers in E.164, need none.
    """
    return f"'{value}" if value.lstrip(" ").startswith(_RUNS) and not _NUMBER.fullmatch(value) else value
