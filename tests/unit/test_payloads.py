"""Payloads and results: exactly what was given, or a refusal that names the place and no value."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
)

from spoke_jobs.errors import InvalidPayload, InvalidResult
from spoke_jobs.payloads import (
    JOB_LIMIT_BYTES,
    RESULT_LIMIT_BYTES,
    TASK_LIMIT_BYTES,
    decode_payload,
    encode_payload,
    encode_result,
)

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


class Colour(Enum):
    RED = "red"


class Strange:
    """A class that knows no equality."""


class Numbers(RootModel[list[int]]):
    pass


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")

    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Everything(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    whatever: Any = None
    either: float | str | None = None
    settings: Json[dict[str, int]] = Field(default_factory=dict)
    when: datetime | date | None = None
    price: Decimal = Decimal(0)
    tags: set[str] = set()
    pair: tuple[int, str] = (0, "")
    colour: Colour = Colour.RED
    data: bytes = b""
    numbers: Numbers = Numbers([])
    _seen: object = PrivateAttr(default_factory=object)


class Painted(BaseModel):
    colour: Colour


class Secret(BaseModel):
    password: SecretStr


class Telling(BaseModel):
    password: Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]


class OfItsOwn(BaseModel):
    strange: Annotated[Any, PlainValidator(lambda _text: Strange()), PlainSerializer(lambda _strange: "text")]


class Leaky(BaseModel):
    kept: int
    required: int = Field(exclude=True)


class Holding(BaseModel):
    inner: Contact


class LongContact(Contact):
    more: str = ""


@pytest.mark.parametrize(
    "payload",
    [
        Numbers([1, 2]),
        Square(side=3),
        Everything(settings='{"a": 1}'),
        Everything(whatever={"a": [1, None, "x", 1.5]}, either="nan", more="extra"),
        Everything(when=datetime(2026, 3, 1, 12, tzinfo=UTC), price=Decimal("1.10"), tags={"a", "b"}, pair=(1, "x")),
        Everything(when=date(2026, 3, 1), data="é".encode(), numbers=Numbers([3])),
        Telling(password=SecretStr("hunter2")),
        Holding(inner=Contact(first_name="Ada")),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_a_model_of_any_kind_comes_back_as_it_was(payload: BaseModel) -> None:
    back = decode_payload("j", type(payload), encode_payload("j", type(payload), payload))
    assert (type(back), dict(back)) == (type(payload), dict(payload))


def test_what_has_no_equal_in_json_comes_back_as_near_as_can_be() -> None:
    assert decode_payload("j", Everything, encode_payload("j", Everything, {"whatever": (1, 2)})).whatever == [1, 2]
    painted = Painted(colour=Colour.RED)
    painted.colour = "red"  # type: ignore[assignment]
    assert decode_payload("j", Painted, encode_payload("j", Painted, painted)).colour is Colour.RED
    assert isinstance(decode_payload("j", OfItsOwn, encode_payload("j", OfItsOwn, {"strange": 1})).strange, Strange)
    longer = LongContact(first_name="Ada", more="words")
    assert decode_payload("j", Contact, encode_payload("j", Contact, longer)) == Contact(first_name="Ada")


@pytest.mark.parametrize(
    ("model", "payload", "words"),
    [
        (Secret, {"password": "hunter2"}, r"holds a SecretStr at \.password that JSON doesn't give back"),
        (Secret, Secret(password=SecretStr("hunter2")), r"a SecretStr at \.password"),
        (Leaky, {"kept": 1, "required": 2}, "required is missing"),
        (Everything, {"whatever": math.nan}, r"holds nan at \.whatever, which JSON cannot represent"),
        (Everything, Everything(whatever=[{"a": math.inf}]), r"holds inf at \.whatever\[0\]\.a"),
        (Everything, {"either": -math.inf}, r"holds -inf at \.either"),
        (Everything, {"more": math.nan}, r"holds nan at \.more"),
        (Everything, {"whatever": Decimal("1.5")}, r"holds a Decimal at \.whatever"),
        (Everything, {"whatever": {1: 2}}, r"\.whatever"),
        (Everything, {"whatever": Strange()}, r"holds something at \.whatever that JSON cannot represent"),
        (Everything, {"data": b"hunter2\xff"}, r"holds something at \.data that JSON cannot represent"),
        (Everything, {"whatever": 10**5000}, r"holds a whole number at \.whatever of more digits"),
        (Holding, Holding(inner=LongContact(first_name="Ada", more="x")), r"a LongContact at \.inner"),
        (None, [10**5000], r"holds a whole number at \[0\] of more digits"),
        (None, object(), "object"),
        (None, {1: "a"}, "key"),
        (None, {"s": {1}}, r"a set at \.s"),
        (None, {"a": [-(10**5000)]}, r"holds a whole number at \.a\[0\]"),
    ],
)
def test_what_would_not_survive_the_trip_is_refused_at_dispatch(
    model: type[BaseModel] | None, payload: Any, words: str
) -> None:
    with pytest.raises(InvalidPayload, match=words) as caught:
        encode_payload("j", model, payload)
    assert "'j'" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(JSON)
def test_what_is_dispatched_comes_back_or_is_refused(value: Any) -> None:
    try:
        text = encode_payload("j", Everything, {"whatever": value})
    except InvalidPayload:
        assert "\\ud" in json.dumps(value)  # half a character, which pydantic doesn't read
        return
    assert decode_payload("j", Everything, text).whatever == value


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


class Order(BaseModel):
    number: int
    note: str = ""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Order, "'send' needs a payload, and none is given: it takes an Order with the fields number, note (optional)"),
        (Numbers, "'send' needs a payload, and none is given: it takes a Numbers"),
    ],
)
def test_a_payload_that_is_not_given_is_told_as_such(model: type[BaseModel], words: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        encode_payload("send", model, None)
    assert str(refusal.value) == words


def test_a_task_s_limit_is_to_the_byte() -> None:
    fits = "x" * (TASK_LIMIT_BYTES - 2)
    assert len(encode_payload("t", None, fits, TASK_LIMIT_BYTES)) == TASK_LIMIT_BYTES
    with pytest.raises(InvalidPayload, match=r"100,001 bytes.*100,000"):
        encode_payload("t", None, fits + "x", TASK_LIMIT_BYTES)


@pytest.mark.parametrize("fits", ["x" * JOB_LIMIT_BYTES, "é" * (JOB_LIMIT_BYTES // 2)])
def test_a_job_s_limit_is_to_the_byte(fits: str) -> None:
    assert encode_payload("j", str, fits) == fits
    with pytest.raises(InvalidPayload, match=r"the payload of 'j' takes 33,554,433 bytes, and 33,554,432 is the limit"):
        encode_payload("j", str, fits + "x")


@pytest.mark.parametrize("text", ["", "{", '{"firstName": 1}', "[]", "\x00", "NaN", "[" * 100_000])
def test_a_stored_payload_that_does_not_fit_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidPayload, match="'j'"):
        decode_payload("j", Contact, text)


@given(JSON)
def test_results_are_json_or_a_model(value: Any) -> None:
    assert encode_result(value) == value
    assert encode_result(Contact(first_name="Ada")) == {"firstName": "Ada", "age": 0, "weight": 0.0}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"a": {1}}, "the job's result"),
        ("x" * RESULT_LIMIT_BYTES, "the job's result"),
        (math.nan, "the job's result"),
        (Everything(whatever=[math.nan]), r"holds nan at \.whatever\[0\]"),
        (Everything(data=b"\xff"), r"holds something at \.data"),
        ([10**5000], "whole number"),
    ],
)
def test_other_results_are_refused(result: Any, words: str) -> None:
    with pytest.raises(InvalidResult, match=words):
        encode_result(result)
