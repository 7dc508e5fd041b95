"""Rules of the platform, of the scheduler and of the queue: policies, quotas, limits, locks, nodes."""

from __future__ import annotations

import json

from tests.e2e.conftest import CLUSTER, Object
from tests.waiting import eventually

from spoke_jobs.cluster.manifest import name_of

from .play import Play
from .pods import job_container, nothing
from .situation import situation

WORKER = f"{CLUSTER}-worker"
ADMISSION = "admissionregistration.k8s.io/v1"
PART = "shop.example/part"
"""A label of Jobs, by which a rule concerns one situation's only."""
JOBS = {"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"], "operations": ["CREATE"]}


def here(play: Play) -> Object:
    """The Jobs of this situation's template."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": play.product.namespace}},
        "objectSelector": {"matchLabels": {PART: play.part}},
    }


def dry_run(play: Play) -> str:
    """What the API server says to a Job of this situation's template."""
    container = {"name": "job", "image": "none", "resources": {"limits": {"memory": "1Mi"}}}
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    metadata = {"generateName": "dry-", "labels": {PART: play.part}}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    try:
        play.product.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(body))
    except AssertionError as error:
        return str(error)
    return ""


@situation("admission policy that requires a label", cause="PodRejected (the policy's message: set the label team)",
           remedy="set the label team in the PodTemplate (podTemplateDefaults.labels or commonLabels)")  # fmt: skip
def admission_policy(play: Play) -> None:
    name = f"require-team-{play.product.namespace}"
    rule = {
        "expression": "has(object.metadata.labels) && 'team' in object.metadata.labels",
        "message": "every workload must have the label team",
    }
    spec = {"matchConstraints": {"resourceRules": [JOBS]}, "validations": [rule]}
    play.create("ValidatingAdmissionPolicy", name, ADMISSION, spec=spec)
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here(play)}
    play.create("ValidatingAdmissionPolicyBinding", name, ADMISSION, spec=binding)
    eventually(lambda: "label team" in dry_run(play), "the policy is in force", within=240, every=2)
    play.template(nothing, {PART: play.part})
    play.dispatch()
    play.named("PodRejected")
    play.show()
    play.template(nothing, {PART: play.part, "team": "payments"})
    play.ends()


@situation("dead admission webhook", cause="WebhookAway (policy.shop.example)",
           remedy="repair the webhook that the message names, or remove its configuration")  # fmt: skip
def dead_webhook(play: Play) -> None:
    name = f"policy-{play.product.namespace}"
    service = {"namespace": play.product.namespace, "name": "policy", "path": "/validate"}
    hook = {
        "name": "policy.shop.example",
        "clientConfig": {"service": service},
        "rules": [JOBS],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    }
    play.create("ValidatingWebhookConfiguration", name, ADMISSION, webhooks=[hook | here(play)])
    eventually(lambda: "policy.shop.example" in dry_run(play), "the webhook is called", within=120, every=2)
    play.template(nothing, {PART: play.part})
    play.dispatch()
    play.named("WebhookAway")
    play.show()
    play.product.kubectl("delete", "validatingwebhookconfiguration", name)
    play.ends()


@situation("LimitRange that refuses the pod", cause="PodRejected (maximum memory usage per Container is 1536Mi)",
           remedy="lower the memory limit in the PodTemplate, or raise the LimitRange")  # fmt: skip
def limit_range(play: Play) -> None:
    play.create("LimitRange", "containers", spec={"limits": [{"type": "Container", "max": {"memory": "1536Mi"}}]})
    play.template(job_container(resources={"requests": {"memory": "64Mi"}, "limits": {"memory": "2Gi"}}))
    play.dispatch()
    play.named("PodRejected")
    play.show()
    play.template(nothing)
    play.ends()


@situation("ResourceQuota of zero", cause="QuotaExceeded (quota 'batch', the quota of pods is 0)",
           remedy="raise the quota; nothing else: it starts by itself within about a minute", bound=60)  # fmt: skip
def quota_of_zero(play: Play) -> None:
    of_class = f"{play.part}-{play.product.namespace}"
    play.create("PriorityClass", of_class, "scheduling.k8s.io/v1", value=0, preemptionPolicy="Never")
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": [of_class]}
    quota = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [scope]}}
    play.create("ResourceQuota", "batch", spec=quota)
    eventually(lambda: (play.product.get("quota", "batch") or {}).get("status", {}).get("used"), "the quota counts")
    play.template(lambda pod: pod.update(priorityClassName=of_class))
    play.dispatch()
    play.named("QuotaExceeded")
    play.show()
    play.product.kubectl("patch", "resourcequota", "batch", "--patch", '{"spec": {"hard": {"pods": "10"}}}')
    play.ends()


@situation("a nodeSelector that no node matches", cause="NoNodeMatches",
           remedy="label a node shop.example/pool=batch, or correct the nodeSelector of the PodTemplate")  # fmt: skip
def no_such_node(play: Play) -> None:
    play.template(lambda pod: pod.update(nodeSelector={"shop.example/pool": play.part}))
    play.dispatch()
    play.named("NoNodeMatches")
    play.show()
    play.product.kubectl("label", "node", WORKER, f"shop.example/pool={play.part}")
    play.undo.callback(play.product.kubectl, "label", "node", WORKER, "shop.example/pool-")
    play.ends()


@situation("a pod too large for any node", cause="Unschedulable (Insufficient cpu)",
           remedy="request less CPU in the PodTemplate, or add a larger node")  # fmt: skip
def too_large(play: Play) -> None:
    play.template(job_container(resources={"requests": {"cpu": "40"}}))
    play.dispatch()
    play.named("Unschedulable")
    play.show()
    play.template(nothing)
    play.ends()


@situation("the node is full", cause="ClusterFull (shop.example/license is short)",
           remedy="no action is needed: it starts when the other job ends; sooner with another node or licence",
           bound=60)  # fmt: skip
def node_full(play: Play) -> None:
    path = "/status/capacity/shop.example~1license"
    patch = ("patch", "node", WORKER, "--subresource=status", "--type=json", "--patch")
    play.product.kubectl(*patch, json.dumps([{"op": "add", "path": path, "value": "1"}]))
    play.undo.callback(play.product.kubectl, *patch, json.dumps([{"op": "remove", "path": path}]))

    def licensed(pod: Object) -> None:
        pod["containers"][0]["resources"] = {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "512Mi", "shop.example/license": "1"},
        }

    play.template(licensed)
    play.runs(play.dispatch(play.waiting()))
    play.dispatch()
    play.named("ClusterFull")
    play.show()
    play.open_gate()
    play.ends()


@situation("PodTemplate missing", cause="TemplateMissing",
           remedy="install the chart that has the PodTemplate, or correct its name")  # fmt: skip
def no_template(play: Play) -> None:
    play.dispatch(pod_template="nightly")
    play.named("TemplateMissing")
    play.show("kubectl get podtemplates default")
    play.template(nothing, name="nightly")
    play.ends()


@situation("hostPath, forbidden by Pod Security", cause="PodRejected (violates PodSecurity restricted: hostPath)",
           remedy="remove the hostPath volume from the PodTemplate")  # fmt: skip
def host_path(play: Play) -> None:
    volume = {"name": "scratch", "hostPath": {"path": "/var/tmp"}}
    play.template(lambda pod: pod.update(volumes=[*pod.get("volumes", ()), volume]))
    play.dispatch()
    play.named("PodRejected")
    play.show()
    play.template(nothing)
    play.ends()


@situation("queue paused by a SpokeLimit", cause="Paused (SpokeLimit month-end, by finance)",
           remedy="end the pause, once its reason is gone: delete the SpokeLimit or its field paused")  # fmt: skip
def paused(play: Play) -> None:
    pause = {"reason": "month-end close: no payouts until the books are signed", "by": "finance"}
    spec = {"scope": "queue:7:payouts", "paused": pause}
    play.create("SpokeLimit", "month-end", "jobs.spoke.dev/v1", spec=spec)
    play.template(nothing)
    play.dispatch(queue_name="7:payouts")
    play.named("Paused")
    play.show("kubectl get spokelimits")
    play.product.kubectl("delete", "spokelimit", "month-end")
    play.ends()


@situation("queue locked by a job that hangs", cause="QueueLocked (by the other job, which runs on)",
           remedy="look at the other job; if it hangs, `spoke-jobs cancel` it", bound=60)  # fmt: skip
def locked(play: Play) -> None:
    play.template(nothing)
    queue: Object = {"queue_name": "12:ledger", "locks_queue": True}
    other = play.dispatch(play.waiting(), **queue)
    play.runs(other)
    play.dispatch(**queue)
    play.named("QueueLocked")
    eventually(lambda: play.age > 60, "a while", within=120)  # the other job reports the same page all the time
    play.show(f"kubectl get spokejob {name_of(other)}", ids=(other.id,))
    play.product.ledger.cancel(other.id)
    play.ends()


@situation("scheduling gate that nobody removes", cause="SchedulingGated (shop.example/budget)",
           remedy="see why the controller does not remove the gate; or remove it from the pod or the PodTemplate",
           bound=60)  # fmt: skip
def gated(play: Play) -> None:
    play.template(lambda pod: pod.update(schedulingGates=[{"name": "shop.example/budget"}]))
    play.dispatch()
    play.named("SchedulingGated")
    play.show()
    pod = play.product.pods(play.job)[0]["metadata"]["name"]
    patch = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
    play.product.kubectl("patch", "pod", pod, "--type=json", f"--patch={patch}")
    play.ends()
