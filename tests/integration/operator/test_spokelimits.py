"""SpokeLimits and paused Namespaces on a real API server, as people set them with kubectl."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException
from tests.integration.operator.conftest import GROUP, ROOT, VERSION, Cluster, Object, OperatorProcess
from tests.waiting import eventually, stays

from spoke_jobs.contract.custom_resources.kinds import Kind


def put(cluster: Cluster, name: str, **spec: Any) -> None:
    metadata = {"name": name, "namespace": cluster.namespace}
    body = {"apiVersion": "jobs.spoke.dev/v1", "kind": "SpokeLimit", "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(body))


def patch(cluster: Cluster, name: str, **spec: Any) -> None:
    cluster.kubectl("patch", "spokelimit", name, "--type=merge", "--patch", json.dumps({"spec": spec}))


def columns(cluster: Cluster, name: str) -> dict[str, str]:
    """What `kubectl get` shows of a SpokeLimit."""
    heading, line = cluster.kubectl("get", "spl", name).splitlines()
    starts = [heading.index(word) for word in heading.split()]
    ends = [*starts[1:], None]
    return {heading[start:end].strip(): line[start:end].strip() for start, end in zip(starts, ends, strict=True)}


def shows(cluster: Cluster, name: str, **wanted: str) -> None:
    eventually(lambda: wanted.items() <= columns(cluster, name).items(), f"{name} shows {wanted}")


def running(cluster: Cluster) -> list[str]:
    return [item["metadata"]["name"] for item in cluster.spokejobs() if item.get("status", {}).get("attempt")]


def waits(cluster: Cluster, code: str) -> list[Object]:
    statuses = [item.get("status", {}) for item in cluster.spokejobs()]
    return [status["waiting"] for status in statuses if status.get("cause") == code]


def test_a_spokelimit_limits_and_pauses_a_queue_until_it_is_deleted(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("wait", "wait")
    own.start()
    put(apart, "later", scope="lane:pod", maxRunning=0)
    put(apart, "few", scope="queue:q", maxRunning=1)
    shows(apart, "few", SCOPE="queue:q", MAX="1", PAUSED="False", RUNNING="0", WAITING="0")
    for _ in range(4):
        apart.submit("wait", queue="q")
    eventually(lambda: len(waits(apart, "QueueLimitReached")) == 3, "three wait for the limit")
    assert waits(apart, "QueueLimitReached")[0]["source"] == "SpokeLimit few"
    shows(apart, "few", RUNNING="1", WAITING="3")
    patch(apart, "few", maxRunning=2)
    eventually(lambda: len(running(apart)) == 2, "another one starts")
    patch(apart, "few", maxRunning=9, paused={"reason": "closing of the month", "by": "ann"})
    eventually(lambda: len(waits(apart, "Paused")) == 2, "two are paused")
    wait = waits(apart, "Paused")[0]
    assert (wait["source"], wait["by"], wait["note"]) == ("SpokeLimit few", "ann", "closing of the month")
    assert wait["pausedSince"]
    shows(apart, "few", PAUSED="True")
    assert len(running(apart)) == 2, "what runs goes on"
    apart.kubectl("delete", "spokelimit", "few")
    eventually(lambda: len(running(apart)) == 4, "all run")
    conditions = json.loads(apart.kubectl("get", "spl", "later", "--output=json"))["status"]["conditions"]
    enforced = [(item["status"], item["reason"]) for item in conditions if item["type"] == "Enforced"]
    assert enforced == [("False", "UnknownScope")], "a scope of a later release is kept and holds nobody back"


def test_a_rate_lets_a_burst_start_and_a_restart_causes_no_second_one(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("wait", "wait")
    own.start()
    put(apart, "slow", scope="queue:q", rate="10000/s")
    shows(apart, "slow", RUNNING="0")  # the leader is new, so the bucket begins empty, and is full at once
    for rate in ("1000000/2m", "100/min", "7/168h", "1/7d"):
        put(apart, "slow", scope="queue:q", rate=rate)
    put(apart, "slow", scope="queue:q", rate="1/h", burst=2)
    shows(apart, "slow", SCOPE="queue:q", RATE="1/h", RUNNING="0")
    for _ in range(4):
        apart.submit("wait", queue="q")
    eventually(lambda: len(waits(apart, "RateLimitReached")) == 2, "two wait for a token")
    wait = waits(apart, "RateLimitReached")[0]
    assert (wait["source"], wait["object"]) == ("SpokeLimit slow", "1/h, burst 2")
    assert wait["retryAt"]
    status = ("get", "spokelimit", "slow", "--output=jsonpath={.status.fullAt}")
    eventually(lambda: apart.kubectl(*status) or None, "its bucket is reported")
    assert own.stop() == 0
    own.start()
    assert stays(lambda: len(running(apart)) == 2, 2)
    patch(apart, "slow", rate="30/min")
    eventually(lambda: len(running(apart)) == 4, "all run")


def test_a_namespace_is_paused_by_its_annotation(apart: Cluster, own: OperatorProcess) -> None:
    """The operator has a Role in it, which allows to read it by its name."""
    apart.template("works", "0")
    apart.kubectl("annotate", "namespace", apart.namespace, "jobs.spoke.dev/paused=upgrade of the database")
    own.start()
    name = apart.submit("works")
    status = apart.until(name, lambda status: status.get("cause") == "Paused")
    wait = status["waiting"]
    assert (wait["source"], wait["by"]) == (f"Namespace {apart.namespace}", "kubectl-annotate")
    (admitted,) = [item for item in status["conditions"] if item["type"] == "Admitted"]
    assert admitted["message"].endswith("UTC: upgrade of the database")
    apart.kubectl("annotate", "namespace", apart.namespace, "jobs.spoke.dev/paused-")
    assert apart.until_final(name)["outcome"] == "Succeeded"


def test_without_rights_it_works_on_and_with_them_it_obeys_without_a_restart(
    apart: Cluster, own: OperatorProcess
) -> None:
    apart.template("works", "0")
    put(apart, "none", scope="all", maxRunning=0)
    role = json.loads(apart.kubectl("get", "role", "operator-under-test", "--output=json"))
    older = [rule for rule in role["rules"] if not {"spokelimits", "namespaces"} & set(rule["resources"])]
    replace = ("patch", "role", "operator-under-test", "--type=merge", "--patch")
    apart.kubectl(*replace, json.dumps({"rules": older}))
    own.start(SPOKE_OPERATOR_COMPARE_SECONDS="2")
    assert apart.until_final(apart.submit("works"))["outcome"] == "Succeeded"
    said = [line["message"] for line in own.logged() if "not obeyed" in line["message"]]
    assert len(said) == 2, "once each, of SpokeLimits and of Namespaces"
    apart.kubectl(*replace, json.dumps({"rules": role["rules"]}))
    shows(apart, "none", MAX="0", RUNNING="0")
    name = apart.submit("works")
    apart.until(name, lambda status: status.get("cause") == "NamespaceLimitReached")
    eventually(lambda: own.said("other kinds can be watched now; restarting the event streams"), "it watches them")
    patch(apart, "none", maxRunning=1)
    assert apart.until_final(name)["outcome"] == "Succeeded"


REFUSED: list[tuple[Object, str]] = [
    ({"scope": "queues:a"}, "scope must be"),
    ({"scope": "organization:x"}, "scope must be"),
    ({"scope": "type:a*b"}, "scope must be"),
    ({"scope": "key"}, "scope must be"),
    ({"scope": "Queue"}, "spec.scope"),
    ({"scope": "queue:q", "weight": 2}, "need the scope all"),
    ({"scope": "all", "maxRunning": -1}, "greater than or equal to 0"),
    ({"scope": "all", "paused": {"by": "ann"}}, "spec.paused.reason: Required"),
    ({"scope": "all", "defaultTimeoutSeconds": 9, "maxTimeoutSeconds": 8}, "must be at most"),
    ({"scope": "all", "rate": "0/s"}, "spec.rate"),
    ({"scope": "all", "rate": "5 per second"}, "spec.rate"),
    ({"scope": "all", "rate": "1000000/s"}, "at most 10,000/s"),
    ({"scope": "all", "rate": "1000001/d"}, "1 to 1,000,000 starts"),
    ({"scope": "all", "rate": "1/169h"}, "at most 7 days"),
    ({"scope": "all", "burst": 2}, "burst needs a rate"),
]


def test_the_api_server_refuses_what_makes_no_sense(cluster: Cluster) -> None:
    of_it = (GROUP, VERSION, cluster.namespace, Kind.SPOKELIMIT.plural)
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": Kind.SPOKELIMIT.kind, "metadata": {"name": "refused"}}
    for spec, said in REFUSED:
        with pytest.raises(ApiException) as refused:
            cluster.custom.create_namespaced_custom_object(*of_it, body | {"spec": spec}, dry_run="All")
        assert said in str(refused.value.body), spec


MAY = {
    "view": {"get spokejobs", "list spokelimits"},
    "edit": {f"{verb} spokejobs" for verb in ("get", "create", "patch", "delete")} | {"list spokelimits"},
}
MAY["admin"] = MAY["edit"] | {"patch spokelimits"}


def test_kubernetes_own_roles_are_extended(apart: Cluster) -> None:
    command = ["helm", "template", "rel", "charts/spoke-operator", "--show-only=templates/roles.yaml",
               f"--set=fullnameOverride=roles-of-{apart.namespace}"]  # fmt: skip
    roles = subprocess.run(command, cwd=ROOT, env=apart.env, capture_output=True, text=True, check=True).stdout
    apart.kubectl("apply", "--filename", "-", stdin=roles)
    try:
        for role in MAY:
            apart.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user=the-{role}")

        def rights() -> dict[str, set[str]]:
            return {role: {what for what in MAY["admin"] if may(apart, f"the-{role}", what)} for role in MAY}

        eventually(lambda: rights() == MAY, "the roles are aggregated")
    finally:
        apart.kubectl("delete", "--filename", "-", stdin=roles)


def may(cluster: Cluster, user: str, what: str) -> bool:
    """Whether the user may do that in the namespace."""
    verb, resource = what.split()
    asked = {"namespace": cluster.namespace, "verb": verb, "group": GROUP, "resource": resource}
    review = {"spec": {"user": user, "resourceAttributes": asked}}
    return bool(client.AuthorizationV1Api(cluster.api).create_subject_access_review(review).status.allowed)
