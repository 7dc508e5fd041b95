from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, LONGEST, allows_type, length_problem

TYPES = st.text(min_size=1, max_size=20)


def allowed(annotation: str, job_type: str) -> bool:
    return allows_type({ANNOTATION_TYPES: annotation}, job_type)


@pytest.mark.parametrize(
    ("annotation", "job_type", "yes"),
    [
        ("report", "report", True),
        ("report", "reports", False),
        ("report", "Report", False),
        ("report, import_*", "import_contacts", True),
        ("report,import_*", "import_", True),
        ("import_*", "reimport_contacts", False),
        ("*", "anything", True),
        ("", "report", False),
        (" , ", "report", False),
        ("a*c", "abc", False),
        ("rep?rt", "report", False),
        ("r.port", "report", False),
    ],
)
def test_a_list_of_types_and_beginnings(annotation: str, job_type: str, yes: bool) -> None:
    assert allowed(annotation, job_type) is yes


def test_an_annotation_that_is_no_text_or_too_long_allows_none() -> None:
    longest = "report," + "x" * (LONGEST - 7)
    assert allowed(longest, "report")
    assert length_problem({ANNOTATION_TYPES: longest}, ANNOTATION_TYPES) == ""
    assert not allowed(longest + "x", "report")
    problem = length_problem({ANNOTATION_TYPES: longest + "x"}, ANNOTATION_TYPES)
    assert problem == f"its annotation {ANNOTATION_TYPES} has 4097 characters; the most is 4096"
    assert not allows_type({ANNOTATION_TYPES: ["report"]}, "report")
    assert not allows_type({ANNOTATION_TYPES: 7}, "7")


@settings(deadline=None)
@given(st.lists(TYPES.filter(lambda name: not set(name) & {",", "*"} and name.strip() == name)), TYPES)
def test_only_what_is_listed_is_allowed(listed: list[str], job_type: str) -> None:
    assert allowed(", ".join(listed), job_type) is (job_type in listed)
    assert all(allowed(", ".join(listed), name) for name in listed)
