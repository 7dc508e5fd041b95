"""Maintenance and outages: sync, operator, rights, database, nodes. Each concerns the whole namespace."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.engine import make_url
from tests.e2e.conftest import CLUSTER, NODE_THAT_STOPS, PATIENT, Object
from tests.exclusive import exclusive
from tests.waiting import eventually

from spoke_jobs import registry
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest

from .play import Play
from .pods import nothing
from .situation import situation

OPERATOR = "spoke-operator"
OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
)
IMPATIENT: Object = {"start_timeout_seconds": 20}
"""So that pods give up the database within the time of a recording. By default they wait ten minutes."""


@situation("sync at 0 replicas", cause="sync does not run (the job has no SpokeJob)",
           remedy="scale the Deployment of sync up again", alone=True)  # fmt: skip
def no_sync(play: Play) -> None:
    sync = f"deployment/{play.product.release}-sync"
    play.template(nothing)
    play.product.kubectl("scale", sync, "--replicas=0")
    play.undo.callback(play.product.kubectl, "scale", sync, "--replicas=1")
    selector = "app.kubernetes.io/component=sync"
    eventually(lambda: not (play.product.get("pods", "-l", selector) or {"items": []})["items"], "no sync runs")
    # As if the API server had been away at the time of the dispatch: nobody but sync creates the SpokeJob then.
    runner = play.product.runner(registry.default, submit="sync")
    play.dispatch(runner=runner)
    runner.close()
    play.named_by_why("check that `spoke-jobs sync` runs")
    play.show(f"kubectl get pods --selector {selector}", f"kubectl get {sync}")
    play.product.kubectl("scale", sync, "--replicas=1")
    play.ends()


@situation("leader of the operator killed", cause="none: the standby takes over within the lease (15 s)",
           remedy="no action is needed", final="succeeded at the first attempt, like all other jobs",
           alone=True)  # fmt: skip
def leader_killed(play: Play) -> None:
    play.template(nothing)
    others = [play.dispatch(play.waiting()) for _ in range(4)]
    for job in others:
        play.runs(job)
    where = ("--namespace", play.shop.operator)
    lease = play.product.cluster.get(*where, "lease", OPERATOR)
    assert lease
    leader = lease["spec"]["holderIdentity"]
    pods = (play.product.cluster.get(*where, "pods") or {"items": []})["items"]
    pod = next(item["metadata"]["name"] for item in pods if item["metadata"]["name"] in leader)
    play.product.cluster.kubectl(*where, "delete", "pod", pod, "--force", "--grace-period=0")
    play.dispatch()
    play.show(f"kubectl --namespace {play.shop.operator} get pods,lease")
    play.named("Succeeded")
    play.open_gate()
    play.ends()
    all_succeed_uncharged(play, others)


@situation("the operator's RoleBinding deleted", cause="no operator handles the namespace (403 in its log)",
           remedy="restore the operator's RoleBinding: helm upgrade of the operator", alone=True)  # fmt: skip
def rights_cut(play: Play) -> None:
    play.template(nothing)
    binding = play.product.get("rolebinding", OPERATOR)
    assert binding
    kept = {key: binding["metadata"][key] for key in ("name", "labels", "annotations") if key in binding["metadata"]}
    body = json.dumps(binding | {"metadata": kept})

    def restore() -> None:
        play.product.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=body)

    play.product.kubectl("delete", "rolebinding", OPERATOR)
    play.undo.callback(restore)
    play.dispatch()
    play.named_by_why("no operator")
    play.show(
        f"kubectl --namespace {play.shop.operator} get pods,lease",
        f"kubectl --namespace {play.shop.operator} logs deployment/{OPERATOR} --all-pods --tail 5",
    )
    restore()
    play.ends()


@situation("PostgreSQL away", cause="DatabaseAway (`why` cannot reach the database either)",
           remedy="repair the database or the connection to it; the jobs then start by themselves",
           final="succeeded, and none charged", bound=120, alone=True)  # fmt: skip
def database_away(play: Play) -> None:
    play.template(nothing)
    held = json.dumps({"apiVersion": "jobs.spoke.dev/v1", "kind": "SpokeLimit", "metadata": {"name": "begin"},
                       "spec": {"scope": "all", "maxRunning": 0}})  # fmt: skip
    play.product.kubectl("apply", "--filename=-", stdin=held)
    play.undo.callback(play.product.kubectl, "delete", "spokelimit", "begin", "--ignore-not-found")
    jobs = [play.dispatch(**IMPATIENT) for _ in range(5)]
    play.named("NamespaceLimitReached")
    service = f"{play.product.release}-database"
    selector = (play.product.get("service", service) or {})["spec"]["selector"]

    def point(component: str) -> None:
        patch = {"spec": {"selector": selector | {"app.kubernetes.io/component": component}}}
        play.product.kubectl("patch", "service", service, f"--patch={json.dumps(patch)}")

    with play.product.engine.connect() as connection:
        point("nothing")
        play.undo.callback(point, "database")
        connection.execute(text(OTHERS))
    play.product.engine.dispose()
    play.begins()
    play.product.kubectl("delete", "spokelimit", "begin")
    play.one_is_named(jobs, "DatabaseAway")
    play.show("kubectl get pods -l jobs.spoke.dev/type=payouts")
    point("database")
    play.ends()
    all_succeed_uncharged(play, jobs)


@situation("password rotated wrongly", cause="DatabaseAway, DatabaseUnreachable (password authentication failed)",
           remedy="correct the password in the Secret; each next attempt reads it",
           final="succeeded, and none charged", bound=120, alone=True)  # fmt: skip
def wrong_password(play: Play) -> None:
    play.template(nothing)
    product = play.product
    inside = f"{product.release}-database"
    new = secrets.token_urlsafe(16)

    def rotate(password: str) -> None:
        url = make_url(product.url).set(host=inside, port=5432, password=password)
        secret = {"stringData": {"url": url.render_as_string(hide_password=False)}}
        product.kubectl("patch", "secret", inside, "--patch", json.dumps(secret))
        names = [f"deployment/{product.release}-{component}" for component in ("sync", "tasks")]
        product.kubectl("rollout", "restart", *names)

    url = make_url(product.url)
    with product.engine.begin() as connection:
        connection.execute(text(f"ALTER ROLE {url.username} PASSWORD '{new}'"))
    product.url = url.set(password=new).render_as_string(hide_password=False)
    product.engine.dispose()
    product.engine = create_engine(product.url, connect_args=PATIENT)
    product.ledger = SqlLedger(product.engine)
    play.shop.runner.close()
    play.shop.runner = product.runner(registry.default)
    rotate("mistyped")
    try:
        jobs = [play.dispatch(**IMPATIENT) for _ in range(5)]
        play.one_is_named(jobs, "DatabaseAway")  # sync, which repairs failed launches, has the wrong password, too
        play.show(f"kubectl logs -l jobs.spoke.dev/request-id={jobs[0].id} --tail 3", ids=(jobs[0].id,))
    finally:
        rotate(new)
    play.ends()
    all_succeed_uncharged(play, jobs)


@situation("API server away", cause="the API server does not answer (`why` cannot read the cluster)",
           remedy="repair the API server; the job then starts by itself",
           final="succeeded at the first attempt, like the job that ran meanwhile", alone=True)  # fmt: skip
def api_server_away(play: Play) -> None:
    play.template(nothing)
    other = play.dispatch(play.waiting())
    play.runs(other)
    with paused_control_plane(play):
        job = play.dispatch()
        play.named_by_why("could not be read")
        play.open_gate()
        assert play.product.ended(other).state.value == "succeeded", "a job that runs goes on and ends"
        play.show_only(
            *(f"spoke-jobs why {item.id}" for item in (job, other)),
            "spoke-jobs check",
            f"kubectl --request-timeout=5s get spokejob {play.name}",
        )
    play.ends()
    all_succeed_uncharged(play, [job, other])


@contextmanager
def paused_control_plane(play: Play) -> Iterator[None]:
    """API server, scheduler and controllers stand still."""
    run, node = play.product.cluster.run, f"{CLUSTER}-control-plane"
    with exclusive(NODE_THAT_STOPS):
        run("docker", "pause", node)
        try:
            yield
        finally:
            run("docker", "unpause", node)


def on_the_second_worker(pod: Object) -> None:
    """There if possible; else elsewhere."""
    pod["tolerations"] = [{"key": "spoke.test/stops", "operator": "Exists"}]
    match = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_THAT_STOPS]}
    preference = {"weight": 100, "preference": {"matchExpressions": [match]}}
    pod["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}


@situation("node drained under a job", cause="Drained (Eviction API), not charged",
           remedy="no action is needed: it runs again on another node", final="succeeded at attempt 2, not charged",
           alone=True)  # fmt: skip
def drained(play: Play) -> None:
    play.template(on_the_second_worker)
    job = play.dispatch(play.waiting())
    play.runs(job)
    with exclusive(NODE_THAT_STOPS):
        try:
            play.begins()
            options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector=jobs.spoke.dev/uid={job.uid}")
            play.product.cluster.kubectl("drain", NODE_THAT_STOPS, *options, "--timeout=120s")
            play.named("Drained")
            play.show()
        finally:
            play.product.cluster.kubectl("uncordon", NODE_THAT_STOPS)
    play.open_gate()
    play.ends()
    all_succeed_uncharged(play, [job])


@situation("node stopped under a job", cause="NodeLost, not charged",
           remedy="no action is needed for the job: it runs again on another node",
           final="succeeded at attempt 2, not charged", bound=120, alone=True)  # fmt: skip
def node_stopped(play: Play) -> None:
    play.template(on_the_second_worker)
    job = play.dispatch(play.waiting())
    play.runs(job)
    with stopped_node(play):
        play.begins()
        eventually(lambda: play.age > 20, "a while")
        play.show()
        play.named("NodeLost")
        play.show()
        play.open_gate()
        play.ends()
    all_succeed_uncharged(play, [job])


@contextmanager
def stopped_node(play: Play) -> Iterator[None]:
    """The second worker, on which nothing runs but what tolerates that, stands still."""
    run = play.product.cluster.run
    with exclusive(NODE_THAT_STOPS):
        try:
            run("docker", "stop", "--time", "1", NODE_THAT_STOPS)
            yield
        finally:
            run("docker", "start", NODE_THAT_STOPS)
            play.product.cluster.kubectl("wait", "--for=condition=Ready", f"node/{NODE_THAT_STOPS}", "--timeout=120s")


def all_succeed_uncharged(play: Play, jobs: list[JobRequest]) -> None:
    """So it must be after maintenance."""
    for job in jobs:
        row = play.product.ended(job, 240)
        assert row.state.value == "succeeded", (job.id, row.cause)
        status = play.product.spokejob(job, "Succeeded")["status"]
        assert not status.get("charged"), status["charged"]
