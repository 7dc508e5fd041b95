"""The steps of attempts: which are known, how long each took, and the bar that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.explain.situations import NOW, a_job, an_attempt, before

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus
from spoke_jobs.explain.tries import Try
from spoke_jobs.ledger.audit.audit_events import Event
from spoke_jobs.model import AttemptState, JobRequest
from spoke_jobs.web.attempt_timeline import WIDTH, AttemptTimeline, timelines

POD = "report-12-1-x"


def at(seconds: float) -> datetime:
    return before(seconds=100 - seconds)


def claimed(
    number: int = 1, begun: float = 20, ended: float | None = None, run: int = 1, due: float | None = None
) -> Try:
    end = {} if ended is None else {"state": AttemptState.FAILED, "finished_at": at(ended), "cause": "JobError"}
    due_at = None if due is None else at(due)
    return Try(run, number, an_attempt(run=run, number=number, claimed_at=at(begun), due_at=due_at, **end))


def seen(**times: float) -> Try:
    """An attempt in a pod."""
    given: Mapping[str, Any] = {
        f"{name}_at" if name != "runs" else "runs_since": at(time) for name, time in times.items()
    }
    return Try(1, 1, None, AttemptStatus(number=1, job="j", pod=POD, **given))


def a_retry(seconds: float, action: str = "retry") -> Event:
    return Event(1, at(seconds), "ada", action, 12, "report", "")


def drawn(*found: Try, job: JobRequest | None = None, newest: int = 5, **more: Any) -> tuple[AttemptTimeline, ...]:
    return timelines(job or a_job(created_at=at(0)), found, NOW, newest=newest, **more)


def steps(*found: Try, **more: Any) -> list[list[tuple[str, float]]]:
    """Names and times, in seconds."""
    return [
        [(step.name, (datetime.fromisoformat(step.when.machine) - at(0)).total_seconds()) for step in each.steps]
        for each in drawn(*found, **more)
    ]


def test_an_attempt_in_a_worker() -> None:
    (ended,) = drawn(claimed(ended=50))
    assert ended.text == "Attempt 1 waited 20 s, ran for 30 s."
    assert [(step.name, step.clock, step.after) for step in ended.steps] == [
        ("queued", "11:58:20", ""),
        ("started", "11:58:40", "20 s later"),
        ("ended", "11:59:10", "30 s later"),
    ]
    assert [(period.kind, period.x, period.width) for period in ended.periods] == [
        ("waits", 0, 241),
        ("runs failed", 241, 359),
    ]
    (running,) = drawn(claimed())
    assert running.text == "Attempt 1 waited 20 s, ran for 1 min 20 s so far."
    assert running.periods[-1].kind == "runs running"


def test_an_attempt_in_a_pod() -> None:
    item = seen(started=5, scheduled=6, runs=16)
    whole = Try(1, 1, claimed(begun=18, ended=48).row, item.seen)
    (shown,) = drawn(whole, pulled={POD: at(15), "another": at(1)})
    assert shown.text == (
        "Attempt 1 waited 5 s, waited 1 s for its pod, pulled its image in 9 s, started its container in 1 s, "
        "loaded its code in 2 s, ran for 30 s."
    )
    assert [(step.name, step.after) for step in shown.steps] == [
        ("queued", ""),
        ("admitted", "5 s later"),
        ("got its node", "1 s later"),
        ("image pulled", "9 s later"),
        ("container started", "1 s later"),
        ("started", "2 s later"),
        ("ended", "30 s later"),
    ]
    (shown,) = drawn(whole)
    assert "prepared its pod in 10 s, loaded its code in 2 s" in shown.text, "nobody knows when the image was pulled"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (seen(started=5), "waited 1 min 35 s so far for its pod."),
        (seen(started=5, scheduled=10), "waited 5 s for its pod, prepared its pod in 1 min 30 s so far."),
        (seen(started=5, scheduled=10, finished=70), "waited 5 s for its pod, prepared its pod in 1 min."),
        (Try(1, 1, claimed(ended=50).row, seen(started=5).seen), "prepared its pod in 15 s, ran for 30 s."),
    ],
    ids=["no node yet", "starting", "never started", "of an earlier operator"],
)
def test_what_is_not_known_is_left_out(item: Try, text: str) -> None:
    (shown,) = drawn(item)
    assert shown.text == f"Attempt 1 waited 5 s, {text}"


def test_an_attempt_of_which_nothing_is_known_is_left_out() -> None:
    assert drawn(Try(1, 1, None, AttemptStatus(number=1, job="j")), Try(1, 2)) == ()


def test_a_job_that_is_due_later_waits_twice() -> None:
    job = a_job(created_at=at(0), run_after=at(15))
    (shown,) = drawn(claimed(ended=50), job=job)
    assert shown.text == "Attempt 1 waited 15 s, waited 5 s once it was due, ran for 30 s."
    later = a_job(created_at=at(0), run_after=at(70))
    assert steps(claimed(ended=50), job=later) == [[("queued", 0), ("started", 20), ("ended", 50)]], "of the next one"


def test_each_attempt_says_when_it_was_due() -> None:
    """Its claim has recorded that, and has removed it from the job's row."""
    first, second = claimed(ended=30, due=15), claimed(2, 45, 60, due=40)
    assert [text.text for text in drawn(first, second, job=a_job(created_at=at(0), run_after=at(41)))] == [
        "Attempt 1 waited 15 s, waited 5 s once it was due, ran for 10 s.",
        "Attempt 2 waited 10 s, waited 5 s once it was due, ran for 15 s.",
    ]
    at_once = claimed(2, 45, 60, due=30.9)
    assert steps(first, at_once)[1] == [("queued", 30), ("started", 45), ("ended", 60)], "it waited for no time"
    moved = claimed(1, 80, 90, run=2, due=70)
    assert steps(moved) == [[("due", 70), ("started", 80), ("ended", 90)]], "nobody knows since when it was queued"
    assert drawn(moved)[0].text == "Attempt 1 of run 2 waited 10 s once it was due, ran for 10 s."


def test_the_next_attempt_is_queued_since_the_end_of_the_last() -> None:
    first, second = claimed(ended=30), claimed(2, 45, 60)
    assert steps(first, second)[1] == [("queued", 30), ("started", 45), ("ended", 60)]
    assert steps(second)[0] == [("started", 45), ("ended", 60)], "the first one is in no row any more"
    assert steps(first, second, newest=1) == [[("queued", 30), ("started", 45), ("ended", 60)]]


def test_a_retry_by_hand_is_queued_since_somebody_asked_for_it() -> None:
    first, again = claimed(ended=30), claimed(1, 80, 90, run=2)
    events = [a_retry(95), a_retry(70), a_retry(75, "cancel"), a_retry(10)]
    assert steps(first, again, events=events)[1] == [("queued", 70), ("started", 80), ("ended", 90)]
    assert steps(first, again)[1] == [("started", 80), ("ended", 90)], "nobody knows"
    assert drawn(first, again)[1].text == "Attempt 1 of run 2 ran for 10 s."


def test_a_job_that_moves_to_a_pod_is_queued_since_its_attempt_in_the_worker() -> None:
    options = a_job().options.__class__(lane="worker")
    moved = a_job(runner="kubernetes", run=2, options=options)
    assert steps(claimed(ended=30), claimed(1, 80, 90, run=2), job=moved)[1][0] == ("queued", 30)


def test_clocks_that_differ_give_no_negative_time() -> None:
    whole = Try(1, 1, claimed(begun=18, ended=48).row, seen(started=10, scheduled=9, runs=8).seen)
    (shown,) = drawn(whole)
    assert shown.text == (
        "Attempt 1 waited 10 s, waited 0 s for its pod, prepared its pod in 0 s, loaded its code in 8 s, ran for 30 s."
    )


@given(st.lists(st.floats(0, 10**9), min_size=5, max_size=5))
def test_each_period_is_seen_and_the_bar_is_full(times: list[float]) -> None:
    started, scheduled, runs, begun, ended = sorted(times)
    whole = Try(1, 1, claimed(begun=begun, ended=ended).row, seen(started=started, scheduled=scheduled, runs=runs).seen)
    (shown,) = drawn(whole)
    assert all(period.width >= 2 for period in shown.periods)
    assert [period.x for period in shown.periods[1:]] == [period.x + period.width for period in shown.periods[:-1]], (
        "side by side"
    )
    if shown.periods:
        assert shown.periods[0].x == 0
        assert shown.periods[-1].x + shown.periods[-1].width == WIDTH
