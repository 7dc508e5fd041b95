"""Payloads and results: exactly what was given, or a refusal that names the place and no value."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from spoke_jobs.errors import InvalidPayload, InvalidResult
from spoke_jobs.payloads import RESULT_LIMIT_BYTES, TASK_LIMIT_BYTES, decode_payload, encode_payload, encode_result

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Contact(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    first_name: str = Field(alias="firstName")
    age: int = 0
    weight: float = 0.0


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert decode_payload("j", None, encode_payload("j", None, value)) == value


@given(st.text(), st.integers())
def test_a_model_comes_back_as_it_was(name: str, age: int) -> None:
    contact = Contact(first_name=name, age=age)
    assert decode_payload("j", Contact, encode_payload("j", Contact, contact)) == contact


def test_a_changed_instance_is_validated_again() -> None:
    contact = Contact(first_name="Ada")
    contact.age = "old"  # type: ignore[assignment]
    with pytest.raises(InvalidPayload, match="age"):
        encode_payload("j", Contact, contact)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_form_in_json_are_refused(value: float) -> None:
    with pytest.raises(InvalidPayload, match=r"'j' holds (nan|-?inf) at \.weight"):
        encode_payload("j", Contact, {"firstName": "Ada", "weight": value})
    with pytest.raises(InvalidPayload, match=r"at \.a\[1\]"):
        encode_payload("j", None, {"a": [0, value]})


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidPayload, match="nested too deep or contains itself"):
        encode_payload("j", None, loop)


def test_refusals_name_fields_and_no_values() -> None:
    with pytest.raises(InvalidPayload) as caught:
        encode_payload("import_contacts", Contact, {"firstName": ["secret"], "age": "hidden"})
    text = str(caught.value)
    assert all(word in text for word in ("import_contacts", "Contact", "firstName", "age"))
    assert "secret" not in text
    assert "hidden" not in text


def test_a_task_s_limit_is_to_the_byte() -> None:
    fits = "x" * (TASK_LIMIT_BYTES - 2)
    assert len(encode_payload("t", None, fits, TASK_LIMIT_BYTES)) == TASK_LIMIT_BYTES
    with pytest.raises(InvalidPayload, match=r"100,001 bytes.*100,000"):
        encode_payload("t", None, fits + "x", TASK_LIMIT_BYTES)


@pytest.mark.parametrize("text", ["", "{", '{"firstName": 1}', "[]", "\x00", "NaN", "[" * 100_000])
def test_a_stored_payload_that_does_not_fit_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidPayload, match="'j'"):
        decode_payload("j", Contact, text)


@given(JSON)
def test_results_are_json(value: Any) -> None:
    assert encode_result(value) == value


def test_a_result_may_be_a_model() -> None:
    assert encode_result(Contact(first_name="Ada")) == {"firstName": "Ada", "age": 0, "weight": 0.0}


@pytest.mark.parametrize("value", [object(), {"a": {1}}, b"bytes", math.nan, "x" * RESULT_LIMIT_BYTES])
def test_other_results_are_refused(value: Any) -> None:
    with pytest.raises(InvalidResult, match="the job's result"):
        encode_result(value)


@given(st.text())
def test_decoding_never_raises_anything_else(text: str) -> None:
    try:
        decoded = decode_payload("j", None, text)
    except InvalidPayload:
        return
    assert decoded == json.loads(text) or decoded != decoded
