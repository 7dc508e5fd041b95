"""A flood of refusals writes few lines, and they say how many others there were."""

from __future__ import annotations

import logging

from spoke_jobs.tasks.server.log_throttle import LINES_BURST, LogThrottle


def test_lines_beyond_the_rate_are_dropped_and_their_number_is_said() -> None:
    now = [0.0]
    throttle = LogThrottle(lambda: now[0])

    def logged(level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("x", level, "", 0, "%d to %s", (401, "10.0.0.1"), None)
        return record.getMessage() if throttle.filter(record) else None

    first = [logged() for _ in range(500)]
    assert first.count("401 to 10.0.0.1") == LINES_BURST
    assert logged(logging.INFO) is not None
    now[0] = 10.0
    assert logged() == f"401 to 10.0.0.1 ({500 - LINES_BURST:,.0f} lines before this one were not logged)"
    assert logged() == "401 to 10.0.0.1"
