"""SpokeLimits and paused Namespaces take effect when they come, change, end and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.shell.admission import limit_keeper
from spoke_jobs_operator.shell.admission.limit_keeper import LimitKeeper
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.store.store import Store


def candidate(name: str, ns: str = "ns", queue: str = "") -> Candidate:
    return Candidate(Key(ns, name), 0, NOW, Subject("", queue))


class Scene:
    """The keeper on a clock that the test moves."""

    def __init__(self, base: Limits = Limits()) -> None:  # noqa: B008
        self.now = NOW
        self.timers: list[tuple[datetime, Callable[[], None]]] = []
        self.started: list[str] = []
        self.woken: list[str] = []
        self.store = Store()
        self.pacer = Pacer(base, lambda key: self.started.append(key.name), clock=lambda: self.now, later=self._later)
        self.keeper = LimitKeeper(
            base,
            self.store,
            self.pacer,
            wake=lambda key: self.woken.append(key.name),
            clock=lambda: self.now,
            later=self._later,
        )
        self.store.on_limits = self.keeper.changed
        self.version = 0

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + timedelta(seconds=seconds), call))

    def put(self, name: str, scope: str, *, gone: bool = False, **spec: Any) -> None:
        self.version += 1
        metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.store.see("spokelimits", {"metadata": metadata, "spec": {"scope": scope} | spec}, gone=gone)
        self.after(0.1)

    def annotate(self, reason: str | None) -> None:
        self.version += 1
        metadata: dict[str, Any] = {"name": "ns", "uid": "uid-ns", "resourceVersion": str(self.version)}
        metadata["annotations"] = {} if reason is None else {"jobs.spoke.dev/paused": reason}
        self.store.see("namespaces", {"metadata": metadata}, gone=False)
        self.after(0.1)

    def after(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [(at, call) for at, call in self.timers if at > self.now]
        for call in due:
            call()

    def why(self, name: str) -> str:
        wait = self.pacer.held(candidate(name))
        return wait.code if wait else ""


def test_a_limit_holds_from_when_it_comes_until_it_goes() -> None:
    s = Scene()
    s.put("few", "all", maxRunning=1)
    for name in ("a", "b", "c"):
        s.pacer.settle(candidate(name), Standing.WAITS)
    s.pacer.settle(candidate("x", "other"), Standing.WAITS)
    assert s.started == ["a", "x"]
    s.put("few", "all", maxRunning=2)
    assert s.started == ["a", "x", "b"]
    assert s.woken == ["b", "c"], "what waits there may wait for something else now"
    s.put("few", "all", maxRunning=0)
    assert s.started == ["a", "x", "b"], "what runs goes on"
    assert s.why("c") == "NamespaceLimitReached"
    s.put("few", "all", gone=True)
    assert s.started == ["a", "x", "b", "c"]


def test_a_namespace_is_paused_and_goes_on() -> None:
    s = Scene()
    s.annotate("upgrade")
    s.pacer.settle(candidate("a"), Standing.WAITS)
    s.pacer.settle(candidate("x", "other"), Standing.WAITS)
    assert (s.started, s.why("a")) == (["x"], "Paused")
    s.annotate("another reason")
    s.annotate(None)
    assert s.started == ["x", "a"]


def test_a_pause_ends_at_its_time() -> None:
    s = Scene()
    s.put("p", "all", paused={"reason": "r", "until": (NOW + timedelta(hours=3)).isoformat()})
    s.pacer.settle(candidate("a"), Standing.WAITS)
    for _ in range(3):
        assert s.started == []
        s.after(3600)
    assert s.started == ["a"]
    assert s.timers == []


def test_while_limits_can_t_be_computed_the_earlier_ones_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Scene()
    s.put("few", "all", maxRunning=0)
    errors: list[Exception] = []
    s.keeper.on_error = errors.append
    with monkeypatch.context() as broken:
        broken.setattr(limit_keeper, "compiled", lambda *_: 1 / 0)
        s.put("few", "all", maxRunning=1)
    assert [type(error) for error in errors] == [ZeroDivisionError]
    s.pacer.settle(candidate("a"), Standing.WAITS)
    assert s.started == []
    s.put("other", "all", maxRunning=5)
    assert s.started == ["a"], "the next change counts"


def test_a_new_leader_that_can_t_compute_limits_causes_no_second_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Scene()
    s.put("few", "all", rate="1/min", burst=2)
    s.after(300)
    for name in ("a", "b", "c"):
        s.pacer.settle(candidate(name), Standing.WAITS)
    assert s.started == ["a", "b"]
    with monkeypatch.context() as broken:
        broken.setattr(limit_keeper, "compiled", lambda *_: 1 / 0)
        s.pacer.reset()
        s.keeper.apply()
        for name in ("c", "d"):
            s.pacer.settle(candidate(name), Standing.WAITS)
        assert s.started == ["a", "b"]
        s.after(60)
        assert s.started == ["a", "b", "c"], "the earlier rate applies"


def test_what_changes_nothing_wakes_nobody() -> None:
    s = Scene(Limits(running=0))
    s.put("few", "all", maxRunning=1)
    s.pacer.settle(candidate("a"), Standing.WAITS)
    before = s.pacer.limits
    s.put("few", "all", maxRunning=1)
    s.put("later", "lane:pod", maxRunning=0)
    assert s.pacer.limits is before
    assert s.woken == []


def test_changes_of_a_pause_leave_one_timer() -> None:
    s = Scene()
    for day in range(2, 30):
        s.put("pause", "all", paused={"reason": "x", "until": (NOW + timedelta(days=day)).isoformat()})
    for _ in range(50):
        s.after(3700)
    assert len(s.timers) == 1


def test_changes_of_many_limits_leave_time_for_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.put("a", "all", maxRunning=1)
    times = iter([0.0, 0.5])
    monkeypatch.setattr(limit_keeper.time, "thread_time", lambda: next(times, 0.5))
    scene.put("a", "all", maxRunning=2)  # which takes half a second
    scene.store.on_limits()
    ((due, _),) = scene.timers
    assert due - scene.now == timedelta(seconds=0.5 / limit_keeper.SHARE_OF_APPLYING)
