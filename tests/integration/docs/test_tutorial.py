"""The tutorial works as it is typed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.docs.pages import ROOT, run_page


def test_what_the_tutorial_types_does_what_it_promises(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    printed = run_page(ROOT / "docs/tutorial.md", folder)
    assert "dispatched job 1" in printed
    assert re.search(r"^1\tmonthly_report\b.*succeeded", printed, re.MULTILINE)
    assert '"month": "2026-11"' in printed
    assert "succeeded {'month': '2026-11', 'pages': 3}" in printed
    attempts = re.findall(r"^attempt\t1\t(\d)\tfailed\b.*\tJobError\tValueError\b", printed, re.MULTILINE)
    assert attempts == ["1", "2", "3"]
    assert "the exit code says that it failed" in printed
    assert re.search(r"^2\tmonthly_report\b.*succeeded", printed, re.MULTILINE)
