"""Declares the jobs of the benchmark, for the preview of a backfill. None of them runs."""

from __future__ import annotations

from tests.bench.web.layout import AREAS

from spoke_jobs import JobContext, job


def _nothing(_ctx: JobContext) -> None:
    """Do nothing."""


for _area in AREAS:
    job(f"{_area}.*")(_nothing)
