"""Each phase of a connection has a limit in all, which no dribble of bytes extends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoke_jobs.tasks.server.connection_phases import PHASE_SECONDS, ConnectionState, Phase, PhaseTimer, phase_of

NEW = ConnectionState(closing=False, write_blocked=False, body_open=False, answering=False, partial=False, answers=0)


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, Phase.HEADERS),
        ({"answers": 1}, Phase.IDLE),
        ({"answers": 1, "partial": True}, Phase.HEADERS),
        ({"body_open": True, "answering": True}, Phase.BODY),
        ({"answering": True}, Phase.ANSWER),
        ({"answering": True, "write_blocked": True}, Phase.WRITE),
        ({"write_blocked": True, "closing": True}, Phase.CLOSE),
    ],
)
def test_the_phase_is_what_the_connection_waits_for(changes: dict[str, bool], phase: Phase) -> None:
    assert phase_of(replace(NEW, **changes)) is phase


def test_a_phase_is_overdue_after_its_time_and_a_new_request_begins_anew() -> None:
    timer = PhaseTimer(0.0)
    limit = PHASE_SECONDS[Phase.HEADERS]
    assert timer.overdue(NEW, limit - 1, PHASE_SECONDS) is None
    assert timer.overdue(NEW, limit, PHASE_SECONDS) is Phase.HEADERS
    body = replace(NEW, body_open=True)
    assert timer.overdue(body, 100, PHASE_SECONDS) is None
    assert timer.overdue(body, 100 + PHASE_SECONDS[Phase.BODY], PHASE_SECONDS) is Phase.BODY
    assert timer.overdue(replace(body, answers=1), 200, PHASE_SECONDS) is None, "another request's"


def test_an_answer_may_take_as_long_as_its_tasks() -> None:
    timer = PhaseTimer(0.0)
    answering = replace(NEW, answering=True)
    assert [timer.overdue(answering, now, PHASE_SECONDS) for now in (1.0, 1e6)] == [None, None]
