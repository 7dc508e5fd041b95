"""An application with a job that schedules dispatch."""

from __future__ import annotations

from pydantic import BaseModel

from spoke_jobs import Registry

registry = Registry()


class Report(BaseModel):
    """What to report."""

    day: str = "today"


registry.job("report", payload=Report)(lambda _ctx, _payload: None)
