"""The blocks of code in the documentation, and who runs them.

A block of `sh` or `python` is run by a test, or says behind its language why not: `sh not run: needs a cluster`. The
tutorial's blocks say what is done with them (`tests/integration/docs/pages.py`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "charts").glob("*/README.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
RUN_BY = {
    "docs/tutorial.md": "tests/integration/docs/test_tutorial.py",
    "docs/how-to/middleware.md": "tests/unit/docs/test_middleware.py",
    "docs/how-to/moving-a-namespace.md": "tests/integration/docs/test_moving_a_namespace.py",
    "docs/how-to/once.md": "tests/unit/docs/test_once.py",
    "docs/how-to/reading.md": "tests/unit/docs/test_reading.py",
}
"""The test of each page that has a test of its own. `test_typed_blocks.py` runs the other pages."""
NOT_RUN = re.compile(r"not run: \w.{9,}")
IN_A_SESSION = re.compile(r"install|run|file=\S+")
_BLOCK = re.compile(r"^ *```(?P<language>sh|python)\b *(?P<info>.*)\n(?P<body>(?:.*\n)*?) *```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    page: str
    """The page's path in the repository."""
    line: int
    language: str
    info: str
    """What stands behind the language."""
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the blocks of `sh` and `python`."""
    text = path.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        body = textwrap.dedent(found["body"])
        yield Block(str(path.relative_to(ROOT)), line, found["language"], found["info"].strip(), body)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def run_here(language: str) -> dict[str, list[Block]]:
    """Return the blocks that `test_typed_blocks.py` runs, by page."""
    found: dict[str, list[Block]] = {}
    for block in BLOCKS:
        if block.language == language and not block.info and block.page not in RUN_BY:
            found.setdefault(block.page, []).append(block)
    return found
