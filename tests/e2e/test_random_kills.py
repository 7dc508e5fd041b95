"""Random kills of everything of ours while jobs of the three lanes run: none is lost, none takes effect twice.

Kills at each step of one part: tests/integration/sync/test_kills.py, tests/integration/worker/test_killed_steps.py,
tests/unit/operator/test_standby_machine.py.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from sqlalchemy import func, select
from tests.waiting import eventually, patient, pause

from spoke_jobs import registry
from spoke_jobs.contract.executors import Lane
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import JobData, JobState

from . import e2e_jobs
from .conftest import KEEP, Cluster, Images, Object, Product, image_values, installed
from .random_kills import JOBS, KILLS, EndedJob, Evidence, LedgerAttempt, Verdict, Victim, kills_due, shuffled
from .test_standby import FREE
from .test_tasks import on_node, pid_of

# It needs the whole machine: 500 pods, and a new process for each kill.
pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(5400)]

SEED = 18
JOB = "e2e_writes_midway"
TEMPLATE, FEWEST_FREE, MOST_FREE = "waiting", 2, 5
WORKER = "lane"
OF_TYPE = f"jobs.spoke.dev/type={JOB}"
OURS = "jobs.spoke.dev/spokejob"
"""A label of all Jobs and pods of the operator. Of a standby pod without an attempt it is empty."""
AT_ONCE = 40
"""How many jobs are unfinished at a time."""
FEW = 16
"""The same while a kill is due."""
LEASE = [{"name": "SPOKE_LEASE_SECONDS", "value": "20"}]
ENDS = ("Succeeded", "Failed")
"""What a SpokeJob says in the end, of the cluster and of the ledger."""
MOST_SECONDS = 2700
"""Within this time, all jobs have ended."""
BACK_OFF_SECONDS = 420
"""Within this time there are standby pods again: the operator waits for up to 300 s after some that ended early."""
MOST_RESTARTS = 2
"""The kubelet waits ever longer before it starts a container again. A new pod starts at once."""
COMPONENT = "app.kubernetes.io/component"
SELECTORS = {
    Victim.OPERATOR: f"{COMPONENT}=operator",
    Victim.SYNC: f"{COMPONENT}=sync",
    Victim.WORKER: f"{COMPONENT}=worker-{WORKER}",
    Victim.CHILD: f"{COMPONENT}=worker-{WORKER}",
    Victim.FREE: FREE,
    Victim.ATTEMPT: OF_TYPE,
}


@pytest.fixture(scope="module")
def place(cluster: Cluster, images: Images, texting_chart: str) -> Iterator[Product]:
    """Both charts in a namespace, with workers and standby pods, and with little that is kept after its end."""
    namespace = f"e2e-kills-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    operator: Object = {"image": image_values(images.operator), "watchNamespaces": [namespace]}
    operator["operator"] = {"standbyPods": True, "maxRunning": 16}
    operator["operator"] |= {"jobRetentionSeconds": 20, "failedJobRetentionSeconds": 20}
    operator["resources"] = {"requests": {"cpu": "50m"}}
    cluster.install("operator", "charts/spoke-operator", namespace, operator)
    pods = {"env": LEASE, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    worker: Object = {"lane": "worker", "replicas": 2, "processes": 4, "graceSeconds": 5, "env": LEASE}
    worker["resources"] = {"requests": {"cpu": "50m"}, "limits": {"memory": "1536Mi"}}
    common = {
        "podTemplates": {"default": {}, TEMPLATE: {"standby": f"{FEWEST_FREE}-{MOST_FREE}"}},
        "workers": {WORKER: worker},
    }
    database = {"args": ["-c", "max_connections=300"]}
    application = images.application
    with installed(
        cluster, texting_chart, application, namespace, "e2e_jobs", pods=pods, common=common, database=database
    ) as product:
        product.create_tables(e2e_jobs.metadata)
        yield product
    if not KEEP:
        cluster.remove(namespace)


def of_kind(place: Product, kind: Victim) -> list[Object]:
    """The pods of a kind whose container runs."""
    found = place.get("pods", "--selector", SELECTORS[kind], "--field-selector=status.phase=Running")
    return [
        pod
        for pod in (found or {"items": []})["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and any("running" in item["state"] for item in pod["status"].get("containerStatuses", ()))
    ]


@dataclass
class Killer:
    """Kills what the plan says."""

    place: Product
    chance: random.Random
    plan: list[Victim]
    """Whom to kill next."""
    killed: Counter[str] = field(default_factory=Counter)
    missed: str = ""
    """Why the last try killed nothing."""

    def kill(self) -> bool:
        """Kill the next of the plan, or the first after it of whose kind there is one; return whether there was one."""
        for kind in dict.fromkeys(self.plan):
            if how := self._try(kind):
                self.plan.remove(kind)
                self.killed[f"{kind}, {how}"] += 1
                return True
        return False

    def _try(self, kind: Victim) -> str:
        try:
            pods = of_kind(self.place, kind)
            if not pods:
                self.missed = f"{kind} does not run"
                return ""
            pod = self.chance.choice(pods)
            if kind is Victim.FREE:  # the operator waits ever longer after those that end before they are ready
                pod = min(pods, key=lambda item: str(item["metadata"]["creationTimestamp"]))
            return self._end(kind, pod)
        except AssertionError as error:  # a command failed: the victim has ended meanwhile
            self.missed = str(error)
            return ""

    def _end(self, kind: Victim, pod: Object) -> str:
        if kind is Victim.CHILD:
            children = on_node(self.place, pod, "pgrep", "--parent", self._process(pod)).split()
            on_node(self.place, pod, "kill", "-KILL", self.chance.choice(children))
            return "killed"
        restarts = pod["status"]["containerStatuses"][0]["restartCount"]
        if restarts < MOST_RESTARTS and self.chance.random() < 0.5:
            # From its node: from within its container the first process can't be killed.
            on_node(self.place, pod, "kill", "-KILL", self._process(pod))
            return "killed"
        name: str = pod["metadata"]["name"]
        self.place.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        return "deleted"

    def _process(self, pod: Object) -> str:
        """The pod's first process, as its node numbers it."""
        found = pid_of(self.place, pod)
        assert found.isdigit(), found
        assert int(found) > 1, "its container has ended"  # otherwise the node's own processes would be killed
        return found


@dataclass
class Watch:
    """Collects what becomes of the jobs."""

    place: Product
    seen: Evidence = field(default_factory=Evidence)

    def look(self) -> None:
        """Note the jobs that have ended since the last look, with their attempts."""
        unfinished = self.seen.unfinished()
        row, attempt = job_request.c, job_attempt.c
        final = [state.value for state in JobState if state.final]
        ended = select(row.id, row.state, row.cause, row.runner).where(row.id.in_(unfinished), row.state.in_(final))
        with self.place.engine.connect() as connection:
            jobs = [EndedJob(*item) for item in connection.execute(ended)]
            attempts = select(
                attempt.job_id, attempt.run, attempt.number, attempt.state, attempt.cause, attempt.runner
            ).where(attempt.job_id.in_([job.id for job in jobs]))
            self.seen.attempts += [LedgerAttempt(*item) for item in connection.execute(attempts)]
        self.seen.jobs |= {job.id: job for job in jobs}

    def unsettled(self) -> list[str]:
        """Note the SpokeJobs; return the names of those that do not say yet how their jobs ended."""
        found = self.place.get("spokejobs", "--selector", OF_TYPE) or {"items": []}
        self.seen.spokejobs = {item["metadata"]["name"]: item for item in found["items"]}
        return [
            name
            for name, item in self.seen.spokejobs.items()
            if item.get("status", {}).get("outcome") not in ENDS or item["status"].get("ledger") not in ENDS
        ]

    def effects(self) -> None:
        """Note what the jobs have left."""
        counts = select(e2e_jobs.effect.c.job_id, func.count()).group_by(e2e_jobs.effect.c.job_id)
        with self.place.engine.connect() as connection:
            self.seen.effects = {job_id: count for job_id, count in connection.execute(counts)}  # noqa: C416


def objects(place: Product, *, free: bool) -> list[str]:
    """The Jobs and pods of attempts; or those of standby pods without an attempt."""
    names = []
    for kind in ("jobs", "pods"):
        found = place.get(kind, "--selector", OURS) or {"items": []}
        names += [
            f"{kind}/{item['metadata']['name']}"
            for item in found["items"]
            if bool(item["metadata"]["labels"][OURS]) is not free
        ]
    return names


def dispatch_and_kill(place: Product, watch: Watch, killer: Killer, chance: random.Random) -> None:
    """Dispatch all jobs, few at a time, and carry out all kills meanwhile. Return once all jobs have ended."""
    lanes, kills = shuffled(JOBS, chance), len(killer.plan)
    seconds, jobs = [chance.uniform(0.2, 3.0) for _ in lanes], len(lanes)
    assert (jobs, kills) == (2000, 200)
    began = time.monotonic()
    with closing(place.runner(registry.default)) as runner:
        while lanes or watch.seen.unfinished():
            watch.look()
            unfinished = len(watch.seen.unfinished())
            late = time.monotonic() - began > patient(MOST_SECONDS)
            assert not late, (watch.seen.unfinished(), len(lanes), killer.plan, killer.missed)
            is_due = kills - len(killer.plan) < kills_due(jobs - len(lanes), jobs, kills, 2 * AT_ONCE)
            for _ in range(min(len(lanes), (FEW if is_due else AT_ONCE) - unfinished)):
                lane = lanes.pop()
                data = JobData(
                    JOB,
                    e2e_jobs.Slow(seconds=seconds.pop()),
                    lane=lane.value,
                    pod_template=TEMPLATE if lane is Lane.STANDBY else "default",
                )
                watch.seen.dispatched[runner.dispatch_job(data).id] = lane
            if not (is_due and killer.kill()):
                pause(began, 0.1, 0.25)
    # What needs no job can be killed now.
    eventually(
        lambda: not killer.plan or (killer.kill() and not killer.plan),
        "all kills",
        BACK_OFF_SECONDS,
        state=lambda: (killer.plan, killer.missed),
        every=1,
    )
    print(f"FIGURE {killer.killed.total()} kills during {jobs} jobs, within {time.monotonic() - began:.0f} s")
    for what, count in sorted(killer.killed.items()):
        print(f"  {count} x {what}")


def test_200_random_kills_during_2000_jobs_lose_none_and_double_none(place: Product) -> None:
    chance = random.Random(SEED)
    watch, killer = Watch(place), Killer(place, chance, shuffled(KILLS, chance))
    eventually(lambda: of_kind(place, Victim.FREE), "a standby pod that waits", 120)
    dispatch_and_kill(place, watch, killer, chance)

    eventually(lambda: not watch.unsettled(), "no SpokeJob is left without an end", 120, state=watch.unsettled, every=1)
    watch.effects()
    seen = watch.seen
    failures = seen.failures()
    for (lane, cause), count in sorted(failures.items()):
        print(f"  {count} x {cause} in the lane {lane}")
    print(f"  {seen.in_standby_pods()} attempts in standby pods, {seen.moved()} jobs moved to pods")
    verdict = seen.verdict()
    assert verdict == Verdict(), verdict
    assert failures.total() > sum(KILLS.values()) / 4, "the kills hit attempts"
    assert seen.in_standby_pods() > 0
    assert seen.moved() > 0

    def left(*, free: bool) -> list[str]:
        return objects(place, free=free)

    eventually(lambda: not left(free=False), "no Job or pod of an attempt is left", 120, state=lambda: left(free=False))
    in_bounds = range(FEWEST_FREE, MOST_FREE + 1)
    eventually(
        lambda: len(of_kind(place, Victim.FREE)) in in_bounds, "as many standby pods as are asked for", BACK_OFF_SECONDS
    )
    place.kubectl("annotate", "podtemplate", TEMPLATE, "jobs.spoke.dev/standby-")
    # Its owner is still there, so the operator must know each of them.
    eventually(lambda: not left(free=True), "no standby pod is leaked", 120, state=lambda: left(free=True))
