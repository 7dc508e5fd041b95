"""What a log says of an outage, however often it is met."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger("spoke_jobs.test_outage_log")


class Scene:
    def __init__(self) -> None:
        self.clock = 0.0
        self.outage = OutageLog(logger, "the database", remind_seconds=60, clock=lambda: self.clock)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger.name)
    return caplog


def test_each_new_reason_is_logged_once_with_its_fields(log: pytest.LogCaptureFixture) -> None:
    s = Scene()
    for reason in ("refused, port 5432", "refused, port 5433", "password wrong", "refused, port 1", "password wrong"):
        s.outage.failed(reason)
    assert log.messages == [
        "the database is unavailable (refused, port 5432); retrying",
        "the database is unavailable (password wrong); retrying",
    ]
    assert vars(log.records[1])["reason"] == "password wrong"


def test_a_lasting_outage_is_recalled_once_a_minute_and_its_end_is_told(log: pytest.LogCaptureFixture) -> None:
    s = Scene()
    for second in range(600):
        s.clock = second
        s.outage.failed("refused")
    assert len(log.messages) == 10
    assert log.messages[1] == "the database is still unavailable after 60 s (refused); retrying"
    s.outage.recovered()
    s.outage.recovered()
    assert log.messages[10:] == ["the database answers again after 599 s"]
    assert vars(log.records[-1])["failures"] == 600
    s.outage.failed("refused")
    assert log.messages[-1] == "the database is unavailable (refused); retrying"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 5), st.text(max_size=30)), max_size=200))
def test_the_lines_are_bounded_by_reasons_and_minutes(
    log: pytest.LogCaptureFixture, failures: list[tuple[float, str]]
) -> None:
    log.clear()
    s = Scene()
    for seconds, reason in failures:
        s.clock += seconds
        s.outage.failed(reason)
    assert len(log.records) <= 20 + s.clock / 60 + len(failures) * (len({r for _, r in failures}) > 20)
