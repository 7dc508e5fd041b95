"""Durations as people read them."""

from __future__ import annotations

import pytest
from tests.unit.explain.situations import a_job

from spoke_jobs.errors import RetryLater
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.model import JobOptions
from spoke_jobs.shared.durations import seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (4.83, "4.8 s"),
        (5, "5 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.96, "1 min"),
        (61.4, "1 min 1 s"),
        (98, "1 min 38 s"),
        (119.96, "1 min 59 s"),
        (200, "3 min 20 s"),
        (600, "10 min"),
        (3600, "1 h"),
        (7199, "1 h 59 min"),
        (7500, "2 h 5 min"),
        (36_600, "10 h"),
        (7 * 86_400, "7 d"),
        (86_400 + 7_300, "1 d 2 h"),
    ],
)
def test_they_have_their_largest_units(value: float, text: str) -> None:
    assert seconds(value) == text


def test_messages_of_jobs_have_them_as_pages_do() -> None:
    assert str(RetryLater(600)) == "the job asked to be run again in 10 min"
    job = a_job(options=JobOptions(start_timeout_seconds=90))
    said = transitions.not_started(job, None).message
    assert said == "no worker had room for the job: the job waited for longer than 1 min 30 s"
