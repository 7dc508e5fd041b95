"""What is sent without being read again must come back all the same; what might not, must not pass for flat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    StringConstraints,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)

from spoke_jobs.flat_models import flat_kinds, holds_what_returns


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    contact_id: int
    text: str
    urgent: bool = False
    note: str | None = None


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([1]) | st.just(b"x")
FIELDS = st.sampled_from([str, int, bool, str | None, int | None, Optional[bool]])  # noqa: UP045  people write both


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.tuples(FIELDS, ANYTHING), min_size=1), st.booleans())
def test_what_passes_comes_back_as_it_was(fields: Mapping[str, tuple[Any, Any]], whole: bool) -> None:
    """Also what nobody has validated: values of any type, and fields that are missing."""
    model = create_model("Made", **{name: (kind, ...) for name, (kind, _) in fields.items()})  # type: ignore[call-overload]
    assert flat_kinds(model) is not None
    held = {name: value for name, (_, value) in fields.items()}
    if not whole:
        held.popitem()
    value = model.model_construct(**held)
    if not holds_what_returns(model, value):
        return
    try:
        text = value.model_dump_json(round_trip=True, warnings=False)
    except ValueError:  # text that isn't Unicode
        return
    assert model.model_validate_json(text) == value


def test_an_ordinary_message_passes() -> None:
    assert holds_what_returns(Message, Message(contact_id=1, text="Hi"))
    assert holds_what_returns(Message, Message(contact_id=1, text="Hi", note="x"))


@pytest.mark.parametrize(
    "held",
    [
        {"contact_id": "1", "text": "Hi", "urgent": False, "note": None},
        {"contact_id": True, "text": "Hi", "urgent": False, "note": None},
        {"contact_id": 10**5000, "text": "Hi", "urgent": False, "note": None},
        {"contact_id": 1, "text": None, "urgent": False, "note": None},
        {"contact_id": 1, "text": "Hi"},
    ],
    ids=["text for a number", "truth for a number", "a number of 5,000 digits", "None for text", "fields missing"],
)
def test_what_was_never_validated_is_left_to_the_close_look(held: dict[str, Any]) -> None:
    value = Message.model_construct()
    vars(value).clear()
    vars(value).update(held)
    assert not holds_what_returns(Message, value)


def test_an_instance_of_a_subclass_is_left_to_the_close_look() -> None:
    class Longer(Message):
        more: int = 0

    assert not holds_what_returns(Message, Longer(contact_id=1, text="Hi"))


class Validated(BaseModel):
    a: str

    @field_validator("a")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()


class ValidatedAsAWhole(BaseModel):
    a: str

    @model_validator(mode="after")
    def _check(self) -> ValidatedAsAWhole:
        return self


class Serialized(BaseModel):
    a: int

    @field_serializer("a")
    def _less(self, value: int) -> int:
        return value - 1


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        return self.a


class Inherits(Validated):
    b: int = 0


class Private(BaseModel):
    a: int
    _b: int = PrivateAttr(0)


class Initialized(BaseModel):
    a: int

    def model_post_init(self, context: Any, /) -> None:
        self.a += 1


class Written(BaseModel):
    a: int

    def model_dump_json(self, **_: Any) -> str:
        return "{}"


class Whole(RootModel[int]):
    pass


class OfConfig(BaseModel):
    model_config = ConfigDict(str_to_upper=True)

    a: str


class OpenEnded(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: str


@pytest.mark.parametrize(
    "model",
    [Validated, ValidatedAsAWhole, Serialized, Computed, Inherits, Private, Initialized, Written, OfConfig, OpenEnded],
)
def test_a_model_with_a_say_of_its_own_is_not_flat(model: type[BaseModel]) -> None:
    assert flat_kinds(model) is None


@pytest.mark.parametrize(
    "field",
    [
        (float, ...),
        (list[int], ...),
        (Message, ...),
        (Literal["x"], ...),
        (Annotated[str, StringConstraints(strip_whitespace=True)], ...),
        (str, Field(max_length=3)),
        (str, Field(alias="b")),
        (str, Field(validation_alias=AliasChoices("b", "c"))),
        (str, Field(default="", exclude=True)),
        (Any, ...),
    ],
    ids=str,
)
def test_a_field_that_is_more_than_plain_is_not_flat(field: tuple[Any, Any]) -> None:
    assert flat_kinds(create_model("Made", a=field)) is None
    assert flat_kinds(Whole) is None
