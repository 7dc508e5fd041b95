"""The termination message survives whatever stands in it, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.termination import LIMIT_BYTES, TerminationMessage, decode
from spoke_jobs.shared.clean_text import error_type, is_cause_name, is_storable

texts = st.text(max_size=300)


causes = st.sampled_from(sorted(CAUSES))
error_types = st.sampled_from(["ValueError", "app.load.<locals>.Refused", "app.Model[int]"])


@given(causes | texts, error_types | texts, st.booleans())
def test_comes_back_within_the_limit(cause: str, raised: str, for_good: bool) -> None:
    message = TerminationMessage(cause, raised, for_good)
    encoded = message.encode()
    assert len(encoded) <= LIMIT_BYTES
    expected = TerminationMessage(cause if is_cause_name(cause) else "", error_type(raised[:200]), for_good)
    assert decode(encoded) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
likely = st.fixed_dictionaries(
    {"v": st.integers() | json_values},
    optional={
        "cause": st.text(st.characters(codec=None)),
        "errorType": st.text(st.characters(codec=None)),
        "forGood": json_values,
        "retryAfterSeconds": st.floats() | st.integers() | json_values,
    },
)


@given(
    st.text(st.characters(codec=None))
    | st.binary()
    | st.none()
    | likely.map(json.dumps)
    | st.sampled_from(["[", '{"a":', "9"]).map(lambda part: part * 5000)
)
def test_any_text_is_read_as_a_message_that_every_store_can_hold_or_as_none(text: str | bytes | None) -> None:
    found = decode(text)
    assert found is None or (is_storable(found.cause) and is_storable(found.error_type))
    assert found is None or found.cause == "" or is_cause_name(found.cause)
    assert found is None or found.retry_after_seconds is None or 0 <= found.retry_after_seconds <= 1e9


def test_other_messages_are_not_ours() -> None:
    for text in ("", "exec: not found", "[]", "{}", '{"v":"1"}', '{"v":true}', '{"v":1,"cause":5}', None):
        assert decode(text) is None
    newer = '{"v":2,"cause":"New","extra":[1]}'
    assert decode(newer) == TerminationMessage("New", version=2), "it is read as far as it is known"


@pytest.mark.parametrize("text", ["[" * 4096, r'{"v":1,"cause":"\ud800"}', r'{"v":1,"cause":"Job\u0000Error"}'])
def test_a_hostile_message_is_none(text: str) -> None:
    assert decode(text) is None


def test_outside_a_pod_nothing_is_written(tmp_path: Path) -> None:
    TerminationMessage("JobError").write(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
    there = tmp_path / "termination-log"
    there.touch()
    TerminationMessage("JobError").write(there)
    assert decode(there.read_bytes()) == TerminationMessage("JobError")
