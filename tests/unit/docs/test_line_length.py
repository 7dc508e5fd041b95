"""No line of the documentation is longer than 120 characters."""

from __future__ import annotations

from tests.unit.docs.typed_blocks import PAGES, ROOT

LONGEST = 120
PRINTED = ("```console",)
"""Blocks that show what a program prints, as it prints it."""


def test_no_line_is_too_long() -> None:
    offending = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        printed = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                printed = not printed and line.lstrip().startswith(PRINTED)
            if len(line) > LONGEST and not printed:
                offending.append(f"{page.relative_to(ROOT)}:{number}: {len(line)} characters")
    assert not offending, "\n".join(offending)
