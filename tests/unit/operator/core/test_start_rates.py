"""Rates of SpokeLimits: no window has too many starts, nobody waits in vain, and a new leader goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW, stamp
from tests.unit.operator.simulation import exceeds

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.custom_resources.spokelimit import SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope
from spoke_jobs.limits.operator_limits import ledger_digest
from spoke_jobs.limits.published_limits import to_publish
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, admit, start, why_held
from spoke_jobs_operator.core.admission.turns import Turns
from spoke_jobs_operator.core.limits import limits, start_rates
from spoke_jobs_operator.core.limits.limits import Limits, compiled
from spoke_jobs_operator.core.limits.start_rates import StartRates
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView, read_spokelimit

SCOPES = (
    *("all", "key:k", "queue:q", "organization:1", "type:in.a", "type:in.*"),
    *("each-queue", "each-organization", "each-type"),
)
RATES = st.tuples(st.sampled_from(["1/s", "3/s", "2/3s", "5/min", "1/d"]), st.integers(1, 3))
JOBS = st.builds(
    lambda job_type, queue, organization, key: {
        "job_type": job_type,
        "queue": queue,
        "organization": organization,
        "limit_key": key,
    },
    st.sampled_from(["mail", "in.a", "in.b"]),
    st.sampled_from(["", "q", "p"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["", "k"]),
)
PAUSES = st.sampled_from([0.0, 0.001, 0.2, 1.0, 7.0, 60.0, 90_000.0])


def spokelimit(scope: str, rate: str, burst: int = 1, name: str = "a", **fields: Any) -> SpokeLimitView:
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    body = {"metadata": metadata | fields, "spec": {"scope": scope, "rate": rate, "burst": burst}}
    return read_spokelimit(body)


def set_at(seconds: float) -> dict[str, Any]:
    """The metadata of a SpokeLimit whose rate was set then."""
    fields: dict[str, Any] = {"f:spec": {"f:rate": {}}}
    return {"managedFields": [{"manager": "kubectl", "time": stamp(seconds), "fieldsV1": fields}]}


NEW = set_at(60)
"""The metadata of one whose rate was surely set after the leader began."""


def candidate(
    name: str = "x",
    ns: str = "ns",
    *,
    job_type: str = "",
    queue: str = "",
    organization: int | None = None,
    limit_key: str = "",
) -> Candidate:
    return Candidate(Key(ns, name), 0, NOW, Subject(job_type, queue, organization, limit_key or None))


class Leader:
    """Admits jobs at the times that the test sets, under some SpokeLimits."""

    def __init__(self, items: Iterable[SpokeLimitView], now: datetime = NOW) -> None:
        self.items = list(items)
        self.limits = compiled(Limits(), self.items, [], now)
        self.usage, self.turns = Usage(rates=StartRates(now)), Turns()
        self.usage.rates.begin(self.items)

    def starts(self, job: Candidate, now: datetime) -> bool:
        """Whether the job may start now. If so, it does, and ends."""
        self.usage.rates.now = now
        if why_held(job, self.usage, self.limits) is not None:
            return False
        start(job, self.usage, self.limits, self.turns)
        self.usage.remove(job)
        return True

    def reported(self) -> list[SpokeLimitView]:
        """The SpokeLimits, with their status."""
        rates = self.usage.rates
        return [replace(item, status=SpokeLimitStatus(full_at=rates.full_at(item))) for item in self.items]


class Count:
    """Counts the starts under each rate by itself."""

    def __init__(self) -> None:
        self.times: dict[tuple[StartRate, Key, str], list[datetime]] = {}

    def of(self, job: Candidate, limits: Limits) -> list[tuple[StartRate, list[datetime]]]:
        return [
            (bound.rate, self.times.setdefault((bound.rate, bound.limit, name), []))
            for name, bounds in job.rates(limits.of(job.key.namespace))
            for bound in bounds
        ]


LIMITS = st.lists(st.tuples(st.sampled_from(SCOPES), RATES), max_size=5)


@settings(deadline=None, max_examples=200)
@given(LIMITS, st.lists(st.tuples(PAUSES, JOBS), max_size=40))
def test_a_job_is_held_if_and_only_if_its_start_would_be_too_many_in_some_window(
    given_: list[tuple[str, tuple[str, int]]], jobs: list[tuple[float, dict[str, Any]]]
) -> None:
    items = [spokelimit(scope, *rate, f"l{n}", **NEW) for n, (scope, rate) in enumerate(given_)]
    leader, count, now = Leader(items), Count(), NOW
    for seconds, fields in jobs:
        now += timedelta(seconds=seconds)
        job = candidate(**fields)
        rates = count.of(job, leader.limits)
        would_be = any(exceeds(rate, [*times, now]) for rate, times in rates)
        assert leader.starts(job, now) != would_be
        if not would_be:
            for _, times in rates:
                times.append(now)


@settings(deadline=None, max_examples=200)
@given(LIMITS, st.lists(st.tuples(PAUSES, JOBS, st.sampled_from(["", "", "report", "change"])), max_size=40))
def test_no_window_has_too_many_starts_whenever_leaders_change_and_whatever_the_status_says(
    given_: list[tuple[str, tuple[str, int]]], jobs: list[tuple[float, dict[str, Any], str]]
) -> None:
    """The status is as old as it may be: reports are written when the test says so."""
    items = [spokelimit(scope, *rate, f"l{n}") for n, (scope, rate) in enumerate(given_)]
    leader, count, now = Leader(items), Count(), NOW
    for seconds, fields, event in jobs:
        now += timedelta(seconds=seconds)
        leader.usage.rates.tick(now)
        if event == "report":
            items = leader.reported()
        elif event == "change":
            leader = Leader(items, now)
        job = candidate(**fields)
        if leader.starts(job, now):
            for _, times in count.of(job, leader.limits):
                times.append(now)
        assert not any(exceeds(rate, times) for rate, times in count.of(job, leader.limits))


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from([scope for scope in SCOPES if not scope.startswith("each-")]), RATES, max_size=4),
    st.lists(st.tuples(PAUSES, JOBS), max_size=30),
)
def test_the_operator_decides_as_workers_do(
    given_: dict[str, tuple[str, int]], jobs: list[tuple[float, dict[str, Any]]]
) -> None:
    ledger = [
        JobLimit(parse_scope(scope), Bounds(rate=Rate.parse(*rate)), id=number)
        for number, (scope, rate) in enumerate(given_.items())
    ]
    published = to_publish(ledger, ledger_digest("shop"))
    leader, now = Leader([]), NOW
    leader.items = [
        read_spokelimit({"metadata": {"name": name, "namespace": "ns"} | NEW, "spec": item.to_spec()})
        for name, item in published.items()
    ]
    leader.limits = compiled(Limits(), leader.items, [], now)
    leader.usage.rates.begin(leader.items)
    buckets: dict[int, datetime | None] = {}
    for seconds, fields in jobs:
        now += timedelta(seconds=seconds)
        admission = Admission(LimitSet(ledger), {}, now, buckets)
        job = candidate(**fields)
        assert leader.starts(job, now) == admission.admit(job.subject)
        buckets |= admission.taken


def test_leaders_that_change_more_often_than_a_token_comes_starve_nobody() -> None:
    items = [spokelimit("queue:q", "1/d")]
    leader, now, starts = Leader(items), NOW, 0
    for _ in range(24 * 10):
        for _ in range(4):
            now += timedelta(minutes=15)
            starts += leader.starts(candidate(queue="q"), now)
        items = leader.reported()
        leader = Leader(items, now)
    assert starts in (9, 10)


def test_a_new_leader_of_a_rate_that_is_not_reported_begins_without_tokens() -> None:
    leader = Leader([spokelimit("each-queue", "1/min", 3)])
    assert not leader.starts(candidate(queue="q"), NOW)
    assert leader.starts(candidate(queue="q"), NOW + timedelta(minutes=1))
    assert leader.starts(candidate(queue="p"), NOW + timedelta(minutes=1)), "each queue has tokens of its own"
    assert not leader.starts(candidate(queue="q"), NOW + timedelta(minutes=1))
    assert leader.starts(candidate(), NOW), "it is in no queue"


@pytest.mark.parametrize(("seconds", "at_once"), [(-5, 0), (0, 0), (9, 0), (10, 3), (60, 3)])
def test_a_rate_that_somebody_sets_while_the_operator_leads_begins_with_its_burst(seconds: float, at_once: int) -> None:
    """The API server's clock may be ahead: then an earlier leader has started attempts under the rate."""
    leader = Leader([spokelimit("all", "1/min", 3, **set_at(seconds))])
    now = NOW + timedelta(seconds=10)
    assert sum(leader.starts(candidate(), now) for _ in range(5)) == at_once


def test_the_wait_names_the_rate_whose_token_comes_last_and_when() -> None:
    items = [spokelimit("all", "1/s", 1, "fast", **NEW), spokelimit("queue:q", "2/min", 1, "slow", **NEW)]
    leader = Leader(items)
    assert leader.starts(candidate(queue="q"), NOW)
    wait = why_held(candidate(queue="q"), leader.usage, leader.limits)
    assert wait is not None
    assert (wait.code, wait.source, wait.retry_at) == (
        "RateLimitReached",
        "SpokeLimit slow",
        NOW + timedelta(seconds=30),
    )
    assert wait_text.sentence(wait) == "starts at most 2/min (SpokeLimit slow)"
    other = why_held(candidate(), leader.usage, leader.limits)
    assert other is not None
    assert other.source == "SpokeLimit fast"
    assert leader.usage.rates.awaited == NOW + timedelta(seconds=1), "the first token that any of them waits for"
    assert why_held(candidate(ns="other"), leader.usage, leader.limits) is None


@pytest.mark.parametrize("names", ["ab", "ba"])
@pytest.mark.parametrize("scope", ["queue:q", "each-queue"])
def test_of_two_rates_of_one_scope_both_hold(scope: str, names: str) -> None:
    wide, narrow = names[0], names[1]
    items = [
        spokelimit(scope, "1/min", 3, wide, **NEW),
        spokelimit("queue:q", "5/s", 1, narrow, **NEW),
    ]
    leader = Leader(items)
    times = [NOW + timedelta(seconds=seconds) for seconds in (0, 0, 1, 2, 3, 59, 61)]
    assert [leader.starts(candidate(queue="q"), at) for at in times] == [True, False, True, True, False, False, True]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["all", "queue:q", "each-queue"]), RATES), min_size=3, max_size=9),
    st.lists(st.tuples(PAUSES, JOBS), max_size=40),
)
def test_of_more_rates_than_have_buckets_all_hold(
    given_: list[tuple[str, tuple[str, int]]], jobs: list[tuple[float, dict[str, Any]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MOST_RATES", 2)
        leader, now = Leader(spokelimit(scope, *rate, f"l{n}", **NEW) for n, (scope, rate) in enumerate(given_)), NOW
    times: dict[tuple[int, str], list[datetime]] = {}
    for seconds, fields in jobs:
        now += timedelta(seconds=seconds)
        job = candidate(**fields)
        if leader.starts(job, now):
            queue = job.subject.queue_name
            names = {"all": "", "queue:q": queue if queue == "q" else None, "each-queue": queue or None}
            for number, (scope, _) in enumerate(given_):
                if (name := names[scope]) is not None:
                    times.setdefault((number, name), []).append(now)
    for (number, _), starts in times.items():
        rate, burst = given_[number][1]
        assert not exceeds(StartRate.parse(rate, burst), starts)


@pytest.mark.parametrize("scope", ["all", "each-type", "type:in.*"])
def test_thousands_of_rates_and_waiting_jobs_do_not_multiply(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator does nothing else during an admission, so one tenant's would stop all others."""
    leader = Leader([spokelimit(scope, "1/d", number, f"l{number}", **NEW) for number in range(1, 1001)])
    waiting = [candidate(f"j{number}", job_type="in.a") for number in range(500)]
    asked: list[object] = []

    def wait(rate: StartRate, full_at: datetime | None, now: datetime) -> timedelta:
        asked.append(rate)
        return real(rate, full_at, now)

    real = StartRate.wait
    monkeypatch.setattr(StartRate, "wait", wait)
    leader.usage.rates.now = NOW
    assert len(list(admit(waiting, leader.usage, leader.limits, leader.turns))) == 1
    assert len(asked) < 100


def test_a_changed_rate_keeps_its_bucket() -> None:
    leader = Leader([spokelimit("all", "1/min", 2, **NEW)])
    assert [leader.starts(candidate(), NOW) for _ in range(3)] == [True, True, False]
    changed = [spokelimit("all", "1/min", 1, **NEW)]
    leader.limits = compiled(Limits(), changed, [], NOW)
    leader.usage.rates.begin(changed)
    assert not leader.starts(candidate(), NOW + timedelta(seconds=59))
    leader.usage.rates.begin([])
    leader.usage.rates.tick(NOW + timedelta(seconds=70))
    leader.usage.rates.begin(changed)  # deleted and created again
    assert not leader.starts(candidate(), NOW + timedelta(seconds=71))


def test_the_buckets_are_bounded_in_memory_and_none_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_rates, "MOST_BUCKETS", 3)
    leader = Leader([spokelimit("each-organization", "1/min", **NEW)])
    key = leader.items[0].key
    started = [leader.starts(candidate(organization=number), NOW) for number in range(6)]
    assert started == [True, True, True, True, False, False], "those beyond the bound share one"
    assert leader.usage.rates.sizes[key] == 3
    later = NOW + timedelta(minutes=2)
    assert leader.starts(candidate(organization=99), later)
    leader.usage.rates.tick(later)
    assert leader.usage.rates.sizes[key] <= 3
    leader.usage.rates.tick(later + timedelta(minutes=2))
    assert leader.usage.rates.sizes == {key: 0}, "full buckets are forgotten"
    leader.usage.rates.begin([])
    leader.usage.rates.tick(later + timedelta(minutes=4))
    assert leader.usage.rates.sizes == {}


def test_the_status_says_when_the_bucket_is_full_and_stays_once_it_is() -> None:
    (item,) = (leader := Leader([spokelimit("all", "1/min", 2, **NEW)])).items
    rates = leader.usage.rates
    assert rates.full_at(item) is None
    leader.starts(candidate(), NOW)
    full_at = NOW + timedelta(minutes=1)
    assert rates.full_at(item) == full_at
    assert rates.tokens(leader.limits.of("ns").rates["all"][0]) == 1
    (reported,) = leader.reported()
    rates.tick(NOW + timedelta(hours=1))
    assert rates.full_at(reported) == full_at, "that it is full is not worth a write"
    each = spokelimit("each-queue", "1/min", **NEW)
    rates.begin([each])
    assert rates.full_at(each) is None
