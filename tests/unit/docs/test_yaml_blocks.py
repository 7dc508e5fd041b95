"""YAML in the documentation is YAML, and Argo CD's check of a SpokeJob knows every outcome."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from spoke_jobs.cli.commands.limit_input import parse
from spoke_jobs.limits.limit_file import read_entries

DOCS = Path(__file__).parents[3] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(DOCS)}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
    if "{{" not in block  # a Helm template
]


@pytest.mark.parametrize("block", BLOCKS)
def test_it_can_be_read(block: str) -> None:
    assert all(isinstance(document, dict | list) for document in yaml.safe_load_all(block))


def test_the_limits_in_a_file_are_read_as_the_command_does() -> None:
    page = (DOCS / "how-to/limits.md").read_text()
    (block,) = (text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "limits.yaml" in text)
    assert [str(entry.scope) for entry in read_entries(parse(block))] == ["all", "queue:carrier", "type:export"]
