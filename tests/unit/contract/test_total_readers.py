"""Whatever others write, each reader gives a value or a named refusal."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.readers import EXAMPLES, READERS

from spoke_jobs.ledger.columns import lenient
from spoke_jobs.shared.strict_json import NotJson, read_json, read_json_object

every_reader = pytest.mark.parametrize("reader", READERS)
FIELDS = sorted({name.decode() for name in re.findall(rb'"([A-Za-z]+)":', b"".join(EXAMPLES))})
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -(2**63), 2**63, 1e308, -0.0, ""]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["\x00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", "9" * 400, "../x"]),
    st.sampled_from(["Succeeded", "Failed", "True", "False", "job", "Unschedulable"]),
)
values = st.recursive(
    odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=10,
)
OBJECT: Any = read_json_object(EXAMPLES[1])


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: the container, and the key or position in it."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A valid object with odd values in some places."""
    body = deepcopy(OBJECT)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(body))))
        container[key] = draw(values)
    return json.dumps(body).encode()


@every_reader
@given(data=st.binary(max_size=200) | values.map(json.dumps).map(str.encode) | changed())
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_a_value_or_a_named_refusal(reader: str, data: bytes) -> None:
    READERS[reader](data)


@every_reader
@pytest.mark.parametrize("data", EXAMPLES, ids=lambda data: repr(data[:20]))
def test_hostile_and_valid_texts_are_read(reader: str, data: bytes) -> None:
    READERS[reader](data)


ROOT = Path(__file__).parents[3]
STRICT_JSON = "spoke_jobs.shared.strict_json"
ITS_ANSWERS_ARE_READ_BY_OTHERS = {"spoke_jobs.cluster.cluster_client", "spoke_jobs_operator.shell.api.operator_client"}
"""They read what the API server sends as JSON, and leave the object in it to the readers."""


def imported_by(file: Path) -> set[str]:
    """The modules that a file imports from, and what it imports from them, with their paths."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    return {str(node.module) for node in nodes} | {f"{node.module}.{it.name}" for node in nodes for it in node.names}


def modules() -> Iterator[tuple[str, Path]]:
    """The modules of both packages, and their files."""
    for package in ("runner/spoke_jobs", "operator/spoke_jobs_operator"):
        for file in (ROOT / package).rglob("*.py"):
            yield ".".join(file.relative_to((ROOT / package).parent).with_suffix("").parts), file


def test_every_module_that_reads_json_of_others_is_among_the_readers() -> None:
    reading = {name for name, file in modules() if STRICT_JSON in imported_by(file)}
    assert len(reading) > 8
    assert sorted(reading - imported_by(ROOT / "tests/readers.py") - ITS_ANSWERS_ARE_READ_BY_OTHERS) == []


OTHER_READERS = {
    "json": {"loads", "load", "JSONDecoder"},
    "yaml": {"safe_load", "load"},
    "pydantic_core": {"from_json"},
    "": {"model_validate_json", "validate_json"},
}
"""The functions that read JSON or YAML, by module; those of any object last."""
OWN_TEXTS = {
    "spoke_jobs.schedules.schedule": "what it has just written",
    "spoke_jobs.execution.context": "a job's own checkpoints; an error ends its attempt",
}
"""Modules with another reader that read nothing of others, and why."""


def reads_otherwise(file: Path) -> bool:
    """Whether a file reads JSON or YAML with another function than those of the strict reader."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            used = {(str(node.module), item.name) for item in node.names}
        elif isinstance(node, ast.Attribute):
            used = {("", node.attr), (node.value.id if isinstance(node.value, ast.Name) else "", node.attr)}
        else:
            continue
        if any(name in OTHER_READERS.get(module, ()) for module, name in used):
            return True
    return False


def test_no_other_module_reads_json_in_another_way() -> None:
    reading = {name for name, file in modules() if reads_otherwise(file)}
    assert len(reading) > 8
    known = imported_by(ROOT / "tests/readers.py") | {STRICT_JSON}
    assert sorted(reading - known - OWN_TEXTS.keys()) == []
    assert OWN_TEXTS.keys() <= reading, "an exception that is none"


DEEP = "[" * 250 + "]" * 250
REFUSED = (b"[" * 5000, b"9" * 5000, b"NaN", b"-Infinity", rb'"\ud800"', b"\xff", b"", "\ud800", '{"a":"\ud800"}', DEEP)


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: repr(data[:20]))
def test_what_a_later_writer_would_refuse_is_no_json(data: bytes | str) -> None:
    assert isinstance(read_json(data), NotJson)
    assert isinstance(read_json_object(data), NotJson)


@given(values)
@example({"a": [1, {"b": None}]})
def test_other_json_is_read_as_it_is(value: Any) -> None:
    assert read_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "1e999",
        '{"a":-1e999}',
        "9" * 250 + "e99",
        "[-1" + "0" * 211 + ".5E+98]",
        DEEP,
        "9" * 5000,
        "{",
        b"\xff",
        None,
        1e999,
    ],
)
def test_a_row_s_value_that_a_later_writer_would_refuse_is_none(text: str | bytes | float | None) -> None:
    assert lenient.read_json(text) is None


@given(values)
def test_a_row_s_other_values_are_read_as_they_are(value: Any) -> None:
    assert lenient.read_json(json.dumps(value)) == value


@given(st.from_regex(r"-?[1-9][0-9]{0,400}(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
@example("9" * 207 + "e99")
@example("9" * 209 + "e99")
@example("9" * 210 + "e99")
def test_no_number_of_a_row_is_read_as_infinite(text: str) -> None:
    found = lenient.read_json(text)
    if math.isinf(float(text)) and not text.lstrip("-").isdigit():  # Python's whole numbers have no end
        assert found is None
    else:
        assert found == pytest.approx(json.loads(text))


def test_a_row_keeps_what_python_writes_for_a_file_s_name() -> None:
    result = {"file": "\udcff.csv", "rows": [1, 2.5]}
    assert lenient.read_json(json.dumps(result)) == result
    assert lenient.read_json(json.dumps(result).encode()) == result


def test_a_text_beyond_the_limit_is_not_read() -> None:
    assert read_json(b"[1]", 3) == [1]
    assert read_json(b"[1, 2]", 3) == NotJson("longer than 3")
    assert read_json_object(b"[]") == NotJson("no JSON object")
