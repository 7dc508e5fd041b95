"""Many SpokeJobs while an admission webhook is away: few Jobs are tried, all say why they wait, none is charged."""

from __future__ import annotations

from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.test_quota import admitted, nobody_failed
from tests.unit.operator.test_room import causes, crowd, goes_on, until_done

from spoke_jobs_operator.core.reporting.published_state import report
from spoke_jobs_operator.shell.api.operator_client import Kind

AWAY = 'Internal error occurred: failed calling webhook "mutate.example.org": connection refused'


def without_webhook(count: int) -> Crowd:
    world = crowd(count, room=1000)
    world.refuse_jobs = (500, AWAY)
    return world


def test_pods_that_it_prevents_hold_their_template_and_no_other_one() -> None:
    world = crowd(100, room=1000)
    s = Simulation(world, max_pending=6)
    s.settle()
    for _ in range(30):
        s.pass_time(50)
        for job in [job for job in world.live_jobs() if not job.get("status", {}).get("started")]:
            world.fails_to_create(job, f"Error creating: {AWAY}")
        s.settle()
    assert len(world.created) <= 16
    s.compare()
    s.pass_time(1)
    assert set(causes(world).values()) == {"WebhookAway"}
    body = world.objects[Kind.TEMPLATE]["default"]
    other = {**body, "metadata": {**body["metadata"], "name": "other", "uid": "other"}}
    world._store(Kind.TEMPLATE, other)
    world.put_spokejob("elsewhere", podTemplate="other", priority=-1)
    s.settle()
    s.cluster()
    assert world.objects[Kind.SPOKEJOB]["elsewhere"]["status"]["outcome"] == "Running"
    until_done(world, 100, lambda: goes_on(s, 5))
    nobody_failed(world)


def test_after_a_day_each_job_ends_by_its_own_wait_and_names_it() -> None:
    world = without_webhook(8)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.pass_time(12 * 3600)
    world.put_spokejob("later", retry={"backoffSeconds": 1, "jitter": 0})
    s.settle()
    s.restart()
    s.pass_time(12 * 3600 + 60)
    ended = {name for name, cause in causes(world).items() if cause == "StartTimeout"}
    assert ended == {f"job-{number:04}" for number in range(8)}
    finished = next(item for item in world.spokejobs()[0]["status"]["conditions"] if item["type"] == "Finished")
    assert AWAY in finished["message"]
    assert finished["message"].endswith("then `spoke-jobs retry 7`.")
    assert causes(world)["later"] == "WebhookAway"
    s.pass_time(12 * 3600)
    assert causes(world)["later"] == "StartTimeout"


def test_a_new_leader_goes_on_with_the_hold_and_its_text() -> None:
    world = without_webhook(30)
    s = Simulation(world, max_pending=4)
    s.settle()
    s.pass_time(600)
    tried = world.jobs_refused
    s.restart()
    s.settle()
    assert world.jobs_refused - tried <= 1
    world.put_spokejob("later")
    s.settle()
    assert admitted(world.objects[Kind.SPOKEJOB]["later"]) == AWAY
    state = report("jobs", s.pacer.limits, s.pacer.usage, (), s.store.unfinished())
    (hold,) = state.to_json()["holds"]
    assert (hold["reason"], hold["template"], hold["refused"]) == ("WebhookAway", "default", 0)
