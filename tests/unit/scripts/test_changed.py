"""Which tests `make test CHANGED=1` runs."""

from __future__ import annotations

import grimp
import pytest
from tests.changed import reached

IMPORTS = {
    "tests.unit.web.test_page": "spoke_jobs.web.page",
    "spoke_jobs.web.page": "spoke_jobs.explain.why",
    "tests.contract.suite": "spoke_jobs.explain.why",
    "tests.unit.cli.test_why": "tests.contract.suite",
    "tests.integration.sync.test_kills": "spoke_jobs.sync.decide",
}
TESTS = {f"{name.replace('.', '/')}.py" for name in IMPORTS if ".test_" in name} | {"tests/unit/explain/test_text.py"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    made = grimp.ImportGraph()
    for importer, imported in IMPORTS.items():
        made.add_import(importer=importer, imported=imported)
    return made


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("runner/spoke_jobs/web/page.py", {"tests/unit/web/test_page.py"}),
        (
            "runner/spoke_jobs/explain/why.py",
            {"tests/unit/web/test_page.py", "tests/unit/cli/test_why.py", "tests/unit/explain/test_text.py"},
        ),
        ("tests/contract/suite.py", {"tests/unit/cli/test_why.py"}),
        ("tests/unit/web/test_page.py", {"tests/unit/web/test_page.py"}),
        ("tests/unit/web/test_removed.py", set()),
        ("runner/spoke_jobs/web/static/page.css", {"tests/unit/web/test_page.py"}),
        ("charts/runner/sync/values.yaml", {"tests/integration/sync/test_kills.py"}),
        ("README.md", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_reaches_importers_and_the_rooms_of_its_folders(
    graph: grimp.ImportGraph, changed: str, tests: set[str]
) -> None:
    assert reached([changed], graph, TESTS) == tests
