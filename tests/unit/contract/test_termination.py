"""The termination message survives whatever stands in it, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.termination import LIMIT_BYTES, TerminationMessage, decode

texts = st.text(max_size=300)


@given(texts, texts, st.booleans())
def test_comes_back_within_the_limit(cause: str, error_type: str, for_good: bool) -> None:
    message = TerminationMessage(cause, error_type, for_good)
    encoded = message.encode()
    assert len(encoded) <= LIMIT_BYTES
    assert decode(encoded) == TerminationMessage(cause[:200], error_type[:200], for_good)


@given(st.text() | st.binary() | st.none())
def test_nothing_crashes_the_reader(text: str | bytes | None) -> None:
    assert decode(text) is None or isinstance(decode(text), TerminationMessage)


def test_other_messages_are_not_ours() -> None:
    for text in ("", "exec: not found", "[]", "{}", '{"v":"1"}', '{"v":true}', '{"v":1,"cause":5}', None):
        assert decode(text) is None


def test_a_newer_release_s_message_is_read_as_far_as_it_is_known() -> None:
    assert decode('{"v":2,"cause":"New","extra":[1]}') == TerminationMessage("New", version=2)


def test_outside_a_pod_nothing_is_written(tmp_path: Path) -> None:
    TerminationMessage("JobError").write(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
    there = tmp_path / "termination-log"
    there.touch()
    TerminationMessage("JobError").write(there)
    assert decode(there.read_bytes()) == TerminationMessage("JobError")
