from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spoke_jobs.shared.object_fields import digits, items, mapping, moment, number, text

BODY = {"map": {"a": 1}, "list": [{"b": 2}, 3], "text": "t", "number": 4, "true": True, "time": "2026-01-02T03:04:05Z"}


def test_what_is_there_is_read() -> None:
    assert mapping(BODY, "map") == {"a": 1}
    assert items(BODY, "list") == [{"b": 2}], "what is no mapping is left out"
    assert text(BODY, "text") == "t"
    assert number(BODY, "number") == 4
    assert moment(BODY, "time") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert digits("0123") == 123


@pytest.mark.parametrize("name", ["missing", *BODY])
def test_what_has_another_type_reads_as_empty(name: str) -> None:
    assert mapping(BODY, name) == (BODY["map"] if name == "map" else {})
    assert bool(items(BODY, name)) is (name == "list")
    assert text(BODY, name) == (BODY[name] if name in ("text", "time") else "")
    assert number(BODY, name) == (4 if name == "number" else 0)
    assert (moment(BODY, name) is None) is (name != "time")


@pytest.mark.parametrize("word", ["", "x", "1.5", "-1", "²", "١"])
def test_other_texts_are_no_number(word: str) -> None:
    assert digits(word) == 0


def test_a_number_that_no_database_can_hold_is_none() -> None:
    for large in (2**63, -(2**63), 10**30):
        assert number({"n": large}, "n") == 0
    assert number({"n": 2**63 - 1}, "n") == digits(str(2**63 - 1)) == 2**63 - 1
    assert digits(str(2**63)) == digits("9" * 400) == 0


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_a_time_of_another_era_is_none(time: str) -> None:
    assert moment({"t": time}, "t") is None


def test_a_time_without_a_zone_is_none() -> None:
    assert moment({"t": "2026-01-02T03:04:05"}, "t") is None
