"""What is made of answers that are no task server's."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.tasks.client.foreign_answers import (
    LONGEST_SECONDS,
    Refusals,
    failure_text,
    first_line,
    refusal_text,
    refused_again,
)

NEVER = float("-inf")
DISPATCHED = 100.0


def refusals(*seen: tuple[float, float], most: int = 3) -> list[tuple[int, bool]]:
    """How many refusals were counted, and whether the task fails, after each refusal.

    :param seen: when each came, and when another task was last acknowledged.
    """
    before: Refusals | None = None
    found: list[tuple[int, bool]] = []
    for now, others_at in seen:
        refused = refused_again(before, now, DISPATCHED, others_at, most)
        before = refused.refusals
        found.append((before.count, refused.for_good))
    return found


def test_a_task_fails_by_refusals_between_which_others_got_through() -> None:
    assert refusals((110, 105), (120, 115), (130, 125)) == [(1, False), (2, False), (3, True)]


def test_what_others_met_before_its_last_refusal_says_nothing() -> None:
    assert refusals((110, NEVER), (120, 99), (130, 100)) == [(0, False)] * 3
    assert refusals((110, 105), (120, 105), (130, 110), (140, 135)) == [(1, False)] * 3 + [(2, False)]


@given(st.lists(st.floats(0, LONGEST_SECONDS - 1), min_size=1), st.integers(1, 5))
def test_an_outage_of_less_than_an_hour_fails_no_task(after: list[float], most: int) -> None:
    moments = sorted(DISPATCHED + seconds for seconds in after)
    assert not any(for_good for _, for_good in refusals(*((now, NEVER) for now in moments), most=most))


def test_a_task_that_was_refused_for_an_hour_fails() -> None:
    first = DISPATCHED + 50
    assert refusals((first, NEVER), (first + LONGEST_SECONDS - 1, NEVER), (first + LONGEST_SECONDS, NEVER)) == [
        (0, False),
        (0, False),
        (0, True),
    ]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"", ""),
        (b"<html></html>", ""),
        (b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><h1>x</h1>", "403 Forbidden"),
        (
            b"<!-- a > b --><style>p > a {}</style><script>if (1 < 2) {}</script>\n <p>Not  \t allowed</p>",
            "Not allowed",
        ),
        (b"RBAC: access denied", "RBAC: access denied"),
        (b"plain\r\nmore", "plain"),
        (b'<div class="cut off', ""),
        ("\x1b[31mred\u202e".encode(), "\\x1b[31mred\\u202e"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a" * 500, "a" * 120),
    ],
)
def test_the_first_line_without_markup(body: bytes, line: str) -> None:
    assert first_line(body) == line


@given(st.one_of(st.binary(), st.text(alphabet="<>!-/ \n\tscriptyle=\"'&;\x1b\u2028").map(str.encode)))
@example(b"<script><script></script>")
@example(b"<<p>script>")
@example("\u05f5".encode())
def test_any_answer_becomes_one_short_line_without_markup(body: bytes) -> None:
    line = first_line(body)
    assert len(line) <= 120
    assert len(line.splitlines()) <= 1
    assert "<" not in line
    assert ">" not in line
    # Unassigned and private code points are shown as they are: they command no terminal.
    assert "".join(each for each in line if category(each) not in {"Cn", "Co"}).isprintable()


def test_texts() -> None:
    answer = refusal_text(413, b"<h1>too large")
    assert (answer, refusal_text(403, b"")) == ('413 "too large"', "403")
    assert failure_text(Refusals(10), answer).startswith(f"{TaskCause.REFUSED_BY_PROXY}, something in front")
    assert failure_text(Refusals(10), answer).endswith('refused it 10 times, last with 413 "too large"')
    assert failure_text(Refusals(0), answer).endswith('refused it for 60 min, last with 413 "too large"')
