"""Standby pods: jobs that start in pods that wait, and what keeps others from assigning something to such a pod."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import kubernetes
import pytest
import yaml
from tests.exclusive import exclusive
from tests.waiting import eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.standby import PATH, PORT, proves
from spoke_jobs.model import AttemptState, JobData, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import NODE_THAT_STOPS, Cluster, Images, Object, Product, image_values, port_forward
from .test_admission import client
from .test_network import ALLOWED, ANOTHER_NODE, Targets, address, running, said_by_pod, said_within
from .test_secrecy import secrets_of

TEMPLATE = "waiting"
FREE = "jobs.spoke.dev/standby=true,jobs.spoke.dev/spokejob="
ECHO = JobData("e2e_echo", "hello", lane="standby", pod_template=TEMPLATE)


@pytest.fixture(scope="module")
def standby(
    cluster: Cluster, images: Images, namespaces: dict[str, str], operator: str, product: Product, texting_chart: str
) -> Iterator[str]:
    """An operator that keeps standby pods, and a PodTemplate that asks for them, as the chart makes it."""
    served = [name for name in namespaces.values() if name != operator]
    values: Object = {"image": image_values(images.operator), "watchNamespaces": served}
    cluster.install("spoke-operator", "charts/spoke-operator", operator, values | {"operator": {"standbyPods": True}})
    where = ("--namespace", product.namespace)
    given = cluster.run("helm", "get", "values", product.release, *where, "--output=json")
    folder = "--show-only=charts/spoke-app/templates"
    rendered = cluster.run(
        *("helm", "template", product.release, texting_chart, *where, "--values=-"),
        f"--set-string=spoke-app.podTemplates.{TEMPLATE}.standby=1-2",
        *(f"{folder}/podtemplates.yaml", f"{folder}/networkpolicies.yaml"),
        stdin=given,
    )
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    (template,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == ("PodTemplate", TEMPLATE)]
    (policy,) = [item for item in objects if item["kind"] == "NetworkPolicy" and "-standby" in item["metadata"]["name"]]
    product.kubectl("apply", "--filename=-", stdin=json.dumps(policy))
    product.apply_template(template)
    eventually(lambda: free_pods(product), "a standby pod that runs")
    yield TEMPLATE
    product.kubectl("delete", "podtemplate", TEMPLATE)
    eventually(lambda: not free_pods(product), "no standby pod without its PodTemplate")
    product.kubectl("delete", "networkpolicy", policy["metadata"]["name"])


def free_pods(product: Product) -> list[Object]:
    """The standby pods that run without a job, the oldest first: it is the likeliest to listen."""
    found = product.get("pods", "--selector", FREE, "--field-selector=status.phase=Running")
    items: list[Object] = (found or {"items": []})["items"]
    items = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    return sorted(items, key=lambda item: str(item["metadata"]["creationTimestamp"]))


def lane_of(product: Product, job: JobRequest) -> str:
    """The lane of the job's first attempt."""
    attempt: Object = product.spokejob(job, "Succeeded")["status"]["attempts"][0]
    return str(attempt.get("lane", ""))


def in_a_standby_pod(product: Product, runner: KubernetesRunner, data: JobData = ECHO) -> JobRequest:
    """A job that has run in a standby pod. The first ones may come before a pod has said that it is free."""

    def run() -> JobRequest | None:
        job = runner.dispatch_job(data)
        row = product.ended(job)
        assert row.state is JobState.SUCCEEDED, row
        return row if lane_of(product, job) == "standby" else None

    return eventually(run, "an attempt in a standby pod")


def test_a_job_starts_without_a_new_pod(product: Product, runner: KubernetesRunner, standby: str) -> None:
    job = in_a_standby_pod(product, runner)
    assert job.result == "hello"
    (pod,) = product.pods(job)
    spokejob = product.get("spokejob", name_of(job))
    assert spokejob is not None
    assert pod["metadata"]["creationTimestamp"] <= spokejob["metadata"]["creationTimestamp"], "it was there before"
    assert "-standby-" in pod["metadata"]["name"]
    labels = pod["metadata"]["labels"]
    assert labels["jobs.spoke.dev/spokejob"] == name_of(job)
    assert labels["jobs.spoke.dev/request-id"] == str(job.id)
    (attempt,) = product.ledger.attempts(job.id)
    assert attempt.worker == pod["metadata"]["name"]
    (owner,) = product.get("job", spokejob["status"]["attempts"][0]["job"])["metadata"]["ownerReferences"]  # type: ignore[index]
    assert (owner["kind"], owner["uid"]) == ("SpokeJob", spokejob["metadata"]["uid"])
    eventually(lambda: free_pods(product), "another one waits in its place")


def test_when_none_is_free_jobs_get_pods_of_their_own(product: Product, runner: KubernetesRunner, standby: str) -> None:
    in_a_standby_pod(product, runner)
    data = JobData("e2e_slow", {"seconds": 3}, lane="standby", pod_template=TEMPLATE)
    jobs = [runner.dispatch_job(data) for _ in range(4)]
    assert {product.ended(job).state for job in jobs} == {JobState.SUCCEEDED}
    lanes = [lane_of(product, job) for job in jobs]
    assert "" in lanes, "at most two wait"
    assert all(len(product.ledger.attempts(job.id)) == 1 for job in jobs)


def test_an_operator_that_is_killed_loses_no_job_and_charges_none(
    product: Product, runner: KubernetesRunner, operator: str, standby: str
) -> None:
    """Both replicas, while jobs are handed over."""
    eventually(lambda: free_pods(product), "one that waits")
    jobs = [runner.dispatch_job(ECHO) for _ in range(3)]
    which = ("pods", "--selector=app.kubernetes.io/component=operator")
    product.cluster.kubectl("--namespace", operator, "delete", *which, "--grace-period=0", "--force", "--wait=false")
    jobs.append(runner.dispatch_job(ECHO))
    for job in jobs:
        row = product.ended(job)
        assert (row.state, row.result) == (JobState.SUCCEEDED, "hello"), row
        states = [item.state for item in product.ledger.attempts(job.id)]
        assert states.count(AttemptState.SUCCEEDED) == 1
        assert product.spokejob(job, "Succeeded")["status"].get("charged", {}) == {}
    in_a_standby_pod(product, runner)


def test_nobody_but_the_operator_connects_to_a_standby_pod(
    product: Product, runner: KubernetesRunner, operator: str, standby: str, elsewhere: str
) -> None:
    pod = eventually(lambda: free_pods(product), "one that waits")[0]
    targets: Targets = {"standby": (pod["status"]["podIP"], PORT)}
    replica = running(product.cluster, operator, "app.kubernetes.io/component=operator")[0]
    assert said_within(product.cluster, replica, [json.dumps(targets), json.dumps(["standby"])]) == {"standby"}
    nobody = [json.dumps(targets), json.dumps([])]
    for component in ("web", "tasks", "sync"):
        inside = running(product.cluster, product.namespace, f"app.kubernetes.io/component={component}")[0]
        assert said_within(product.cluster, inside, nobody) == set(), component
    assert said_by_pod(product, product.namespace, {}, nobody, {}) == set(), "a stranger"
    with exclusive(NODE_THAT_STOPS):
        assert said_by_pod(product, elsewhere, {}, nobody, ANOTHER_NODE) == set(), "one of another namespace and node"
    connects = JobData("e2e_connects", e2e_jobs.Connect(targets=targets, expected=[]))
    assert product.ended(runner.dispatch_job(connects)).result == [], "a job in a pod of its own"


def test_a_standby_pod_reaches_what_a_jobs_own_pod_reaches(
    product: Product, runner: KubernetesRunner, operator: str, standby: str
) -> None:
    here = f"{product.namespace}.svc.cluster.local"
    targets: Targets = {
        "api server": ("kubernetes.default.svc.cluster.local", 443),
        "operator": (address(product.cluster, operator, "app.kubernetes.io/component=operator"), 8080),
        "database": (f"texting-database.{here}", 5432),
        "tasks": (f"texting-tasks.{here}", 8080),
        "web": (f"texting.{here}", 80),
    }
    payload = e2e_jobs.Connect(targets=targets, expected=sorted(ALLOWED["job"]))
    job = in_a_standby_pod(product, runner, JobData("e2e_connects", payload, lane="standby", pod_template=TEMPLATE))
    assert set(job.result) == ALLOWED["job"]


def test_what_can_be_read_of_a_standby_pod_assigns_nothing(product: Product, standby: str) -> None:
    pod = eventually(lambda: free_pods(product), "one that waits")[0]
    (container,) = [item for item in pod["spec"]["containers"] if item["name"] == "job"]
    verifier = next(item["value"] for item in container["env"] if item["name"] == "SPOKE_STANDBY")
    name = pod["metadata"]["name"]
    with port_forward(product.cluster, product.namespace, f"pod/{name}", PORT) as port:  # past the NetworkPolicy
        url = f"http://127.0.0.1:{port}{PATH}"
        assert eventually(lambda: answer_of(url), "an answer of the pod") == {"state": "free"}
        request = urllib.request.Request(url, b"{}", {"Authorization": f"Bearer {verifier}"}, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=patient(30))
        refused.value.close()
        assert refused.value.code == 401
    assert name in {item["metadata"]["name"] for item in free_pods(product)}


def answer_of(url: str) -> object:
    """What the pod says of itself; None if it does not listen yet."""
    try:
        with urllib.request.urlopen(url, timeout=patient(30)) as answer:
            return json.loads(answer.read())
    except (OSError, http.client.HTTPException):
        return None


def changed(api: kubernetes.client.BatchV1Api, path: str, name: str, metadata: Object) -> str:
    """Change an object's metadata, without keeping that. Return why not, if it is refused."""
    headers = {"Accept": "application/json", "Content-Type": "application/merge-patch+json"}
    request = api.api_client.param_serialize(
        "PATCH", f"{path}/{name}?dryRun=All", header_params=headers, body=metadata, auth_settings=["BearerToken"]
    )
    response = api.api_client.call_api(*request)
    answer = json.loads(response.read())
    return "" if response.status == 200 else str(answer["message"])


def labels_of(spokejob: Object) -> dict[str, str]:
    """The labels by which Job and pod name their SpokeJob."""
    metadata = spokejob["metadata"]
    return {"jobs.spoke.dev/spokejob": metadata["name"], "jobs.spoke.dev/spokejob-uid": metadata["uid"]}


def test_the_operators_account_only_hands_over(
    product: Product, runner: KubernetesRunner, operator: str, standby: str
) -> None:
    cluster = product.cluster
    token = cluster.kubectl("--namespace", operator, "create", "token", "spoke-operator").strip()
    api, namespace = client(cluster, token), product.namespace
    pods, jobs = f"/api/v1/namespaces/{namespace}/pods", f"/apis/batch/v1/namespaces/{namespace}/jobs"
    spokejob = product.spokejob(in_a_standby_pod(product, runner))
    taken = spokejob["status"]["attempts"][0]["job"]
    other = {"labels": {"jobs.spoke.dev/spokejob": "another"}}
    assert "only standby pods without an attempt" in changed(api, jobs, taken, {"metadata": other})
    owner = {"apiVersion": "jobs.spoke.dev/v1", "kind": "SpokeJob", "controller": True, "blockOwnerDeletion": False}
    owner |= {name: spokejob["metadata"][name] for name in ("name", "uid")}
    taking = {"labels": labels_of(spokejob), "ownerReferences": [owner]}
    pod = eventually(lambda: free_pods(product), "one that waits")[0]
    name, job = pod["metadata"]["name"], pod["metadata"]["ownerReferences"][0]["name"]
    safe = {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}
    assert changed(api, jobs, job, {"metadata": taking}) == ""
    assert changed(api, pods, name, {"metadata": {"labels": labels_of(spokejob)} | safe}) == ""

    web = running(cluster, namespace, "app.kubernetes.io/component=web")[0]["metadata"]["name"]
    assert "only standby pods" in changed(api, pods, web, {"metadata": {"labels": labels_of(spokejob)}})
    for change, says in (
        ({"labels": {"team": "a"}}, "only labels of jobs.spoke.dev"),
        ({"labels": {"jobs.spoke.dev/standby": None}}, "only labels of jobs.spoke.dev"),
        ({"annotations": {"example.org/own": "b"}}, "only the annotation"),
        ({"finalizers": []}, "the finalizers must stay"),
        ({"ownerReferences": []}, "that of a pod must stay"),
    ):
        assert says in changed(api, pods, name, {"metadata": change}), change
    assert "the spec must stay" in changed(api, pods, name, {"spec": {"activeDeadlineSeconds": 5}})
    for change in (
        taking | {"ownerReferences": []},
        taking | {"ownerReferences": [owner | {"kind": "ConfigMap", "apiVersion": "v1"}]},
        taking | {"ownerReferences": [owner | {"controller": False}]},
        taking | {"labels": labels_of(spokejob) | {"jobs.spoke.dev/spokejob": "another"}},
    ):
        assert "the Job must get one owner" in changed(api, jobs, job, {"metadata": change}), change
    assert "the spec must stay" in changed(api, jobs, job, {"metadata": taking, "spec": {"suspend": True}})


def test_no_object_or_log_of_a_standby_pod_holds_a_secret(
    product: Product, runner: KubernetesRunner, operator: str, standby: str
) -> None:
    """Neither the application's, nor the database's, nor what assigns an attempt."""
    data = JobData("e2e_tells", {"secret": e2e_jobs.MARKER}, lane="standby", pod_template=TEMPLATE)
    job = in_a_standby_pod(product, runner, data)
    assert e2e_jobs.MARKER in job.result
    name = name_of(job)
    of_the_job = product.get("spokejobs,jobs,pods", "--selector", f"jobs.spoke.dev/spokejob={name}")
    of_the_pool = product.get("jobs,pods", "--selector", FREE)
    spokejob = product.get("spokejob", name)
    texts = [json.dumps(found) for found in (of_the_job, of_the_pool, spokejob) if found]
    assert all(kind in "".join(texts) for kind in ('"SpokeJob"', '"Job"', '"Pod"'))
    leaders = running(product.cluster, operator, "app.kubernetes.io/component=operator")
    texts += [product.cluster.kubectl("--namespace", operator, "logs", item["metadata"]["name"]) for item in leaders]
    texts += [product.kubectl("logs", item["metadata"]["name"], "--container=job") for item in free_pods(product)]
    secrets = secrets_of(product.cluster, [product.namespace])
    verifiers = set(re.findall(r'"jobs.spoke.dev/standby-verifier": "([0-9a-f]{64})"', "".join(texts)))
    assert verifiers
    for text in texts:
        assert [what for what, value in secrets.items() if value in text] == []
        assert not any(proves(found, verifier) for found in re.findall("[0-9a-f]{64}", text) for verifier in verifiers)
