"""An error in any decision ends its SpokeJob as `Undiagnosable`, and holds up no other.

The decisions are the functions of the core that the shell imports, and the methods of the core's classes whose objects
the shell keeps. The test finds them itself. Each raises an error whenever it is called about one SpokeJob, as a defect
that this SpokeJob's objects bring out would.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.operator.fake_client import Crash
from tests.unit.operator.simulation import ERROR_DELAY, Simulation, run
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs.contract.failed_decisions import REFUSED_TRIES, TRIES
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator import shell
from spoke_jobs_operator.core.admission.admit import Usage
from spoke_jobs_operator.core.admission.turns import Turns
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.shell.api.operator_client import Client, Kind
from spoke_jobs_operator.shell.reconciling import controller
from spoke_jobs_operator.shell.reporting.limit_reporter import LimitReporter
from spoke_jobs_operator.shell.reporting.publishing import Publisher

GOOD = "report-8-0a1b2c3e"
SPOKEJOBS = {"retry": {"budget": {"error": 1, "infrastructure": 1}}, "queue": "exports", "locksQueue": True}
ELSEWHERE = {
    "leadership": "no SpokeJob: an error ends the process, which releases the Lease",
    "operator_process": "the settings, at the start",
    "operator_metrics": "the settings, at the start",
    "event_recorder": "only the Event is lost",
}
"""Modules whose decisions concern no SpokeJob, or nothing but a report."""
OFFENDERS = 4077
"""The offender's organization."""
MOST_PENDING = 20
OF_ALL = "of a namespace or of all SpokeJobs: its caller goes on, and counts the error"
OF_LIMITS = "of a SpokeLimit, or of rates as an iterator"
EARLIER = "what an earlier leader held: the error is counted, and the hold is not continued"
OF_STANDBY = "only of the lane standby; its caller, a method of `Holds`, is reached"
NOT_ABOUT_ONE = {
    ("DependencyHolds", "of"): OF_ALL,
    ("DependencyHolds", "resume"): EARLIER,
    ("DependencyHolds", "runs"): "only of a pod that is seen running; its caller, `Holds.observe`, is reached",
    ("DependencyHolds", "tick"): OF_ALL,
    ("DependencyHolds", "why"): OF_ALL,
    ("FreeStandby", "any_in"): OF_ALL,
    ("FreeStandby", "has"): OF_STANDBY,
    ("FreeStandby", "set_free"): OF_ALL,
    ("FreeStandby", "take"): OF_STANDBY,
    ("Holds", "published"): OF_ALL,
    ("Holds", "resume"): EARLIER,
    ("Holds", "closed_in"): OF_ALL,
    ("Holds", "tick"): OF_ALL,
    ("RefusalHolds", "published"): OF_ALL,
    ("RefusalHolds", "resume"): EARLIER,
    ("RefusalHolds", "tick"): OF_ALL,
    ("RejectionHolds", "published"): OF_ALL,
    ("Room", "closed_in"): OF_ALL,
    ("Room", "published"): OF_ALL,
    ("Room", "tick"): OF_ALL,
    ("StartHolds", "published"): OF_ALL,
    ("StartHolds", "tick"): OF_ALL,
    ("StartRates", "begin"): OF_LIMITS,
    ("StartRates", "full_at"): OF_LIMITS,
    ("StartRates", "take"): OF_LIMITS,
    ("StartRates", "tick"): OF_LIMITS,
    ("StartRates", "tokens"): OF_LIMITS,
    ("StartRates", "why"): OF_LIMITS,
    ("Turns", "copy"): OF_ALL,
    ("Turns", "of_namespace"): OF_ALL,
    ("Unfinished", "count"): OF_ALL,
    ("_Bounded", "count"): OF_ALL,
    ("_Bounded", "is_reached"): OF_ALL,
    ("Unfinished", "without"): "only after an error of another method",
}
"""Methods that are not called about one SpokeJob, or not here, and why that is enough."""
QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9'
DENIED = 'admission webhook "policy" denied the request: no'
REFUSED_FIRST = {"job_refused": (403, QUOTA), "rejected": (422, DENIED), "waits": (422, DENIED)}
"""Methods that are called only if the API server refuses the offender's Job, and its answer."""

STATE = (Usage(holds=Holds(MOST_PENDING, datetime(2026, 3, 1, tzinfo=UTC))), Turns())
"""What the shell keeps of the core's."""


def kept(item: object, found: dict[str, type]) -> dict[str, type]:
    """The classes of an object and of those that it holds, as far as they are the core's, by name."""
    if type(item).__module__.startswith("spoke_jobs_operator.core"):
        found[type(item).__name__] = type(item)
        for name in getattr(type(item), "__slots__", None) or vars(item):
            kept(getattr(item, name), found)
    return found


def methods() -> list[tuple[str, str]]:
    """Class and name of each public method by which the shell, or another such method, changes or asks that state."""
    return sorted(
        (holder, name)
        for state in STATE
        for holder, class_ in kept(state, {}).items()
        for name, item in vars(class_).items()
        if inspect.isfunction(item) and not name.startswith("_")
    )


def decisions() -> list[tuple[str, str]]:
    """Module and name of each decision, as the shell knows it."""
    found = []
    for info in pkgutil.walk_packages(shell.__path__, f"{shell.__name__}."):
        module = importlib.import_module(info.name)
        for name, item in vars(module).items():
            if inspect.isfunction(item) and item.__module__.startswith("spoke_jobs_operator.core"):
                found.append((info.name.removeprefix(f"{shell.__name__}."), name))
    return sorted(item for item in found if item[0].rpartition(".")[2] not in ELSEWHERE)


class Defect(Exception):
    """The error that is injected. No code knows it."""


class RealQueue(Simulation):
    """Retries after every error, as the work queue does, and reports as the process does."""

    def work(self) -> None:
        self._ripen()
        if not self.queue.ready:
            return
        key = self.queue.ready.pop(0)
        try:
            run(self.controller.process(key))
        except Crash:
            raise
        except Exception:
            self.queue.add_after(key, ERROR_DELAY)

    def report(self) -> None:
        """What the process does besides: publish, report limits, answer a scrape. Each goes on after an error."""

        async def nothing(*_: Any) -> dict[str, Any]:
            return {}

        client = cast(Client, SimpleNamespace(publish=nothing, apply_limit_status=nothing))
        clock = lambda: self.world.now  # noqa: E731
        self.metrics.jobs.watch(self.store, self.pacer, lambda: True, clock)
        for part in (
            lambda: run(Publisher(client, self.store, self.pacer, "me", clock).publish()),
            lambda: run(LimitReporter(client, self.store, self.pacer, clock).report()),
            lambda: list(self.metrics.registry.collect()),
        ):
            try:
                part()
            except Defect:
                self.escaped += 1

    escaped = 0


def about(name: str, *values: object) -> bool:
    """Whether the values mention the SpokeJob."""
    return any(name in repr(list(value) if isinstance(value, (set, frozenset)) else value) for value in values)


class Broken:
    """A function that raises an error if it is called about the offender."""

    def __init__(self, holder: Any, name: str, monkeypatch: pytest.MonkeyPatch, marks: tuple[str, ...]) -> None:
        self.raised = 0
        real: Callable[..., Any] = getattr(holder, name)

        def broken(*args: Any, **options: Any) -> Any:
            values = args[1:] if inspect.isclass(holder) else args
            if any(about(mark, *values, *options.values()) for mark in marks):
                self.raised += 1
                raise Defect(NAME)
            return real(*args, **options)

        monkeypatch.setattr(holder, name, broken)


def run_both(prepare: Callable[[World], None] = lambda _world: None) -> RealQueue:
    """Run the offender and a good SpokeJob, with one place for both, until both have ended or for half a minute."""
    world = World(**SPOKEJOBS, organization=OFFENDERS, podTemplate="offenders", jobType="offend")
    world.put_template(name="offenders")
    world.put_limit("all", scope="all", maxRunning=1, maxUnfinished=5)
    world.now += world.now.resolution
    world.put_spokejob(GOOD, **SPOKEJOBS | {"uid": "0a1b2c3e-0000-4000-8000-000000000000", "requestId": 8})
    prepare(world)
    s = RealQueue(world, limits=Limits(running=1), max_pending=MOST_PENDING)
    s.settle()
    for _ in range(30):
        s.report()
        s.cluster(0)
        s.pass_time(ERROR_DELAY)
        ended = [item.get("status", {}).get("outcome") for item in world.objects[Kind.SPOKEJOB].values()]
        if set(ended) <= {"Failed", "Succeeded"}:
            break
    return s


def check_ends(s: RealQueue, raised: int, *, ends: bool) -> None:
    """Check that the good SpokeJob has succeeded, and how the other one has ended, whose place is free."""
    good, offender = s.world.objects[Kind.SPOKEJOB][GOOD].get("status", {}), s.world.status
    assert good.get("outcome") == "Succeeded", "the other SpokeJob goes on"
    assert not s.pacer.has_place(Key(NAMESPACE, NAME)), "its place is released"
    assert s.pacer.usage.total == 0, "each place is released once"
    if ends:
        assert offender["outcome"] in ("Failed", "Succeeded")
    if offender.get("cause") == "Undiagnosable":
        assert s.metrics.registry.get_sample_value("spoke_operator_undiagnosable_total") == 1
        assert raised >= TRIES
        assert "Defect in test_undiagnosable.py" in offender["message"]
        assert NAME not in offender["message"], "the error's own text is not shown"
        assert [job for job in s.world.live_jobs() if NAME in job["metadata"]["name"]] == []


@pytest.mark.parametrize(("module", "name"), decisions())
def test_an_error_in_a_decision_ends_its_spokejob_and_holds_up_no_other(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(importlib.import_module(f"{shell.__name__}.{module}"), name, monkeypatch, (NAME,))
    s = run_both()
    # What can't be read is as if it did not exist.
    check_ends(s, broken.raised, ends=bool(broken.raised) and not name.startswith("read_"))


@pytest.mark.parametrize(("holder", "name"), [item for item in methods() if item not in NOT_ABOUT_ONE])
def test_an_error_in_the_state_of_admission_ends_its_spokejob_and_holds_up_no_other(
    holder: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = {key: value for state in STATE for key, value in kept(state, {}).items()}
    broken = Broken(classes[holder], name, monkeypatch, (NAME, "offenders", f"organization={OFFENDERS}"))

    def refuse(world: World) -> None:
        if name in REFUSED_FIRST:
            world.refuse_jobs, world.refused_type = REFUSED_FIRST[name], "offend"

    s = run_both(refuse)
    assert broken.raised, "it is called about the offender"
    check_ends(s, broken.raised, ends=True)


def ends_after(errors: list[Exception | None], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The cause with which a SpokeJob ends whose decisions raise these errors one after another, if it has ended."""
    real = controller.reconcile

    def sometimes(*args: Any) -> Any:
        if errors and (error := errors.pop(0)) is not None:
            raise error
        return real(*args)

    monkeypatch.setattr(controller, "reconcile", sometimes)
    s = RealQueue(World(suspend=True))
    while errors:
        s.pass_time(ERROR_DELAY)
        s.queue.add(Key(NAMESPACE, NAME))
    s.settle()
    return s.world.status.get("cause")


@pytest.mark.parametrize(
    ("errors", "ends"),
    [
        pytest.param([Defect()] * TRIES, True, id="in a row"),
        pytest.param([*[Defect()] * (TRIES - 1), None] * 3, False, id="with successes in between"),
        pytest.param([api_error(422, "Invalid", "x")] * TRIES, False, id="a refusal may be taken back"),
        pytest.param([api_error(422, "Invalid", "x")] * REFUSED_TRIES, True, id="refused for longer"),
        pytest.param([api_error(500, "InternalError", "x")] * 50, False, id="an outage"),
    ],
)
def test_a_spokejob_is_given_up_after_errors_that_are_its_own(
    errors: list[Exception | None], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (ends_after(list(errors), monkeypatch) == "Undiagnosable") == ends


def test_a_spokejob_that_is_given_up_has_no_attempt_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(**SPOKEJOBS)
    s = RealQueue(world)
    s.settle()
    assert len(world.live_jobs()) == 1

    def broken(*_args: Any, **_options: Any) -> Any:
        raise Defect

    monkeypatch.setattr(controller, "reconcile", broken)
    for _ in range(2 * TRIES):
        s.pass_time(ERROR_DELAY)
        s.queue.add(Key(NAMESPACE, NAME))
        s.settle()
    assert world.status["cause"] == "Undiagnosable"
    assert world.live_jobs() == []


def test_the_decisions_are_found() -> None:
    found = decisions()
    assert ("reconciling.controller", "reconcile") in found
    assert ("admission.pacing", "admit") in found
    assert len(found) > 20
    assert ("Usage", "remove") in methods()
    assert set(NOT_ABOUT_ONE) <= set(methods())
