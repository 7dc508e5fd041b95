"""CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import re

_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full-width forms run as well
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


def as_text(value: str) -> str:
    """Return the value in a form that a spreadsheet shows as text and does not run.

    A contact's value may begin like a formula (``=HYPERLINK(...)``). An apostrophe before it makes it text. Plain
    numbers, including telephone numbers in E.164, need none.
    """
    return f"'{value}" if value.lstrip(" ").startswith(_RUNS) and not _NUMBER.fullmatch(value) else value
