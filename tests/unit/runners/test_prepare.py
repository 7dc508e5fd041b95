"""A dispatch is checked before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from spoke_jobs.errors import InvalidJobData
from spoke_jobs.model import JobData
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.job("export")(lambda _ctx, _payload: None)
    return made


@pytest.mark.parametrize("queue", ["half \ud800", "a\x00b", "x" * 201, 5])
def test_a_queue_that_no_database_takes_is_refused(registry: Registry, queue: Any) -> None:
    with pytest.raises(InvalidJobData, match="the dispatch of 'export': queue_name must be a string of at most 200 characters"):
        prepare_job(JobData("export", queue_name=queue), registry, runner="legacy")


@pytest.mark.parametrize("queue", ["", "12:edit_campaign", "übung \U0001f600"])
def test_any_other_queue_is_taken(registry: Registry, queue: str) -> None:
    assert prepare_job(JobData("export", queue_name=queue), registry, runner="legacy").queue_name == queue
