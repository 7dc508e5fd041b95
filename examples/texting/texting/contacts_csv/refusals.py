"""Errors of refused files. Each message says what is wrong and what to do."""

from __future__ import annotations


class RefusedFile(ValueError):
    """The file is not a contacts list. Reading it again cannot help."""


class NotACsv(RefusedFile):
    """It is not text in rows and columns, or has no rows."""


class MissingColumns(RefusedFile):
    """Required columns were not found under any of their spellings."""

    def __init__(self, missing: tuple[str, ...], found: tuple[str, ...]) -> None:
        self.missing = missing
        """The required columns that were not found: ``first name``, ``last name``, ``cell``."""
        self.found = found
        """The file's own headings."""
        shown = ", ".join(repr(name) for name in found[:20]) + (", ..." if len(found) > 20 else "")
        super().__init__(
            f"the file has no column for {', '.join(missing)}: its first line reads {shown}. "
            f"Give it a heading such as {', '.join(_EXAMPLES[name] for name in missing)}, and upload it again"
        )


_EXAMPLES = {"first name": "firstName", "last name": "lastName", "cell": "cell"}
