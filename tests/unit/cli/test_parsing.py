"""What is given on the command line: understood, or refused in a sentence that says what is expected."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.explain.situations import NOW

from spoke_jobs.cli.commands import parsing
from spoke_jobs.contract.causes import CauseClass


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("5m", 300), ("5 min", 300), ("7d", 604_800)]
)
def test_durations(text: str, value: float) -> None:
    assert parsing.duration(text) == value


@pytest.mark.parametrize("text", ["", "-5", "5w", "five", "1e3", "∞"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parsing.duration(text)


@pytest.mark.parametrize("text", ["36501d", "9999999d", "99999999999d", "9" * 400 + "d"])
def test_durations_that_no_time_can_be_counted_from(text: str) -> None:
    for parse in (parsing.duration, parsing.past, lambda given: parsing.moment(f"+{given}")):
        with pytest.raises(ValueError, match="is too long: give at most 36500d"):
            parse(text)


def test_a_time_in_the_past_is_not_given_from_now() -> None:
    with pytest.raises(ValueError, match=r"'[+]2h' is a time in the future: give 2h \(ago\)"):
        parsing.past("+2h")


def test_moments() -> None:
    assert parsing.moment("2026-03-01T09:00+01:00") == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert parsing.moment("2026-03-01T09:00Z") == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert parsing.moment("+10m", NOW) == NOW + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tomorrow", "is not a time"),
        ("0001-01-01T00:00+10:00", "is not a time"),
        ("2026-03-01T09:00", "write 2026-03-01T09:00Z for UTC, or 2026-03-01T09:00[+]01:00"),
        ("2026-03-01", "write 2026-03-01T00:00Z for UTC, or 2026-03-01T00:00[+]01:00"),
        ("2026-03-01T09:00:30.5", "write 2026-03-01T09:00:30.500000Z for UTC"),
        ("2026-03-01+01:00", "is not a time"),
        ("+soon", "not a duration"),
    ],
)
def test_what_is_no_moment(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsing.moment(text)


def test_payloads_from_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"name": "Zoë"}', "utf-8")
    assert parsing.payload(None, io.StringIO()) is None
    assert parsing.payload('{"a": 1}', io.StringIO()) == {"a": 1}
    assert parsing.payload("-", io.StringIO("[1, 2]")) == [1, 2]
    assert parsing.payload(f"@{file}", io.StringIO()) == {"name": "Zoë"}


def test_payloads_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe")
    for given, words in (
        ('{"card": 4111', "isn't JSON: .* at line 1, column 14"),
        (f"@{tmp_path}/none.json", "none.json can't be read: No such file"),
        (f"@{tmp_path}", "can't be read: Is a directory"),
        (f"@{file}", "isn't UTF-8"),
        ("[" * 100_000, "can't be parsed as JSON"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            parsing.payload(given, io.StringIO())
        assert "4111" not in str(caught.value)


def test_retry_policies() -> None:
    policy = parsing.retry_policy('{"budget": {"error": 5}, "backoff_seconds": 2, "never": ["myapp.Gone"]}')
    assert (policy.allowance(CauseClass.ERROR), policy.backoff_seconds, policy.never_names) == (5, 2, ("myapp.Gone",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "give a JSON object"),
        ('{"budgte": {}}', "give a JSON object with some of budget"),
        ('{"budget": {"errors": 5}}', "'errors', which is none of error, oom"),
        ('{"budget": {"error": 0}}', "a whole number from 1"),
        ('{"budget": 3}', "a mapping"),
        ('{"backoff_seconds": -1}', "backoff_seconds is -1"),
        ('{"never": [3]}', "never is"),
    ],
)
def test_retry_policies_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsing.retry_policy(text)
