"""Every path that CONTRIBUTING.md sends a reader to exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
BASES = (ROOT, ROOT / "runner/spoke_jobs", ROOT / "operator/spoke_jobs_operator", ROOT / "tests")
EXAMPLES = {"why_command.py"}
"""Named as files of `cli/commands/`."""


def test_every_path_of_the_table_exists() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, rest = page.partition("## To change this, go there")
    section, _, _ = rest.partition("\n## ")
    named = {name for name in re.findall(r"`([\w./*-]+)`", section) if "/" in name or name.endswith(".py")}
    assert len(named) > 60
    missing = [name for name in named - EXAMPLES if not any(list(base.glob(name.rstrip("/"))) for base in BASES)]
    assert not missing
    assert all((ROOT / "runner/spoke_jobs/cli/commands" / name).exists() for name in EXAMPLES)
