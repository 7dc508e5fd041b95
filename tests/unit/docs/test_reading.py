"""The code of docs/how-to/reading.md works as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from spoke_jobs import JobContext, Registry, use_runner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "reading.md"


def test_a_report_is_followed_to_its_end() -> None:
    page: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, page)
    registry = Registry()

    @registry.job("report")
    def report(ctx: JobContext, month: str) -> dict[str, str]:
        ctx.progress(40, "reading")
        if month == "never":
            raise ValueError(month)
        return {"url": f"/reports/{month}"}

    runner = MemoryRunner(Settings(), registry)
    engine = create_engine("sqlite://")
    with use_runner(runner), Session(engine) as session:
        good, bad = page["order_report"]("2026-03", 1), page["order_report"]("never", 1)
        assert page["report_state"](good, 1) == "0 % done"
        runner.drain()
        assert page["report_state"](good, 1) == "ready at /reports/2026-03"
        assert page["report_state"](bad, 1) == "failed (JobError)"
        assert page["report_state"](good, 2) == page["report_state"](99, 1) == "there is no such report"
        assert page["order_and_read"](session, "2026-04") == "waiting"
    engine.dispose()
