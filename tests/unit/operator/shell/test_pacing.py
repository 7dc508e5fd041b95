"""Places are taken, kept, given back and passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW
from tests.unit.operator.simulation import exceeds

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.limits.limits import Bound, Limits, NamespaceLimits, RateBound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import read_spokelimit
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.shell.admission import pacing
from spoke_jobs_operator.shell.admission.pacing import Pacer


def candidate(name: str, priority: int = 0, *, queue: str = "", org: int | None = None) -> Candidate:
    return Candidate(Key("ns", name), priority, NOW, Subject("", queue, org), bool(queue))


A, B, C = candidate("a"), candidate("b"), candidate("c", priority=5)


def pacer_of(limits: Limits) -> tuple[Pacer, list[str]]:
    woken: list[str] = []
    return Pacer(limits, lambda key: woken.append(key.name)), woken


def test_places_are_given_kept_and_passed_on() -> None:
    pacer, woken = pacer_of(Limits(1))
    pacer.settle(A, Standing.WAITS)
    assert pacer.held(A) is None
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.settle(C, Standing.WAITS)
    held = pacer.held(B)
    assert held
    assert held.code == "LimitReached"
    assert woken == ["a"]
    pacer.settle(A, Standing.FINISHED)
    assert woken == ["a", "c"]
    pacer.settle(C, Standing.IDLE)  # blocked after all: the place is free again
    assert woken == ["a", "c", "b"]
    assert pacer.held(C)


def test_one_whose_priority_changes_while_it_waits_takes_its_new_place() -> None:
    pacer, woken = pacer_of(Limits(1))
    pacer.settle(A, Standing.HOLDS)
    for each in (B, C):
        pacer.settle(each, Standing.WAITS)
    assert [each.key.name for each in pacer.order(9)] == ["c", "b"]
    pacer.settle(candidate("b", priority=9), Standing.WAITS)
    assert [(each.key.name, each.priority) for each in pacer.order(9)] == [("b", 9), ("c", 5)]
    pacer.settle(A, Standing.FINISHED)
    pacer.settle(candidate("b"), Standing.HOLDS)  # what runs keeps its place, whatever its priority
    assert woken == ["b"]
    assert pacer.held(C)


def test_one_that_changes_while_it_waits_no_longer_waits_for_what_held_it_before() -> None:
    """Its priority is the same."""
    pacer, woken = pacer_of(Limits())
    pacer.settle(candidate("a", queue="q"), Standing.WAITS)
    pacer.settle(candidate("b", queue="q"), Standing.WAITS)
    assert woken == ["a"]
    pacer.settle(candidate("b", queue="free"), Standing.WAITS)
    assert woken == ["a", "b"]
    pacer.settle(candidate("c", queue="free"), Standing.WAITS)
    assert woken == ["a", "b"], "it has the lock of the new queue"


def test_one_that_is_deleted_makes_room() -> None:
    pacer, woken = pacer_of(Limits(1))
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.forget(A.key)
    assert woken == ["b"]
    pacer.forget(B.key)
    assert pacer.usage.total == 0


@pytest.mark.parametrize("standing", [Standing.WAITS, Standing.HOLDS, Standing.IDLE])
@pytest.mark.parametrize("ends", [True, False])
def test_an_unfinished_one_counts_until_it_ends_or_is_deleted(standing: Standing, ends: bool) -> None:
    """One that is suspended or backs off counts, too."""
    pacer, woken = pacer_of(Limits(unfinished=1))
    if standing is not Standing.WAITS:
        pacer.settle(A, Standing.WAITS)
    pacer.settle(A, standing)
    pacer.settle(B, Standing.WAITS)
    held = pacer.held(B)
    assert held
    assert held.code == "UnfinishedLimitReached"
    if ends:
        pacer.settle(A, Standing.FINISHED)
    else:
        pacer.forget(A.key)
    assert woken == ["a", "b"]
    pacer.reset()
    pacer.prime([], [B, A])
    assert (pacer.held(A), pacer.held(B) is None) == (None, False), "a new leader counts them again"


def test_what_was_there_before_is_taken_in_at_once() -> None:
    pacer, woken = pacer_of(Limits(2))
    pacer.prime([A], [B, C])
    assert woken == ["c"], "not by who is looked at first"
    assert [each.key.name for each in pacer.order(5)] == ["b"]
    pacer.prime([A, C], [B])  # a namespace that could be listed only later
    assert woken == ["c"]


def test_nobody_overtakes_while_places_are_about_to_be_given_out() -> None:
    calls: list[Callable[[], None]] = []
    woken: list[str] = []
    pacer = Pacer(Limits(1), lambda key: woken.append(key.name), defer=lambda _seconds, admit: calls.append(admit))
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(C, Standing.WAITS)
    pacer.settle(A, Standing.FINISHED)
    pacer.settle(B, Standing.WAITS)
    held = pacer.held(B)
    assert held
    assert held.code == "", "undecided, which is not worth a write"
    (look,) = calls
    look()
    assert woken == ["c"]


def test_admissions_take_half_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of SpokeJobs of one namespace may wait, and places become free in others all the time."""
    waits: list[float] = []
    calls: list[Callable[[], None]] = []

    def defer(seconds: float, admit: Callable[[], None]) -> None:
        waits.append(seconds)
        calls.append(admit)

    clock = iter([10.0, 13.5])
    pacer = Pacer(Limits(1), lambda _key: None, defer=defer)
    for job in (A, B, C):
        pacer.settle(job, Standing.WAITS)
    pacer.settle(A, Standing.FINISHED)
    with monkeypatch.context() as patch:
        patch.setattr(pacing.time, "thread_time", lambda: next(clock))
        calls.pop()()
    pacer.settle(C, Standing.FINISHED)
    assert waits == [0.0, 3.5]


def test_a_new_leader_that_goes_on_holding_probes_at_once_whatever_runs() -> None:
    woken: list[str] = []
    pacer = Pacer(Limits(), lambda key: woken.append(key.name), holds=lambda: Holds(20, NOW))
    running = [candidate(f"running-{number}") for number in range(5)]
    pacer.prime(running, [A, B], [(A.group, Wait(WaitReason.DATABASE_AWAY, since=NOW))])
    assert woken == ["a"]
    assert pacer.held(B) is not None


class Paced:
    """A pacer with rates, on a clock that the test moves."""

    def __init__(self, **rates: str) -> None:
        self.now = NOW
        self.started: list[tuple[str, float]] = []
        self.timers: list[tuple[datetime, Callable[[], None]]] = []
        self.set_timers = 0
        self.pacer = Pacer(self.limits(rates), self._started, clock=lambda: self.now, later=self._later)

    def limits(self, rates: Mapping[str, str], running: int | None = None) -> Limits:
        """A rate of all jobs, or of queues, in one namespace."""
        bounds = {
            "all" if name == "all" else f"queue:{name}": (RateBound(StartRate.parse(rate), Key("ns", name)),)
            for name, rate in rates.items()
        }
        most = {} if running is None else {"all": Bound(running, "SpokeLimit few")}
        return Limits(namespaces={"ns": NamespaceLimits(bounds=most, rates=bounds)})

    def _started(self, key: Key) -> None:
        self.started.append((key.name, (self.now - NOW).total_seconds()))

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.set_timers += 1
        self.timers.append((self.now + timedelta(seconds=seconds), call))

    def after(self, seconds: float) -> None:
        """Let the timers of that time fire, each when it is due."""
        end = self.now + timedelta(seconds=seconds)
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end


def test_jobs_start_when_their_token_comes_in_the_order_of_turns_and_nothing_polls() -> None:
    p = Paced(all="1/10s")
    for each in (A, B, C):
        p.pacer.settle(each, Standing.WAITS)
    assert p.started == [("a", 0)]
    wait = p.pacer.held(B)
    assert wait is not None
    assert (wait.code, wait.retry_at) == ("RateLimitReached", NOW + timedelta(seconds=10))
    assert p.set_timers == 1
    p.after(100)
    assert p.started == [("a", 0), ("c", 10), ("b", 20)]
    assert p.set_timers == 2


def test_of_a_token_that_somebody_waits_for_a_new_job_is_not_the_first_taker() -> None:
    p = Paced(q="1/10s")
    old = [Candidate(Key("ns", f"old-{number}"), 0, NOW, Subject("", "q")) for number in range(3)]
    for each in old:
        p.pacer.settle(each, Standing.WAITS)
    assert p.started == [("old-0", 0)]
    p.now += timedelta(seconds=10)  # the timer has not fired yet
    p.pacer.settle(Candidate(Key("ns", "new"), 0, NOW + timedelta(seconds=10), Subject("", "q")), Standing.WAITS)
    p.pacer.settle(B, Standing.WAITS)
    assert p.started == [("old-0", 0), ("old-1", 10), ("b", 10)], "b takes no token"
    p.after(100)
    assert [name for name, _ in p.started[3:]] == ["old-2", "new"]


INTERVALS = {"1/s": 1, "2/3s": 1.5, "1/7s": 7}


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["all", "q", "p"]), st.sampled_from(sorted(INTERVALS)), min_size=1),
    st.lists(
        st.tuples(st.sampled_from(["", "q", "p"]), st.sampled_from([None, 1, 2]), st.sampled_from([0.0, 0.4, 3.0])),
        max_size=15,
    ),
)
def test_everybody_starts_in_the_time_that_the_slowest_rate_takes_for_all(
    rates: dict[str, str], jobs: list[tuple[str, int | None, float]]
) -> None:
    p = Paced(**rates)
    for number, (queue, organization, seconds) in enumerate(jobs):
        p.pacer.settle(Candidate(Key("ns", f"{number}"), 0, p.now, Subject("", queue, organization)), Standing.WAITS)
        p.after(seconds)
    p.after(len(jobs) * (max(INTERVALS[rate] for rate in rates.values()) + 1))
    assert {name for name, _ in p.started} == {str(number) for number in range(len(jobs))}
    for name, rate in rates.items():
        times = [at for job, at in p.started if name in ("all", jobs[int(job)][0])]
        assert not exceeds(StartRate.parse(rate), [NOW + timedelta(seconds=at) for at in times])


def test_a_changed_rate_and_a_released_place_are_noticed_at_once() -> None:
    p = Paced(all="1/h")
    for each in (A, B, C):
        p.pacer.settle(each, Standing.WAITS)
    p.pacer.set_limits(p.limits({"all": "1/min"}))
    assert p.started == [("a", 0), ("c", 0)], "of a bucket that was far from full one token is left"
    p.after(60)
    assert p.started[2:] == [("b", 60)]
    p.pacer.settle(candidate("d"), Standing.WAITS)
    p.pacer.set_limits(p.limits({"all": "10/s"}, running=3))
    p.after(10)
    assert len(p.started) == 3, "the limit is reached"
    p.pacer.settle(A, Standing.FINISHED)
    assert p.started[3:] == [("d", 70)]


def test_a_new_leader_begins_without_tokens() -> None:
    p = Paced(all="1/10s")
    p.pacer.settle(A, Standing.WAITS)
    p.pacer.reset()
    body = {"metadata": {"name": "all", "namespace": "ns"}, "spec": {"scope": "all", "rate": "1/10s"}}
    p.pacer.begin_rates([read_spokelimit(body)])
    p.pacer.prime([A], [B, C])
    assert p.started == [("a", 0)]
    p.after(20)
    assert p.started == [("a", 0), ("c", 10), ("b", 20)]
