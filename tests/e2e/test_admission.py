"""Jobs that the operator must not create: by its account (the chart's admission policies), and by its own rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy

import pytest
from kubernetes import client as kubernetes
from kubernetes import config as kubernetes_config
from tests.waiting import eventually

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs_operator.core.limits.limits import Bound, NamespaceLimits
from spoke_jobs_operator.core.objects.read_objects import read_template
from spoke_jobs_operator.core.templates.build_job import build_job

from .conftest import Cluster, Object, Product

SECRET = {"secretKeyRef": {"name": "texting-database", "key": "url"}}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "other"}},
}
NUMBER = 9
"""Of an attempt that the SpokeJob does not have."""


def client(cluster: Cluster, token: str) -> kubernetes.BatchV1Api:
    """Calls with this token; an empty one stands for the cluster's admin."""
    configuration = kubernetes.Configuration()
    kubernetes_config.load_kube_config(cluster.env["KUBECONFIG"], client_configuration=configuration)  # type: ignore[no-untyped-call]
    if token:
        configuration.cert_file = configuration.key_file = None
        configuration.api_key = {"authorization": f"Bearer {token}"}
    return kubernetes.BatchV1Api(kubernetes.ApiClient(configuration))


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> kubernetes.BatchV1Api:
    return client(cluster, "")


@pytest.fixture(scope="module")
def operators(cluster: Cluster, operator: str) -> kubernetes.BatchV1Api:
    return client(cluster, cluster.kubectl("--namespace", operator, "create", "token", "spoke-operator").strip())


@pytest.fixture(scope="module")
def good(product: Product, runner: KubernetesRunner) -> Object:
    """A Job as the operator makes it, of a SpokeJob that there is."""
    job = runner.dispatch_job(JobData("e2e_echo", 1))
    product.ended(job)
    spokejob = SpokeJob.from_object(product.spokejob(job))
    template = product.get("podtemplate", "default")
    assert template
    assert spokejob.name == name_of(job)
    return build_job(spokejob, read_template(template), NUMBER)


@pytest.fixture(scope="module")
def rich(product: Product, good: Object) -> Object:
    """A Job of a PodTemplate that uses what it can, so that the operator changes as much as it ever does."""
    template = product.get("podtemplate", "default")
    assert template
    template["metadata"] = {
        "name": "rich",
        "labels": template["metadata"]["labels"],
        "annotations": {"jobs.spoke.dev/copied-labels": "team, tier"},
    }
    template["template"]["metadata"] = {"labels": {"own": "a"}, "annotations": {"example.com/own": "b"}}
    pod = template["template"]["spec"]
    probe = {"exec": {"command": ["true"]}}
    beside = {"image": "beside", "command": ["a"], "args": ["b"], "env": [{"name": "SPOKE_RUN", "value": "own"}]}
    pod |= {
        "automountServiceAccountToken": True,
        "initContainers": [
            beside | {"name": "first"},
            beside | {"name": "proxy", "restartPolicy": "Always", "startupProbe": probe},
        ],
        "securityContext": {"runAsNonRoot": False, "fsGroup": 5, "seccompProfile": {"type": "Unconfined"}},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeSelector": {"disk": "ssd"},
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
        "imagePullSecrets": [{"name": "registry"}],
        "hostNetwork": True,
        "activeDeadlineSeconds": 5,
        "terminationGracePeriodSeconds": 90,
        "enableServiceLinks": False,
        "readinessGates": [{"conditionType": "example.com/ready"}],
        "priorityClassName": "high",
        "topologySpreadConstraints": [SPREAD],
    }
    pod["containers"][0] |= {
        "args": ["replaced"],
        "envFrom": [{"secretRef": {"name": "some"}}],
        "livenessProbe": probe,
        "ports": [{"containerPort": 80}],
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        "tty": True,
        "securityContext": {"allowPrivilegeEscalation": True, "capabilities": {"add": ["NET_ADMIN"], "drop": ["KILL"]}},
    }
    pod["containers"][0]["env"] += [{"name": "SPOKE_RUN", "value": "replaced"}, {"name": "KEY", "valueFrom": SECRET}]
    pod["containers"].append(beside | {"name": "beside"})
    product.apply_template(template)
    found = product.get("podtemplate", "rich")
    owner = product.get("spokejob", good["metadata"]["ownerReferences"][0]["name"])
    assert found
    assert owner
    owner["metadata"]["labels"] |= {"team": "payments"}
    owner["spec"] |= {"timeoutSeconds": 60, "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    owner["spec"]["resources"] = {"limits": {"memory": "1Gi"}}
    limits = NamespaceLimits(max_timeout=Bound(5, "SpokeLimit a"))
    return build_job(SpokeJob.from_object(owner), read_template(found), NUMBER, limits)


def create(api: kubernetes.BatchV1Api, body: Object) -> str:
    """Create a Job that is not kept. Return why not, if it is refused."""
    try:
        api.create_namespaced_job(body["metadata"]["namespace"], body, dry_run="All")
    except kubernetes.ApiException as error:
        return str(json.loads(error.body)["message"])
    return ""


def spec(job: Object) -> Object:
    found: Object = job["spec"]["template"]["spec"]
    return found


def container(job: Object) -> Object:
    found: Object = spec(job)["containers"][0]
    return found


def pod_labels(job: Object) -> Object:
    found: Object = job["spec"]["template"]["metadata"]["labels"]
    return found


def endless(key: str, **more: object) -> Object:
    """A toleration that does not end."""
    return {"key": f"node.kubernetes.io/{key}", "operator": "Exists", **more}


ANY_EXIT = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [0]}}

ACCOUNT_DIFFERS = "service account and token of the pod differ"
NODES_DIFFER = "the rules for the pod's node differ"
TOLERATIONS_DIFFER = "the pod's tolerations differ"
OTHERS_DIFFER = "other fields of the pod differ"
CONTAINERS_OTHERS_DIFFER = "other fields of the pod's containers differ"
LABELS_DIFFER = "the pod's labels differ"
ONE_POD = "must have one pod"
OWN_FIELDS = "must have no field that the operator does not set"
NO_FINALIZERS = "must have no finalizers"

CHANGES: dict[str, tuple[Callable[[Object], object], *tuple[str, ...]]] = {
    "a foreign service account": (
        lambda job: spec(job).update(serviceAccountName="texting-sync"),
        "the service account texting-sync has no right to run the PodTemplate default",
        ACCOUNT_DIFFERS,
    ),
    "the namespace's default account": (
        lambda job: (spec(job).pop("serviceAccountName"), spec(job).pop("serviceAccount")),
        "the service account default has no right to run the PodTemplate default",
        ACCOUNT_DIFFERS,
    ),
    "a PodTemplate that there is not": (
        lambda job: job["metadata"]["annotations"].update({"jobs.spoke.dev/pod-template": "ghost"}),
        "the service account texting-jobs has no right to run the PodTemplate ghost",
    ),
    "no PodTemplate": (
        lambda job: job["metadata"]["annotations"].pop("jobs.spoke.dev/pod-template"),
        "has no right to run the PodTemplate",
    ),
    "no owner": (lambda job: job["metadata"].pop("ownerReferences"), "must have one owner"),
    "another kind of owner": (
        lambda job: job["metadata"]["ownerReferences"][0].update(apiVersion="batch/v1", kind="CronJob"),
        "must have one owner",
    ),
    "an owner that does not control it": (
        lambda job: job["metadata"]["ownerReferences"][0].update(controller=False),
        "must have one owner",
    ),
    "another job's labels": (
        lambda job: job["metadata"]["labels"].update({"jobs.spoke.dev/spokejob-uid": "another"}),
        "must have the operator's labels",
    ),
    "a pod without the labels": (
        lambda job: job["spec"]["template"]["metadata"].update(labels={}),
        "must have the operator's labels",
        LABELS_DIFFER,
    ),
    "several pods": (lambda job: job["spec"].update(parallelism=5), ONE_POD),
    "an index for each pod": (lambda job: job["spec"].update(completionMode="Indexed"), ONE_POD),
    "further pods after failures": (lambda job: job["spec"].update(podFailurePolicy={"rules": [ANY_EXIT]}), ONE_POD),
    "starts of a container after failures": (
        lambda job: (spec(job).update(restartPolicy="OnFailure"), job["spec"].pop("podFailurePolicy")),
        ONE_POD,
    ),
    "failures of each index": (
        lambda job: job["spec"].update(completionMode="Indexed", backoffLimitPerIndex=9),
        OWN_FIELDS,
        ONE_POD,
    ),
    "another controller": (lambda job: job["spec"].update(managedBy="example.com/own"), OWN_FIELDS),
    "all pods without a controller": (
        lambda job: job["spec"].update(
            manualSelector=True, selector={"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}
        ),
        "must leave the selection of its pods to Kubernetes",
    ),
    "another job's pods": (
        lambda job: (
            job["spec"].update(manualSelector=True, selector={"matchLabels": {"own": "a"}}),
            pod_labels(job).update(own="a"),
        ),
        "must leave the selection of its pods to Kubernetes",
        LABELS_DIFFER,
    ),
    "a finalizer": (lambda job: job["metadata"].update(finalizers=["example.com/own"]), NO_FINALIZERS),
    "a finalizer of the pod": (
        lambda job: job["spec"]["template"]["metadata"].update(finalizers=["example.com/own"]),
        NO_FINALIZERS,
    ),
    "another command": (lambda job: container(job).update(command=["sh"]), "must run spoke-jobs run"),
    "another image": (lambda job: container(job).update(image="evil"), "the pod's images differ"),
    "another container": (
        lambda job: spec(job)["containers"].append({"name": "evil", "image": "evil"}),
        "the pod's containers differ",
    ),
    "an init container": (
        lambda job: spec(job).update(initContainers=[{"name": "evil", "image": "evil"}]),
        "the pod's containers differ",
    ),
    "a hook": (
        lambda job: container(job).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
        "the commands of the pod's containers differ",
    ),
    "a Secret in a variable": (
        lambda job: container(job)["env"].append({"name": "KEY", "valueFrom": SECRET}),
        "the environment variables of the pod's containers differ",
    ),
    "a Secret in a variable of the operator": (
        lambda job: container(job)["env"].append({"name": "TRACEPARENT", "valueFrom": SECRET}),
        "the sources of the variables that the operator sets differ",
    ),
    "all of a Secret": (
        lambda job: container(job).update(envFrom=[{"secretRef": {"name": "texting-database"}}]),
        "the environment variables of the pod's containers differ",
    ),
    "a Secret in a volume": (
        lambda job: spec(job)["volumes"].append({"name": "s", "secret": {"secretName": "texting-database"}}),
        "the pod's volumes differ",
    ),
    "the end of the log in the pod's status": (
        lambda job: container(job).update(terminationMessagePolicy="FallbackToLogsOnError"),
        "the termination messages of the pod's containers differ",
    ),
    "a name server": (
        lambda job: spec(job).update(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"]}),
        "the pod's host name and DNS settings differ",
    ),
    "another pod's name": (
        lambda job: spec(job).update(hostname="database", subdomain="texting"),
        "the pod's host name and DNS settings differ",
    ),
    "its account's token": (
        lambda job: spec(job).update(automountServiceAccountToken=True),
        ACCOUNT_DIFFERS,
    ),
    "the node's network": (lambda job: spec(job).update(hostNetwork=True), "the pod's rights on its node differ"),
    "a port of the node": (
        lambda job: container(job).update(ports=[{"containerPort": 80, "hostPort": 80}]),
        "the pod's rights on its node differ",
    ),
    "a node": (lambda job: spec(job).update(nodeName="spoke-test-control-plane"), NODES_DIFFER),
    "a spread": (lambda job: spec(job).update(topologySpreadConstraints=[SPREAD]), NODES_DIFFER),
    "a priority": (lambda job: spec(job).update(priority=2_000_000_000), NODES_DIFFER),
    "a preemption policy": (lambda job: spec(job).update(preemptionPolicy="Never"), NODES_DIFFER),
    "a toleration": (lambda job: spec(job)["tolerations"].append({"operator": "Exists"}), TOLERATIONS_DIFFER),
    "a toleration of nodes that are gone": (
        lambda job: spec(job)["tolerations"].append(endless("not-ready", effect="NoExecute")),
        TOLERATIONS_DIFFER,
    ),
    "a toleration of nodes that are not ready yet": (
        lambda job: spec(job)["tolerations"].append(endless("not-ready", effect="NoSchedule")),
        TOLERATIONS_DIFFER,
    ),
    "a longer toleration of nodes that are gone": (
        lambda job: spec(job)["tolerations"].append(endless("unreachable", effect="NoExecute", tolerationSeconds=31)),
        TOLERATIONS_DIFFER,
    ),
    "a long grace period": (lambda job: spec(job).update(terminationGracePeriodSeconds=10**9), OTHERS_DIFFER),
    "a readiness gate": (lambda job: spec(job).update(readinessGates=[{"conditionType": "a/b"}]), OTHERS_DIFFER),
    "an operating system": (lambda job: spec(job).update(os={"name": "linux"}), OTHERS_DIFFER),
    "a policy for resizing": (
        lambda job: container(job).update(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
        CONTAINERS_OTHERS_DIFFER,
    ),
    "a terminal": (lambda job: container(job).update(stdin=True, tty=True), CONTAINERS_OTHERS_DIFFER),
    "addresses of Services": (
        lambda job: spec(job).update(enableServiceLinks=not spec(job).get("enableServiceLinks", True)),
        "the environment variables of the pod's containers differ",
    ),
    "privileges": (
        lambda job: container(job)["securityContext"].update(allowPrivilegeEscalation=True, privileged=True),
        "the security contexts of the containers differ",
    ),
    "a capability": (
        lambda job: container(job)["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        "the security contexts of the containers differ",
    ),
    "root": (
        lambda job: spec(job)["securityContext"].update(runAsUser=0, runAsNonRoot=False),
        "the security contexts of the pod differ",
    ),
    "a label that policies select": (
        lambda job: pod_labels(job).update({"app.kubernetes.io/component": "tasks"}),
        LABELS_DIFFER,
    ),
    "another label with a value of the operator's": (
        lambda job: pod_labels(job).update({"app.kubernetes.io/created-by": "spoke-job"}),
        LABELS_DIFFER,
    ),
    "a label of Kubernetes": (
        lambda job: pod_labels(job).update({"batch.kubernetes.io/job-completion-index": "1"}),
        LABELS_DIFFER,
    ),
    "no label that the NetworkPolicy selects": (
        lambda job: pod_labels(job).pop("app.kubernetes.io/component"),
        LABELS_DIFFER,
    ),
    "an annotation that injects a container": (
        lambda job: job["spec"]["template"]["metadata"]["annotations"].update({"sidecar.istio.io/inject": "true"}),
        "the pod's annotations differ",
    ),
}


def test_the_operators_own_jobs_are_accepted(operators: kubernetes.BatchV1Api, good: Object, rich: Object) -> None:
    assert create(operators, good) == ""
    other = deepcopy(rich)
    spec(other)["containers"][1]["env"][0]["value"] = "of another container"
    refusal = "the environment variables of the pod's containers differ"
    eventually(lambda: refusal in create(operators, other), "the policies know the new PodTemplate")
    assert create(operators, rich) == ""


@pytest.mark.parametrize(
    ("change", "reasons"), [(change, reasons) for change, *reasons in CHANGES.values()], ids=list(CHANGES)
)
def test_another_job_is_refused(
    operators: kubernetes.BatchV1Api, good: Object, change: Callable[[Object], object], reasons: list[str]
) -> None:
    """The same Job without the change is accepted, above. The API server names one of the policies that refuse."""
    body = deepcopy(good)
    change(body)
    refusal = create(operators, body)
    assert "ValidatingAdmissionPolicy" in refusal
    assert any(reason in refusal for reason in reasons), refusal


def test_an_account_that_may_run_anything_is_none_of_a_jobs(
    product: Product, operators: kubernetes.BatchV1Api, good: Object
) -> None:
    """A cluster admin's account may run every PodTemplate, also one that does not exist."""
    product.kubectl("create", "serviceaccount", "mighty")
    product.kubectl("create", "role", "all", "--verb=*", "--resource=podtemplates")
    product.kubectl("create", "rolebinding", "all", "--role=all", f"--serviceaccount={product.namespace}:mighty")
    body = deepcopy(good)
    spec(body)["serviceAccountName"] = "mighty"
    body["metadata"]["annotations"]["jobs.spoke.dev/pod-template"] = "ghost"
    eventually(lambda: "the right must name them" in create(operators, body), "the rule counts")


def test_a_template_without_the_label_is_none(product: Product, operators: kubernetes.BatchV1Api, good: Object) -> None:
    """Otherwise nothing would be compared. Its account may still run it, as after its label was removed."""
    template = product.get("podtemplate", "default")
    assert template
    template["metadata"] = {"name": "retired"}
    product.apply_template(template)
    body = deepcopy(good)
    body["metadata"]["annotations"]["jobs.spoke.dev/pod-template"] = "retired"
    container(body)["image"] = "evil"
    refusal = "the PodTemplate retired is for no job"
    eventually(lambda: refusal in create(operators, body), "the policies know the new PodTemplate")


def test_jobs_of_others_are_not_concerned(admin: kubernetes.BatchV1Api, good: Object) -> None:
    body = deepcopy(good)
    spec(body)["serviceAccountName"] = "texting-sync"
    assert create(admin, body) == ""
    del body["metadata"]["ownerReferences"]
    body["metadata"]["namespace"] = "default"  # which has no PodTemplate
    assert create(admin, body) == ""


def test_it_deletes_no_job_of_others(
    product: Product, admin: kubernetes.BatchV1Api, operators: kubernetes.BatchV1Api
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
    body = {"metadata": {"name": "others"}, "spec": {"suspend": True, "template": {"spec": pod}}}
    admin.create_namespaced_job(product.namespace, body)
    try:
        with pytest.raises(kubernetes.ApiException) as refused:
            operators.delete_namespaced_job("others", product.namespace)
        assert "must have the operator's labels" in refused.value.body
    finally:
        admin.delete_namespaced_job("others", product.namespace)


def test_it_deletes_a_job_that_has_lost_its_owner(
    admin: kubernetes.BatchV1Api, operators: kubernetes.BatchV1Api, good: Object
) -> None:
    """After the deletion of its SpokeJob with `--cascade=orphan`. One that has another kind of owner is refused."""
    body = deepcopy(good)
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    body["spec"]["suspend"] = True
    del body["metadata"]["ownerReferences"]
    admin.create_namespaced_job(namespace, body)
    try:
        operators.delete_namespaced_job(name, namespace, dry_run="All")
        (owner,) = good["metadata"]["ownerReferences"]
        change = {"metadata": {"ownerReferences": [owner | {"controller": False}]}}
        admin.patch_namespaced_job(name, namespace, change)
        with pytest.raises(kubernetes.ApiException) as refused:
            operators.delete_namespaced_job(name, namespace, dry_run="All")
        assert "must have one owner, a SpokeJob" in refused.value.body
    finally:
        admin.delete_namespaced_job(name, namespace)


GUARDED = "guarded"
"""A PodTemplate that is for reports."""


@pytest.fixture(scope="module")
def guarded(product: Product) -> str:
    template = product.get("podtemplate", "default")
    assert template
    template["metadata"] = {
        "name": GUARDED,
        "labels": template["metadata"]["labels"],
        "annotations": {"jobs.spoke.dev/allowed-types": "e2e_report, e2e_ech?"},
    }
    product.apply_template(template)
    return GUARDED


def test_a_row_with_a_template_that_is_not_for_its_type_is_refused_by_the_operator(
    product: Product, runner: KubernetesRunner, guarded: str
) -> None:
    """This process creates the SpokeJob, as a hostile job or person could."""
    job = runner.dispatch_job(JobData("e2e_echo", 1, pod_template=guarded, start_timeout_seconds=5))
    ended = product.ended(job)
    assert (ended.state, ended.cause, ended.attempt) == (JobState.FAILED, "TypeNotAllowed", 0)
    status = product.spokejob(job, "Failed")["status"]
    assert (status["cause"], status.get("attempts", [])) == ("TypeNotAllowed", [])
    assert product.pods(job) == []
