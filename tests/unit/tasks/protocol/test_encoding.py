"""The framing: what one side writes the other reads, and nothing that anybody sends gets out as a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoke_jobs.tasks.protocol import messages
from spoke_jobs.tasks.protocol.messages import (
    Acknowledgement,
    AnswerLines,
    BadAnswer,
    BadRequest,
    Malformed,
    Task,
    TaskOutcome,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines that run other tests at the same time are slow now and then; that isn't what these are about."""

ids = st.from_regex(r"[A-Za-z0-9._:-]{1,100}", fullmatch=True)
any_text = st.text(st.characters(codec=None))  # lone surrogates too
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
tasks = st.builds(
    Task,
    ids,
    st.text(min_size=1, max_size=200),
    any_text,
    st.integers(min_value=1, max_value=messages.ATTEMPT_LIMIT),
    traceparent=st.sampled_from(["", TRACEPARENT]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
almost_tasks = st.fixed_dictionaries(
    {}, optional={"id": json_values | ids, "name": json_values, "payload": json_values, "attempt": json_values}
)


@unhurried
@given(st.lists(tasks, min_size=1, max_size=20))
def test_a_batch_is_read_as_it_was_written(batch: list[Task]) -> None:
    assert messages.parse_batch(messages.NDJSON, b"".join(map(messages.task_line, batch))) == batch


@unhurried
@given(st.lists(tasks, min_size=1, max_size=20))
def test_so_is_one_in_json(batch: list[Task]) -> None:
    body = {
        "tasks": [
            {"id": t.id, "name": t.name, "payload": t.payload, "attempt": t.attempt, "traceparent": t.traceparent}
            for t in batch
        ]
    }
    assert messages.parse_batch(messages.JSON, json.dumps(body).encode()) == batch


@pytest.mark.parametrize("traceparent", [None, 7, "", "x", [TRACEPARENT], TRACEPARENT.upper(), TRACEPARENT + "\n"])
def test_a_trace_context_that_is_not_valid_is_ignored(traceparent: Any) -> None:
    entry = {"id": "1", "name": "send", "payload": "1", "traceparent": traceparent}
    assert messages.parse_batch(messages.NDJSON, json.dumps(entry).encode()) == [Task("1", "send", "1")]


@unhurried
@given(st.lists(almost_tasks | json_values | tasks.map(lambda task: json.loads(messages.task_line(task))), min_size=1))
def test_an_entry_that_is_no_task_spoils_no_other(entries: list[Any]) -> None:
    body = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
    read = messages.parse_batch(messages.NDJSON, body)
    assert len(read) == len(entries)
    for position, (entry, found) in enumerate(zip(entries, read, strict=True)):
        if isinstance(found, Malformed):
            assert found.position == position
            continue
        assert found.id == entry["id"]
        assert found.name == entry["name"]
        assert found.attempt == entry.get("attempt", 1)
        assert found.payload == entry["payload"] or json.loads(found.payload) == entry["payload"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "isn't JSON"),
        (b'{"id": NaN}', "isn't JSON"),
        (b'"\xff"', "isn't JSON"),
        (b"[" * 200_000, "isn't JSON"),
        (b"1" * 10_000, "isn't JSON"),
        (b"[]", "isn't a JSON object"),
        (b"{}", "needs an id"),
        (b'{"id": "a b", "name": "n", "payload": 1}', "needs an id"),
        (b'{"id": "' + b"a" * 101 + b'", "name": "n", "payload": 1}', "needs an id"),
        (b'{"id": "a\\n", "name": "n", "payload": 1}', "needs an id"),
        (b'{"id": "a", "name": "", "payload": 1}', "needs a name"),
        (b'{"id": "a", "name": "' + b"n" * 201 + b'", "payload": 1}', "needs a name"),
        (b'{"id": "a", "name": "n"}', "needs a payload"),
        (b'{"id": "a", "name": "n", "payload": 1, "attempt": 0}', "attempt"),
        (b'{"id": "a", "name": "n", "payload": 1, "attempt": true}', "attempt"),
        (b'{"id": "a", "name": "n", "payload": 1, "attempt": 1.0}', "attempt"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(line: bytes, reason: str) -> None:
    (found,) = messages.parse_batch(messages.NDJSON, line)
    assert isinstance(found, Malformed)
    assert reason in found.reason


def test_bounds_of_body_and_batch() -> None:
    line = messages.task_line(Task("a", "n", "1"))
    assert len(messages.parse_batch(messages.NDJSON, line * messages.BATCH_LIMIT)) == messages.BATCH_LIMIT
    with pytest.raises(BadRequest, match="1,001 tasks") as caught:
        messages.parse_batch(messages.NDJSON, line * (messages.BATCH_LIMIT + 1))
    assert caught.value.status == 413
    with pytest.raises(BadRequest, match="body") as caught:
        messages.parse_batch(messages.NDJSON, b" " * (messages.BODY_LIMIT_BYTES + 1))
    assert caught.value.status == 413


@unhurried
@given(st.builds(Acknowledgement, st.none() | any_text, st.sampled_from(TaskOutcome), any_text, any_text))
def test_an_acknowledgement_is_read_as_it_was_written(ack: Acknowledgement) -> None:
    read = messages.parse_acknowledgement(messages.acknowledgement_line(ack))
    assert read == Acknowledgement(ack.id, ack.outcome, ack.cause, ack.detail[:500])


def test_an_outcome_of_a_newer_release_has_the_task_delivered_again() -> None:
    ack = messages.parse_acknowledgement(b'{"id": "a", "outcome": "postponed", "until": "tomorrow"}')
    assert ack == Acknowledgement("a", TaskOutcome.RETURNED, "postponed")


@unhurried
@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_are_cut_the_same_wherever_chunks_end(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = AnswerLines()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == lines


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"]])
def test_an_endless_line_is_refused(chunks: list[bytes]) -> None:
    splitter = AnswerLines(10)
    for chunk in chunks[:-1]:
        assert splitter.feed(chunk) == []
    with pytest.raises(BadAnswer, match="over 10 bytes"):
        splitter.feed(chunks[-1])
