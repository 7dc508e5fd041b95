"""Tasks in the cluster: who may send, and replicas that are killed, rolled and cut off while a pod sends."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import delete, func, select
from tests.leftovers import RUN
from tests.waiting import eventually, patient

from spoke_jobs.tasks.protocol import messages

from . import e2e_jobs
from .conftest import Cluster, Images, Object, Product, installed

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

REPLICAS = 2
CONCURRENCY = 16
FRIEND = f"friend-{RUN[:8]}"
"""A service account that the values name. Another namespace has one of that name, which another run may use as well."""
SEND = """
import sys, time
import e2e_jobs
from sqlalchemy import func, select
from spoke_jobs import dispatch_task
count = int(sys.argv[1])
for number in range(count):
    dispatch_task("e2e_counts", number)
seen = select(func.count(e2e_jobs.task_run.c.number.distinct()))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    with e2e_jobs.engine().connect() as connection:
        if connection.scalar(seen) == count:
            break
    time.sleep(0.2)
"""
"""A process of the application, which goes on for longer than its tasks take: one that ends waits ten seconds for them,
less than it takes to give a silent replica up."""


@dataclass(frozen=True)
class Run:
    """One run of a task that came to its end."""

    number: int
    pod: str
    ran_at: datetime


@pytest.fixture(scope="module")
def place(cluster: Cluster, images: Images, texting_chart: str) -> Iterator[Product]:
    """The application with two replicas of its task deployment, which go by tokens. No operator: tasks need none."""
    namespace = f"e2e-tasks-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    tasks = {"replicas": REPLICAS, "tokens": {"enabled": True, "callers": [f"{namespace}/{FRIEND}"]}}
    with installed(cluster, texting_chart, images.application, namespace, "e2e_jobs", tasks) as product:
        product.create_tables(e2e_jobs.metadata)
        yield product
    cluster.remove(namespace)


@pytest.fixture(autouse=True)
def _no_runs(place: Product) -> None:
    with place.engine.begin() as connection:
        connection.execute(delete(e2e_jobs.task_run))


@contextmanager
def sending(place: Product, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process in the web pod that dispatches so many tasks, and ends when they are delivered."""
    command = ["kubectl", "--namespace", place.namespace, "exec", "deployment/texting", "--", "python", "-c", SEND]
    process = subprocess.Popen(
        [*command, str(count), str(patient(240))],
        env=place.cluster.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        _, said = process.communicate(timeout=patient(300))
        print(said)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.communicate()


def runs(place: Product) -> list[Run]:
    with place.engine.connect() as connection:
        table = e2e_jobs.task_run
        rows = connection.execute(select(table.c.number, table.c.pod, table.c.ran_at)).all()
    return [Run(*row) for row in rows]


def ran(place: Product) -> int:
    with place.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(e2e_jobs.task_run)) or 0


def database_time(place: Product) -> datetime:
    with place.engine.connect() as connection:
        now: datetime = connection.scalar(select(func.clock_timestamp()))
    return now


def repeated(found: list[Run]) -> dict[int, int]:
    """How often too many, by number."""
    counted = Counter(run.number for run in found)
    return {number: count - 1 for number, count in counted.items() if count > 1}


def replicas(place: Product) -> list[Object]:
    """Pods of the task deployment whose container runs."""
    found = place.get("pods", "--selector=app.kubernetes.io/component=tasks")
    assert found
    return [
        pod
        for pod in found["items"]
        if not pod["metadata"].get("deletionTimestamp")
        and any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))
    ]


def on_node(place: Product, pod: Object, *command: str) -> str:
    """What a command on the pod's node prints."""
    return place.cluster.run("docker", "exec", pod["spec"]["nodeName"], *command).strip()


def pid_of(place: Product, pod: Object) -> str:
    """The pod's first process, as its node numbers it."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    inspect = ("crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
    return on_node(place, pod, *inspect)


def token(place: Product, account: str, audience: str = "spoke-tasks", namespace: str = "") -> str:
    """A token of a service account, which is made if there is none."""
    where = ("--namespace", namespace or place.namespace)
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
    place.cluster.kubectl(*where, "apply", "--filename=-", stdin=json.dumps(body))
    return place.cluster.kubectl(*where, "create", "token", account, f"--audience={audience}", "--duration=10m").strip()


def shown(place: Product, credentials: str | None) -> int:
    """How a request with these credentials is answered."""
    headers = {"Content-Type": messages.NDJSON} | ({"Authorization": f"Bearer {credentials}"} if credentials else {})
    body = messages.task_line(messages.Task(uuid.uuid4().hex, "e2e_counts", "-1"))
    return httpx.post(
        f"{place.tasks_url}{messages.PATH}", content=body, headers=headers, timeout=patient(60)
    ).status_code


def test_only_accounts_of_the_list_may_send_and_only_by_tokens_of_the_audience(place: Product) -> None:
    gone = token(place, "gone")
    place.kubectl("delete", "serviceaccount", "gone")
    known = {"the application's": token(place, "texting-runner"), "of the values": token(place, FRIEND)}
    refused = {
        "none": (None, 401),
        "the key of another release": ("planted-key-0123456789", 401),
        "another audience": (token(place, "texting-runner", "https://elsewhere.example"), 401),
        "of an account that was deleted": (gone, 401),
        "altered": (known["of the values"][:-6] + "AAAAAA", 401),
        "another account": (token(place, "stranger"), 403),
        "of that name in another namespace": (token(place, FRIEND, namespace="default"), 403),
    }
    assert {name: shown(place, item) for name, item in known.items()} == dict.fromkeys(known, 200)
    answers = {name: shown(place, item) for name, (item, _) in refused.items()}
    place.cluster.kubectl("--namespace", "default", "delete", "serviceaccount", FRIEND)
    assert answers == {name: status for name, (_, status) in refused.items()}
    counts = httpx.get(f"{place.tasks_url}/metrics", timeout=patient(60)).text
    for status, reason in ((401, "none"), (401, "token"), (403, "account")):
        label = f'{{reason="{reason}",status="{status}"}}'
        name = re.escape(f"spoke_tasks_requests_refused_total{label}")
        (counted,) = re.findall(rf"^{name} (\d+)\.0$", counts, re.MULTILINE)
        assert int(counted) > 0, f"{label} is counted"
    log = place.kubectl("logs", "--selector=app.kubernetes.io/component=tasks", "--tail=-1")
    secrets = [*known.values(), *(item for item, _ in refused.values() if item)]
    assert not [item for item in secrets if item in log or item.rpartition(".")[2] in log], "no token is logged"


def test_replicas_killed_and_rolled_lose_nothing_and_repeat_little(place: Product) -> None:
    count, kills, rolled = 10_000, 0, False
    stop = threading.Event()
    with sending(place, count) as process:
        eventually(lambda: ran(place) > 100, "tasks to run")
        while process.poll() is None and kills < 8:
            alive = replicas(place)
            if alive:
                # Killed from its node: from within its container the first process can't be.
                on_node(place, alive[0], "kill", "-KILL", pid_of(place, alive[0]))
                kills += 1
            if kills >= 2 and not rolled:
                place.kubectl("rollout", "restart", "deployment/texting-tasks")
                rolled = True
            stop.wait(5)  # this pace is the test
    found = runs(place)
    assert {run.number for run in found} == set(range(count))
    too_many = sum(repeated(found).values())
    print(f"{kills} kills: {too_many} of {count} tasks ran again")
    assert kills >= 2
    assert rolled
    assert too_many <= kills * REPLICAS * CONCURRENCY


def test_a_replica_cut_off_costs_only_what_it_had_accepted(place: Product) -> None:
    place.kubectl("rollout", "status", "deployment/texting-tasks", f"--timeout={patient(300):.0f}s")
    count = 10_000
    (sender,) = (place.get("pods", "--selector=app.kubernetes.io/component=web") or {})["items"]
    cut = replicas(place)[0]
    address, name = cut["status"]["podIP"], cut["metadata"]["name"]
    inside = f"nsenter --target {pid_of(place, sender)} --net iptables"
    rules = (f"{inside} --insert {end} {address} --jump DROP" for end in ("INPUT --source", "OUTPUT --destination"))
    cut_off = " && ".join(rules)
    try:
        with sending(place, count):
            eventually(lambda: ran(place) > 100, "tasks to run")
            before = database_time(place) - timedelta(seconds=1)  # acknowledgements may be under way when it is cut off
            on_node(place, sender, "sh", "-c", cut_off)
            assert ran(place) < count, "it was cut off when all was over"
        found = runs(place)
        assert {run.number for run in found} == set(range(count))
        unheard = {run.number for run in found if run.pod == name and run.ran_at >= before}
        print(f"{len(repeated(found))} of {count} ran again; the replica cut off had {len(unheard)} in hand")
        assert unheard, "it was cut off when nothing was under way"
        assert set(repeated(found)) <= unheard
        assert max(repeated(found).values(), default=0) <= 1
    finally:
        for chain in ("INPUT", "OUTPUT"):
            on_node(place, sender, *inside.split(), "--flush", chain)
