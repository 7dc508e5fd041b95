"""Pods as people build them: images, init containers, sidecars, volumes, settings."""

from __future__ import annotations

import json
import threading

from tests.e2e.conftest import CLUSTER, Object
from tests.waiting import eventually

from spoke_jobs.model import JobState

from .play import Change, Play
from .shop_jobs import Payouts
from .situation import situation

WORKER = f"{CLUSTER}-worker"
REGISTRY_PORT = 30777
_REGISTRY = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        private = self.path.startswith("/v2/private")
        self.send_response(401 if private else 404)
        if private:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.end_headers()
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("", {REGISTRY_PORT}), Handler).serve_forever()
"""
_REGISTRY_MADE = threading.Lock()


def nothing(_pod: Object) -> None:
    """The template as the chart has it."""


def beside(name: str, script: str, **more: object) -> Change:
    """Another container with the job's image, which starts with it."""

    def change(pod: Object) -> None:
        pod["containers"].append(small(pod, name, script) | more)

    return change


def first(name: str, script: str, **more: object) -> Change:
    """An init container with the job's image."""

    def change(pod: Object) -> None:
        pod["initContainers"] = [small(pod, name, script) | more]

    return change


def small(pod: Object, name: str, script: str) -> Object:
    """A container that passes the Pod Security Standard `restricted`."""
    job = pod["containers"][0]
    return {
        "name": name,
        "image": job["image"],
        "command": ["sh", "-c", script],
        "securityContext": job["securityContext"],
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
    }


def job_container(**more: object) -> Change:
    """The job's container, with other fields."""
    return lambda pod: pod["containers"][0].update(more)


def variable(name: str, **more: object) -> Change:
    """The job's container, with one more variable."""

    def change(pod: Object) -> None:
        env = [item for item in pod["containers"][0]["env"] if item["name"] != name]
        pod["containers"][0]["env"] = [*env, {"name": name} | more]

    return change


def fails_until_corrected(play: Play, template: Change = nothing) -> None:
    """The job fails. Somebody corrects its PodTemplate, and tries the job again."""
    play.ends(JobState.FAILED)
    play.template(template)
    play.retry()
    play.ends()


@situation("endless classic sidecar", cause="none: the job has succeeded; the sidecar was stopped with its Job",
           remedy="no action is needed; make the sidecar a native one (restartPolicy Always) if it must end in order",
           final="succeeded at the first attempt", bound=90)  # fmt: skip
def classic_sidecar(play: Play) -> None:
    play.template(beside("log-shipper", "while true; do sleep 1; done"))
    play.say(
        "Its PodTemplate has a second container, log-shipper, which never ends. Does that keep the job from ending?"
    )
    play.dispatch()
    play.named("Succeeded")
    objects = f"kubectl get jobs,pods -l jobs.spoke.dev/spokejob={play.name}"
    play.show(objects)
    selector = f"jobs.spoke.dev/spokejob={play.name}"
    eventually(
        lambda: not (play.product.get("pods", "-l", selector) or {"items": []})["items"], "its pod is gone", within=90
    )
    play.show(objects)
    play.ends()


@situation("endless native sidecar", cause="none: the job has succeeded; Kubernetes stopped the sidecar",
           remedy="no action is needed", final="succeeded at the first attempt", bound=90)  # fmt: skip
def native_sidecar(play: Play) -> None:
    play.template(first("proxy", "while true; do sleep 1; done", restartPolicy="Always"))
    play.say("Its PodTemplate has a native sidecar, proxy, which never ends. Does that keep the job from ending?")
    play.dispatch()
    play.named("Succeeded")
    play.show(f"kubectl get jobs,pods -l jobs.spoke.dev/spokejob={play.name}")
    play.ends()


@situation("init container exits with 3", cause="InitFailed (container 'migrate', exit code 3)",
           remedy="read its output (no answer from db.shop); fix the init container or what it waits for; retry",
           final="failed, and succeeded after the retry", bound=90)  # fmt: skip
def init_exits(play: Play) -> None:
    play.template(first("migrate", "echo waiting for db.shop:5432; echo no answer, giving up; exit 3"))
    play.dispatch()
    play.named("InitFailed")
    play.show()
    fails_until_corrected(play)


@situation("init container hangs", cause="InitRunning (container 'wait-for-db'), then StartTimeout",
           remedy="read the container's output; fix the init container or what it waits for; retry",
           final="failed as StartTimeout, and succeeded after the retry")  # fmt: skip
def init_hangs(play: Play) -> None:
    play.template(first("wait-for-db", "echo waiting for db.shop:5432; while true; do sleep 1; done"))
    play.dispatch(start_timeout_seconds=60)
    play.named("InitRunning")
    play.show(f"kubectl logs -l jobs.spoke.dev/request-id={play.job.id} -c wait-for-db")
    fails_until_corrected(play)


@situation("native sidecar whose startup probe never succeeds", cause="SidecarStarting (sidecar 'proxy')",
           remedy="correct the sidecar or its startup probe in the PodTemplate, and delete the pod",
           final="succeeded at attempt 2")  # fmt: skip
def sidecar_never_starts(play: Play) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 2, "failureThreshold": 1000}
    loop = "echo listening; while true; do sleep 1; done"
    play.template(first("proxy", loop, restartPolicy="Always", startupProbe=probe))
    play.dispatch()
    play.named("SidecarStarting")
    play.show(f"kubectl logs -l jobs.spoke.dev/request-id={play.job.id} -c proxy")
    play.template(nothing)
    play.product.kubectl("delete", "pod", "-l", f"jobs.spoke.dev/request-id={play.job.id}", "--wait=false")
    play.ends()


@situation("missing PersistentVolumeClaim", cause="VolumeClaimMissing (batch-NN-data)",
           remedy="create the PersistentVolumeClaim, or correct the volume")  # fmt: skip
def no_claim(play: Play) -> None:
    claim = f"{play.part}-data"

    def with_volume(pod: Object) -> None:
        pod["volumes"] = [*pod.get("volumes", ()), {"name": "data", "persistentVolumeClaim": {"claimName": claim}}]

    play.template(with_volume)
    play.dispatch()
    play.named("VolumeClaimMissing")
    play.show()
    size = {"storage": "1Mi"}
    volume = f"{claim}-{play.product.namespace}"
    path = {"hostPath": {"path": "/tmp", "type": "Directory"}}
    class_ = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    play.create("PersistentVolume", volume, spec={"capacity": size} | class_ | path)
    play.create("PersistentVolumeClaim", claim, spec={"volumeName": volume, "resources": {"requests": size}} | class_)
    play.ends()


@situation("missing ConfigMap in an init container", cause="ContainerConfigError (container 'setup', ConfigMap)",
           remedy="create the ConfigMap that the message names, or fix the PodTemplate")  # fmt: skip
def no_config_map(play: Play) -> None:
    settings = f"{play.part}-settings"
    play.template(first("setup", "true", envFrom=[{"configMapRef": {"name": settings}}]))
    play.dispatch()
    play.named("ContainerConfigError")
    play.show()
    play.create("ConfigMap", settings, data={"CURRENCY": "EUR"})
    play.ends()


@situation("missing Secret in a variable", cause="ContainerConfigError (Secret)",
           remedy="create the Secret that the message names, or fix the PodTemplate")  # fmt: skip
def no_secret(play: Play) -> None:
    mail = f"{play.part}-mail"
    play.template(variable("SMTP_URL", valueFrom={"secretKeyRef": {"name": mail, "key": "url"}}))
    play.dispatch()
    play.named("ContainerConfigError")
    play.show()
    play.create("Secret", mail, stringData={"url": "smtp://mail.shop"})
    play.ends()


@situation("out of memory", cause="OutOfMemory (three times, with more memory each time)",
           remedy="raise the memory limit of the PodTemplate, or process less at a time; retry",
           final="failed at attempt 3, and succeeded after the retry", bound=90)  # fmt: skip
def out_of_memory(play: Play) -> None:
    amounts = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    play.template(job_container(resources=amounts))
    play.dispatch(Payouts(megabytes=400))
    play.named("OutOfMemory")
    play.show()
    fails_until_corrected(play, job_container(resources=amounts | {"limits": {"memory": "768Mi"}}))


@situation("wrong image tag", cause="ImageUnavailable (not found)",
           remedy="correct the image's tag in the PodTemplate")  # fmt: skip
def wrong_image(play: Play) -> None:
    registry(play)
    play.template(job_container(image=f"localhost:{REGISTRY_PORT}/shop:2026.11"))
    play.dispatch()
    play.named("ImageUnavailable")
    play.show()
    play.template(nothing)
    play.ends()


@situation("image pull Secret missing", cause="ImageUnavailable (the registry wants credentials; no Secret 'registry')",
           remedy="create the pull Secret that the PodTemplate names")  # fmt: skip
def no_pull_secret(play: Play) -> None:
    registry(play)
    image = f"localhost:{REGISTRY_PORT}/private/shop:1"
    found = play.product.get("podtemplate", "default")
    assert found
    own = found["template"]["spec"]["containers"][0]["image"]

    def private(pod: Object) -> None:
        pod["imagePullSecrets"] = [{"name": f"{play.part}-registry"}]
        pod["containers"][0] |= {"image": image, "imagePullPolicy": "IfNotPresent"}

    play.template(private)
    play.dispatch()
    play.named("ImageUnavailable")
    play.show()
    login = {"auths": {f"localhost:{REGISTRY_PORT}": {"auth": "c2hvcDpzaG9w"}}}
    data = {".dockerconfigjson": json.dumps(login)}
    play.create("Secret", f"{play.part}-registry", type="kubernetes.io/dockerconfigjson", stringData=data)
    # The registry has no image to give: the node gets it as if it had been pulled.
    on_node = ("docker", "exec", WORKER, "ctr", "--namespace", "k8s.io", "images")
    play.product.cluster.run(*on_node, "tag", "--force", f"docker.io/library/{own}", image)
    play.undo.callback(play.product.cluster.run, *on_node, "rm", image)
    play.ends()


@situation("image without spoke-jobs", cause="ContainerCannotRun (spoke-jobs is not in the image)",
           remedy="install spoke-jobs in the image, or correct the image of the PodTemplate; retry",
           final="failed at attempt 3, and succeeded after the retry")  # fmt: skip
def no_entrypoint(play: Play) -> None:
    database = play.product.get("statefulset", f"{play.product.release}-database")
    assert database
    image = database["spec"]["template"]["spec"]["containers"][0]["image"]
    play.template(lambda pod: pod["containers"][0].update(image=image, securityContext={"runAsUser": 10070}))
    play.dispatch()
    play.named("ContainerCannotRun")
    play.show()
    fails_until_corrected(play)


@situation("a setting that cannot be read", cause="BadSetup (SPOKE_LEASE_SECONDS)",
           remedy="correct SPOKE_LEASE_SECONDS in the PodTemplate; retry",
           final="failed at attempt 3, and succeeded after the retry")  # fmt: skip
def bad_setting(play: Play) -> None:
    play.template(variable("SPOKE_LEASE_SECONDS", value="ten"))
    play.dispatch()
    play.named("BadSetup")
    play.show()
    fails_until_corrected(play)


@situation("a function that the image does not declare", cause="UnknownJobType",
           remedy="deploy a release that declares the type (or correct the name); retry",
           final="failed, and succeeded after the retry")  # fmt: skip
def unknown_type(play: Play) -> None:
    play.template(variable("SPOKE_APP", value="shop_jobs:before"))
    play.dispatch({}, "invoice")
    play.named("UnknownJobType")
    play.show()
    fails_until_corrected(play)


@situation("runs longer than its timeout", cause="Timeout",
           remedy="find out what it waits for; raise the timeout or make it process less at a time; retry",
           final="failed, and succeeded after the retry", bound=90)  # fmt: skip
def too_long(play: Play) -> None:
    play.template(nothing)
    play.dispatch(play.waiting(), timeout_seconds=10)
    play.named("Timeout")
    play.show()
    play.ends(JobState.FAILED)
    play.open_gate()
    play.retry()
    play.ends()


def registry(play: Play) -> None:
    """An image registry that has nothing and asks for credentials in part, as the nodes reach it. It stays."""
    with _REGISTRY_MADE:
        if play.product.get("pod", "registry"):
            return
        found = play.product.get("podtemplate", "default")
        assert found
        pod = found["template"]["spec"]
        container = small(pod, "registry", "") | {"command": ["python", "-c", _REGISTRY]}
        labels = {"app": "registry"}
        port = {"port": REGISTRY_PORT, "nodePort": REGISTRY_PORT}
        for kind, spec in {
            "Pod": {"containers": [container], "securityContext": pod["securityContext"]},
            "Service": {"type": "NodePort", "selector": labels, "ports": [port]},
        }.items():
            metadata = {"name": "registry", "labels": labels}
            body = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
            play.product.kubectl("apply", "--filename=-", stdin=json.dumps(body))
        play.product.kubectl("wait", "--for=condition=Ready", "pod/registry", "--timeout=120s")
