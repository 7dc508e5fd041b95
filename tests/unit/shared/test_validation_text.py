"""Refused values in plain words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spoke_jobs.shared import validation_text


class Model(BaseModel):
    """A field of each kind that has words."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    kind: Literal["a", "b"] = "a"
    names: list[str] = []
    inner: dict[str, int] = {}
    code: Annotated[str, Field(max_length=3)] = ""
    even: int = 0

    @field_validator("even")
    @classmethod
    def _check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("not an even number")
        return value


class Required(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("model", "given", "text"),
    [
        (Model, {"number": "x"}, "number: a whole number is expected"),
        (Model, {"number": 1.5}, "number: a whole number is expected"),
        (Model, {"number": 0}, "number: a number from 1 is expected"),
        (Model, {"share": 2}, "share: a number up to 1.0 is expected"),
        (Model, {"kind": "c"}, "kind: 'a' or 'b' is expected"),
        (Model, {"names": 5}, "names: a list is expected"),
        (Model, {"inner": 5}, "inner: an object is expected"),
        (Model, {"code": "abcd"}, "code: text of 3 characters or less is expected"),
        (Model, {"code": 5}, "code: text is expected"),
        (Model, {"even": 3}, "even: not an even number"),
        (Model, {"other": 3}, "other is unknown"),
        (Required, {}, "name is missing"),
    ],
)
def test_a_field_is_described_without_its_value(model: type[BaseModel], given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(given)
    (item,) = refusal.value.errors()
    assert f"{item['loc'][0]}{validation_text.hidden(item)}" == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("number", "x", " is 'x', where a whole number from 1 is expected"),
        ("share", 7, " is 7, where a number from 0 to 1 is expected"),
        ("kind", "c", " is 'c', where 'a' or 'b' is expected"),
        ("even", 3, ": not an even number"),
        ("code", "x" * 200, f" is '{'x' * 99}..., where text of 3 characters or less is expected"),
    ],
)
def test_a_setting_is_described_with_its_value(name: str, value: Any, text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Model.model_validate({name: value})
    (item,) = refusal.value.errors()
    assert validation_text.setting(item, Model.model_fields[name]) == text


@pytest.mark.parametrize(
    ("noun", "text"),
    [("int", "an int"), ("object", "an object"), ("str", "a str"), ("UUID", "a UUID"), ("User", "a User")],
)
def test_articles(noun: str, text: str) -> None:
    assert validation_text.an(noun) == text
