from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spoke_jobs.contract.object_fields import digits, items, mapping, moment, number, text

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


def test_a_time_without_a_zone_is_none() -> None:
    assert moment({"t": "2026-01-02T03:04:05"}, "t") is None
