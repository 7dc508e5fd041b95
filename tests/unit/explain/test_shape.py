"""What JSON documents do with values that JSON can hardly hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.explain.shape import TOO_DEEP, AnyJson, Shape


class Holder(Shape):
    value: AnyJson


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=5,
)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@given(VALUES)
def test_any_value_can_be_written_and_most_are_unchanged(value: Any) -> None:
    shown = json.loads(Holder(value=value).model_dump_json())["value"]
    text = json.dumps(value, ensure_ascii=False)
    if text.encode(errors="replace") == text.encode(errors="surrogatepass"):
        assert shown == value
    else:
        assert "\ufffd" in json.dumps(shown, ensure_ascii=False)


@pytest.mark.parametrize(("depth", "shown"), [(200, nested(200)), (300, json.dumps(nested(300))), (100_000, TOO_DEEP)])
def test_a_value_that_is_nested_deep(depth: int, shown: Any) -> None:
    assert json.loads(Holder(value=nested(depth)).model_dump_json()) == {"value": shown}
