"""An operator with standby pods in the model of a cluster."""

from __future__ import annotations

from typing import Any

from tests.unit.operator.fake_standby import FakeStandby
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs_operator.shell.api.operator_client import Kind

WANTS = {"jobs.spoke.dev/standby": "1-3"}


def world_without_jobs(bounds: str = "1-3", **spec: Any) -> World:
    """A PodTemplate that wants standby pods, and no SpokeJob yet."""
    world = World(**({"lane": "standby"} | spec))
    world.put_template(annotations={"jobs.spoke.dev/standby": bounds})
    world.delete(Kind.SPOKEJOB, NAME)
    return world


def scene(bounds: str = "1-3", **spec: Any) -> Simulation:
    """An operator with a free standby pod, and no SpokeJob yet."""
    world = world_without_jobs(bounds, **spec)
    s = Simulation(world, standby=FakeStandby(world))
    warm(s)
    return s


def warm(s: Simulation) -> None:
    """Let the standby pods start, and the operator ask them."""
    for _ in range(2):
        s.cluster()
        s.pass_time(1)


def dispatch(s: Simulation, name: str = NAME, **spec: Any) -> None:
    s.world.put_spokejob(name, **({"lane": "standby"} | spec))
    s.settle()


def finish(s: Simulation, code: int = 0) -> None:
    for _ in range(4):
        s.cluster(code)
        s.pass_time(2)


def pods(s: Simulation) -> list[str]:
    """The SpokeJobs of the pods that live; empty of a free one."""
    return sorted(pod["metadata"]["labels"]["jobs.spoke.dev/spokejob"] for pod in s.world.live_pods())


def status_of(s: Simulation, name: str = NAME) -> dict[str, Any]:
    status: dict[str, Any] = s.world.objects[Kind.SPOKEJOB][name].get("status", {})
    return status


def attempts(s: Simulation, result: str) -> float:
    labels = {"namespace": NAMESPACE, "result": result}
    return s.metrics.registry.get_sample_value("spoke_operator_standby_attempts_total", labels) or 0.0
