"""The OpenAPI document of the dashboard's JSON API, and the values of its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from spoke_jobs.cli.reference.cli_page import DOCUMENTS
from spoke_jobs.explain.json_output import JobAttempt
from spoke_jobs.web.api_document import openapi, problem
from spoke_jobs.web.api_reads import ApiReads
from spoke_jobs.web.job_search import FILTERS
from spoke_jobs.web.query_values import MOMENT, TEXT, YES_OR_NO, Parameter, number, parameter_problems, values_of

ROUTES = tuple(ApiReads(cast("Any", None), cast("Any", None)).routes())
BEARER = {"bearer": {"type": "http", "scheme": "bearer"}}
GUIDE = Path(__file__).parents[3] / "docs/how-to/dashboard.md"
LARGE = "9223372036854775807"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi(ROUTES, "/ops", BEARER)


def references(value: Any) -> Iterator[str]:
    """All `$ref` in a value."""
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        for each in value.values():
            yield from references(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from references(each)


def test_each_answer_is_the_document_of_a_command() -> None:
    """As the reference of the command line has it."""
    commands = {(command, shape) for commands, shape in DOCUMENTS for command in commands.split(", ")}
    assert {(route.command, route.shape) for route in ROUTES} <= commands


def test_each_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_each_operation_has_a_name_and_says_what_it_does(document: dict[str, Any]) -> None:
    operations = [item["get"] for item in document["paths"].values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == len(ROUTES) + 1
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert {"401", "500"} <= set(operation["responses"])
        parameters = operation.get("parameters", [])
        assert all(each["in"] == "path" or each["description"].endswith(".") for each in parameters)
    assert document["servers"] == [{"url": "/ops/api/v1"}]
    assert document["security"] == [{"bearer": []}]


def test_where_a_proxy_or_a_function_decides_nothing_is_said_about_signing_in() -> None:
    """An empty list would say that no authentication is needed."""
    assert "security" not in openapi(ROUTES, "", {})


def descriptions(value: Any) -> Iterator[str]:
    """All descriptions in a value."""
    if isinstance(value, dict):
        if isinstance(found := value.get("description"), str):
            yield found
        for each in value.values():
            yield from descriptions(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from descriptions(each)


def test_no_description_is_true_of_the_command_line_only(document: dict[str, Any]) -> None:
    """The same texts are in the reference of the command line, whose options and tables are not here."""
    found = [*descriptions(document)]
    assert len(found) > 100
    assert [text for text in found if re.search(r"`--|\bbelow\b", text)] == []


def test_the_filters_of_jobs_are_those_of_the_page(document: dict[str, Any]) -> None:
    names = [each["name"] for each in document["paths"]["/jobs"]["get"]["parameters"]]
    assert names == [*(name for name in FILTERS if name != "id"), "limit", "before", "after"]


def test_fields_that_follow_from_a_record_have_its_meanings(document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["JobAttempt"]["properties"]
    assert fields["worker"]["description"] == "The worker's host and process, or the pod."
    assert JobAttempt.meanings()["worker"] == fields["worker"]["description"]


def test_the_guide_lists_what_there_is() -> None:
    _, _, section = GUIDE.read_text().partition("## Read it from programs\n")
    section, _, _ = section.partition("\n## ")
    listed = re.findall(r"^\| `(/\S*)` \| `spoke-jobs ([^`]+) --json` \|", section, re.MULTILINE)
    shown = {"/jobs/{job_id}": "show ID", "/jobs/{job_id}/why": "why ID", "/batches/{batch_id}": "batches show ID"}
    expected = [(re.sub(r"{\w+}", "ID", route.path), shown.get(route.path, route.command)) for route in ROUTES]
    assert listed == expected


def test_an_error_names_its_parameters() -> None:
    assert problem(400, "A parameter is not valid.", {"limit": "Give a number."}) == {
        "title": "Bad Request",
        "status": 400,
        "detail": "A parameter is not valid.",
        "errors": [{"parameter": "limit", "detail": "Give a number."}],
    }
    assert "errors" not in problem(404, "There is none.")


@pytest.mark.parametrize(
    ("kind", "valid", "wrong"),
    [
        (number(1), ("1", "007", LARGE), ("0", "", "-1", "1.0", "١", str(int(LARGE) + 1), "1" * 5_000)),
        (number(0, 5), ("0", "5"), ("6",)),
        (TEXT, ("a", " a", "x" * 500), ("", " ", "\t", "a\0", "x" * 501)),
        (MOMENT, ("2026-03-01", "2026-03-01T08:00:30+05:45"), ("", "0001-01-01T00:00+01:00", "8:00")),
        (YES_OR_NO, ("true", "false"), ("", "yes", "True", "1")),
    ],
)
def test_values(kind: Any, valid: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    known = [Parameter("x", kind, "", "nothing")]
    for text in valid:
        assert parameter_problems(known, [("x", text)]) == {}
        assert values_of(known, {"x": text})["x"] is not None
    for text in wrong:
        assert parameter_problems(known, [("x", text)]) == {"x": kind.problem}
    assert values_of(known, {}) == {"x": "nothing"}


def test_many_wrong_parameters_make_no_large_answer() -> None:
    given = [(f"{number}{'x' * 10_000}", "1") for number in range(1_000)]
    assert len(str(parameter_problems([], given))) < 10_000
