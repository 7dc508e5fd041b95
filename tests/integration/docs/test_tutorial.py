"""The tutorial works as it is typed, and its commands print what it shows."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.integration.docs.pages import ROOT, run_page

HOME = "/home/ada/shop"
"""The folder as the page calls it."""
PASSING = re.compile(
    r"((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d+)?(Z| E[SD]T)?"
    r"|in \d+ \w+( \d+ \w+)?\b|\b\d\d:\d\d:\d\d\b|\d+(\.\d+)? (s|min)( \d+ s)?\b|\d+ MiB|[\w.-]+:\d+\b"
    r"|, \"pages\": (3\}|…)|[─━═]+|JobError: ValueError: [^…]*…"
)
"""What is another one each time: times, durations, the worker's host and process, what a table cuts off."""


def test_what_the_tutorial_types_prints_what_it_shows() -> None:
    with tempfile.TemporaryDirectory() as parent:  # its path is short, so that lines with it are not broken
        folder = Path(parent) / "empty"
        folder.mkdir()
        outputs = run_page(ROOT / "docs/tutorial.md", folder)
        assert len(outputs) == 9
        for output in outputs:
            printed = plain(output.printed.replace(str(folder), HOME))
            print(output.printed)  # what to paste into the page
            at = 0
            for part in re.split(r"^\.\.\.$", output.shown, flags=re.MULTILINE):  # lines are left out there
                found = printed.find(plain(part), at)
                assert found >= 0, f"the page shows what isn't printed:\n{plain(part)}\n\n{printed}"
                at = found + len(plain(part))


def plain(text: str) -> str:
    """The words, without what differs from one time to the next, and without how lines and columns are laid out."""
    return PASSING.sub("#", " ".join(text.split()))
