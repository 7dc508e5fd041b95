"""The task deployment over TLS: who gets which part of the Secret, and that everybody uses the same scheme."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.charts.conftest import (
    APP_VALUES,
    WITH_PODS,
    Helm,
    Object,
    Refused,
    environment_of,
    named,
    of_kind,
    pod_of,
)

TASKS = "rel-spoke-app-tasks"


def rendered(helm: Helm, tls: Object, **tasks: Any) -> list[Object]:
    values = {"tasks": APP_VALUES["tasks"] | {"tls": {"enabled": True} | tls} | tasks}
    return helm.render("spoke-app", APP_VALUES | values | {"monitoring": {"serviceMonitor": {"enabled": True}}})


def volumes_of(item: Object) -> dict[str, Object]:
    return {each["name"]: each for each in pod_of(item).get("volumes", ())}


def test_the_key_is_only_in_the_task_deployment_and_all_others_verify_it(helm: Helm) -> None:
    objects = rendered(helm, {"secretName": "shop-tls"})
    senders = 0
    for item in of_kind(objects, *WITH_PODS):
        serves = item["metadata"]["name"] == TASKS
        (container,) = pod_of(item)["containers"]
        environment = environment_of(container)
        mounts = {each["mountPath"]: each["name"] for each in container.get("volumeMounts", ())}
        secrets = {
            name: [key["key"] for key in volume["secret"]["items"]]
            for name, volume in volumes_of(item).items()
            if volume.get("secret", {}).get("secretName") == "shop-tls"
        }
        sends = "SPOKE_TASKS_URL" in environment and not item["metadata"]["name"].endswith("-sync")  # it sends none
        senders += sends
        expected = {"spoke-tasks-ca": ["ca.crt"]} if sends else {}
        assert secrets == (expected | {"spoke-tasks-tls": ["tls.crt", "tls.key"]} if serves else expected)
        if sends:
            assert environment["SPOKE_TASKS_URL"] == f"https://{TASKS}:8080"
            assert mounts[environment["SPOKE_TASKS_CA_FILE"].rpartition("/")[0]] == "spoke-tasks-ca"
        if serves:
            assert mounts[environment["SPOKE_TASKS_TLS_CERT_FILE"].rpartition("/")[0]] == "spoke-tasks-tls"
            assert environment["SPOKE_TASKS_TLS_KEY_FILE"].endswith("/tls.key")
            probes = [container[probe]["httpGet"] for probe in ("readinessProbe", "livenessProbe")]
            assert [(probe["scheme"], probe["port"]) for probe in probes] == [("HTTPS", "https")] * 2
            assert container["ports"] == [{"name": "https", "containerPort": 8080}]
    assert senders >= 3
    assert named(objects, "Service", TASKS)["spec"]["ports"][0]["targetPort"] == "https"
    (endpoint,) = named(objects, "ServiceMonitor", TASKS)["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["port"]) == ("https", "https")
    assert endpoint["tlsConfig"] == {"serverName": TASKS, "ca": {"secret": {"name": "shop-tls", "key": "ca.crt"}}}
    assert of_kind(objects, "Certificate") == []


def test_cert_manager_makes_the_secret_for_the_name_that_dispatchers_use(helm: Helm) -> None:
    issuer = {"name": "internal", "kind": "ClusterIssuer"}
    certificate = {"create": True, "issuerRef": issuer, "annotations": {"team": "shop"}}
    objects = rendered(helm, {"certificate": certificate}, serviceAnnotations={"issued": "by-others"})
    (made,) = of_kind(objects, "Certificate")
    assert made["metadata"]["annotations"] == {"team": "shop"}
    assert made["spec"]["issuerRef"] == issuer | {"group": "cert-manager.io"}
    assert TASKS in made["spec"]["dnsNames"]
    secret = volumes_of(named(objects, "Deployment", TASKS))["spoke-tasks-tls"]["secret"]
    assert made["spec"]["secretName"] == secret["secretName"] == f"{TASKS}-tls"
    assert named(objects, "Service", TASKS)["metadata"]["annotations"] == {"issued": "by-others"}
    with pytest.raises(Refused, match=r"tasks\.tls\.certificate\.issuerRef\.name"):
        rendered(helm, {"certificate": {"create": True}})


def test_the_authority_may_come_from_elsewhere_or_be_the_image_s(helm: Helm) -> None:
    bundle = rendered(helm, {"ca": {"configMapName": "bundle", "key": "root.pem"}})
    template = volumes_of(named(bundle, "PodTemplate", "default"))["spoke-tasks-ca"]["configMap"]
    assert template == {"name": "bundle", "items": [{"key": "root.pem", "path": "ca.crt"}]}
    system = rendered(helm, {"ca": {"key": ""}})
    pod = named(system, "PodTemplate", "default")
    assert "spoke-tasks-ca" not in volumes_of(pod)
    assert "SPOKE_TASKS_CA_FILE" not in environment_of(pod_of(pod)["containers"][0])
    with pytest.raises(Refused, match=r"tasks\.tls\.ca"):
        rendered(helm, {"ca": {"configMapName": "a", "secretName": "b"}})
