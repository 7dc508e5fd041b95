"""Python code in the documentation is valid Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DECORATOR = "@"


def test_every_python_block_parses() -> None:
    blocks, broken = 0, []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for block in BLOCK.findall(page.read_text()):
            blocks += 1
            # A page may show a decorator alone.
            code = block + "def function(): ...\n" if block.splitlines()[-1].startswith(DECORATOR) else block
            try:
                ast.parse(code)
            except SyntaxError as error:
                broken.append(f"{page.relative_to(ROOT)}: {error.text!r}")
    assert blocks
    assert not broken, "\n".join(broken)
