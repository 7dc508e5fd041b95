"""The operator against a real API server, Job controller and kubelet. How jobs come to grief: causes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.integration.operator.conftest import GROUP, PLURAL, VERSION, Cluster, Object, OperatorProcess
from tests.waiting import eventually


def conditions(status: Object) -> dict[str, str]:
    return {item["type"]: item["status"] for item in status["conditions"]}


def test_jobs_of_a_quiet_operator_succeed_at_once_or_at_their_second_attempt(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    assert operator.logged()[0]["message"].startswith(f"watching namespaces {cluster.namespace}: ")
    assert operator.get("/healthz").startswith("last event or comparison")
    assert operator.get("/readyz") == "ready\n"
    cluster.submit("none", suspend=True)
    eventually(lambda: operator.metric("spoke_operator_events_total") > 0, "it has heard of it")
    assert [line for line in operator.logged() if line["level"] not in ("info", "debug")] == []

    cluster.template("succeeds", "0")
    name = cluster.submit("succeeds")
    status = cluster.until_final(name)
    assert status["outcome"] == "Succeeded"
    (record,) = status["attempts"]
    assert record["exitCode"] == 0
    assert record["pod"].startswith(f"{name}-1-")
    assert record["node"]
    times = [datetime.fromisoformat(record[name]) for name in ("startedAt", "scheduledAt", "runsSince", "finishedAt")]
    assert times == sorted(times)
    assert conditions(status) == {"Admitted": "True", "Running": "False", "Succeeded": "True", "Finished": "True"}
    eventually(lambda: not jobs_of(cluster, name), "its Job is deleted after the retention", within=30)
    metadata = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, name)["metadata"]
    writers = {item["manager"] for item in metadata["managedFields"] if item.get("subresource")}
    assert writers == {"spoke-operator"}
    assert not {"finalizers", "annotations"} & metadata.keys()

    cluster.template("mends", "10,0")
    name = cluster.submit("mends")
    status = cluster.until_final(name)
    assert status["outcome"] == "Succeeded"
    assert [(item["number"], item["cause"]) for item in status["attempts"]] == [(1, "JobError"), (2, "")]
    assert status["attempts"][0]["errorType"] == "standin.Broken"
    assert status["charged"] == {"error": 1}
    shown = eventually(
        lambda: (
            (text := cluster.kubectl("describe", "spokejob", name).partition("\nEvents:")[2]).count("\n") >= 5 and text
        ),
        "its Events",
    )
    told = [" ".join(line.split()[:2]) for line in shown.splitlines() if line.startswith("  ")][2:]
    assert sorted(told) == ["Normal AttemptStarted"] * 2 + ["Normal Succeeded", "Warning AttemptFailed"]
    assert "Attempt 1 has failed: JobError (standin.Broken, exit code 10)" in shown
    assert operator.metric("spoke_operator_kubernetes_events_dropped_total") == 0
    assert operator.stop() == 0, "and not once its watches end, after a minute or more"


def test_a_spokejob_that_is_deleted_without_its_job_leaves_nothing_that_runs(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    """`--cascade=orphan` takes the owner from its Job. Nothing else would ever end its pod."""
    cluster.template("orphan", "wait")
    name = cluster.submit("orphan")
    cluster.until(name, lambda status: status.get("outcome") == "Running")
    cluster.kubectl("delete", "spokejob", name, "--cascade=orphan")
    eventually(lambda: not jobs_of(cluster, name), "its Job is deleted", within=60)


def test_conflict_with_sync_is_harmless(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.template("progress", "wait,0")
    name = cluster.submit("progress")
    cluster.until(name, lambda status: status.get("outcome") == "Running")
    cluster.apply_as_sync(name, {"progress": {"percent": 40}})
    cluster.core.delete_namespaced_pod(cluster.pod_of(name, 1), cluster.namespace, grace_period_seconds=0)
    cluster.apply_as_sync(name, {"progress": {"percent": 50}})
    status = cluster.until_final(name)
    assert status["outcome"] == "Succeeded"
    assert status["progress"]["percent"] == 50
    cluster.apply_as_sync(name, {"progress": {"percent": 50}, "ledger": "Failed"})
    status = cluster.until(name, lambda status: status["outcome"] == "Failed")
    assert status["ledger"] == "Failed"


def jobs_of(cluster: Cluster, name: str) -> list[Any]:
    selector = f"jobs.spoke.dev/spokejob={name}"
    items: list[Any] = cluster.batch.list_namespaced_job(cluster.namespace, label_selector=selector).items
    return items
