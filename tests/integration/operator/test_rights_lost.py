"""Somebody deletes the operator's binding. Running jobs go on, and all goes on when the binding is there again."""

from __future__ import annotations

import json

from tests.integration.operator.conftest import Cluster, OperatorProcess
from tests.waiting import eventually, stays


def test_the_binding_is_deleted_and_made_again(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("sleeps", "sleep-15")
    apart.template("brief", "0")
    own.start(SPOKE_OPERATOR_COMPARE_SECONDS="2")
    running = [apart.submit("sleeps") for _ in range(2)]
    for name in running:
        apart.until(name, lambda status: status.get("outcome") == "Running")
    binding = json.loads(apart.kubectl("get", "rolebinding", "operator-under-test", "--output=json"))
    apart.kubectl("delete", "rolebinding", "operator-under-test")
    waiting = [apart.submit("brief")]
    eventually(lambda: [line for line in own.logged() if forbids(line["message"])], "the log names the right")
    pods = {"label_selector": "jobs.spoke.dev/spokejob", "field_selector": "status.phase=Succeeded"}
    eventually(
        lambda: len(apart.core.list_namespaced_pod(apart.namespace, **pods).items) == len(running), "their pods end"
    )
    assert stays(lambda: own.running, 4, every=0.5), "it compares again meanwhile"
    assert {apart.status(name)["outcome"] for name in running} == {"Running"}, "nobody may write"

    metadata = {"name": "operator-under-test", "namespace": apart.namespace}
    apart.kubectl("create", "--filename=-", stdin=json.dumps(binding | {"metadata": metadata}))
    for name in [*running, *waiting]:
        status = apart.until_final(name)
        assert status["outcome"] == "Succeeded"
        assert [item["cause"] for item in status["attempts"]] == [""]


def forbids(message: str) -> bool:
    return "cannot" in message and "spokejobs" in message
