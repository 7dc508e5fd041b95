"""Lines of the worker's log and tails, from what jobs print."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoke_jobs.execution.output_lines import TAIL_BYTES, WRITE_BYTES, complete, log_lines, tail, with_output, writes
from spoke_jobs.ledger.lifecycle.transitions import TAIL_LIMIT

printed = st.binary(max_size=300) | st.text(alphabet="ab\n", max_size=300).map(str.encode)


@settings(deadline=None)
@given(printed)
def test_a_plain_line_is_unchanged_but_for_its_prefix(data: bytes) -> None:
    lines = log_lines(data, 17, as_json=False).split(b"\n")[:-1]
    assert b"\n".join(line.removeprefix(b"job 17: ") for line in lines) == data.removesuffix(b"\n")
    assert all(line.startswith(b"job 17: ") for line in lines)


@settings(deadline=None)
@given(printed)
def test_each_line_of_a_log_in_json_names_the_job(data: bytes) -> None:
    lines = log_lines(data, 17, as_json=True).splitlines()
    assert len(lines) == (len(data.removesuffix(b"\n").split(b"\n")) if data else 0)
    assert all(json.loads(line)["request_id"] == 17 for line in lines)


def test_a_line_that_is_json_already_keeps_its_fields_and_gets_the_id() -> None:
    given = b'{"message": "m", "request_id": 3}\n{"message": "n", "request_id": 17}\n[1]\n'
    first, second, third = log_lines(given, 17, as_json=True).splitlines()
    assert json.loads(first) == {"message": "m", "request_id": 17}, "a job writes no lines of another's"
    assert second == b'{"message": "n", "request_id": 17}'
    assert json.loads(third)["message"] == "[1]"


def test_a_line_of_the_context_s_logger_names_its_job_once() -> None:
    line = b"2026-01-01 INFO spoke_jobs.job.x: [job 17 attempt 1] said\n"
    assert log_lines(line, 17, as_json=False) == line
    assert log_lines(line, 1, as_json=False) == b"job 1: " + line


@settings(deadline=None)
@given(st.lists(st.integers(0, 2 * WRITE_BYTES), max_size=12))
def test_a_write_is_of_whole_lines_and_no_longer_than_a_pipe_takes_at_once(lengths: list[int]) -> None:
    lines = b"".join(b"x" * length + b"\n" for length in lengths)
    groups = list(writes(lines))
    assert b"".join(groups) == lines
    assert all(group.endswith(b"\n") for group in groups)
    assert all(len(group) <= WRITE_BYTES or group.count(b"\n") == 1 for group in groups)
    assert all(
        len(one) + len(other) > WRITE_BYTES for one, other in pairwise(groups) if len(one) <= WRITE_BYTES >= len(other)
    )


@settings(deadline=None)
@given(st.text(alphabet="aé\n", max_size=3 * TAIL_LIMIT), st.text(alphabet="t\n", max_size=2 * TAIL_LIMIT))
def test_output_and_traceback_share_the_limit(output: str, trace: str) -> None:
    both = with_output(trace, tail(output.encode()))
    assert len(both) <= max(TAIL_LIMIT, len(trace) if not output else 0)
    if output:
        assert both.endswith(trace[-TAIL_LIMIT // 2 :])


@pytest.mark.parametrize("length", [10, TAIL_LIMIT - 5, TAIL_BYTES + 10])
def test_a_tail_begins_with_a_whole_line(length: int) -> None:
    lines = [f"line {n}" for n in range(length // 6)]
    kept = tail("\n".join(lines).encode()).split("\n")
    assert kept == lines[-len(kept) :]
    assert len("\n".join(kept)) <= TAIL_LIMIT


def test_a_line_that_goes_on_waits_for_its_end_unless_it_is_long() -> None:
    assert complete(b"a\nb", ended=False) == b"a\n"
    assert complete(b"a\nb", ended=True) == b"a\nb"
    assert complete(b"ab", ended=False) == b""
    assert complete(b"x" * TAIL_BYTES, ended=False) == b"x" * TAIL_BYTES
