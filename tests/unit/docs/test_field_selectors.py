"""The documentation selects SpokeJobs only by fields that the API server can select."""

from __future__ import annotations

import re
from pathlib import Path

from spoke_jobs.contract.custom_resources.crd import crd
from spoke_jobs.contract.custom_resources.kinds import Kind

ROOT = Path(__file__).parents[3]
FOLDERS = {".": ("*.md",), "docs": ("**/*.md",), "charts": ("**/*.md", "**/*.yaml", "**/*.txt")}
PAGES = [page for folder, kinds in FOLDERS.items() for kind in kinds for page in sorted((ROOT / folder).glob(kind))]
COMMAND = re.compile(r"kubectl\b(?P<words>[^`|]*?)--field-selector[= ](?P<fields>[^\s`|]+)")


def selectors(text: str) -> list[set[str]]:
    """Return the fields of each selector of SpokeJobs. A command may go on in the next line."""
    return [
        {term.split("=")[0].rstrip("!") for term in found["fields"].split(",")}
        for found in COMMAND.finditer(text)
        if re.search(r"\b(?:spokejobs?|spj)\b", found["words"].rpartition("kubectl")[2])
    ]


def test_each_field_selector_names_fields_that_can_be_selected() -> None:
    (version,) = crd(Kind.SPOKEJOB)["spec"]["versions"]
    selectable = {item["jsonPath"].removeprefix(".") for item in version["selectableFields"]}
    selectable |= {"metadata.name", "metadata.namespace"}
    found = [(page.relative_to(ROOT), fields) for page in PAGES for fields in selectors(page.read_text())]
    assert len(found) > 5
    assert [(str(page), fields - selectable) for page, fields in found if not fields <= selectable] == []
