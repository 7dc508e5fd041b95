"""Who may reach whom, by the NetworkPolicies as rendered; tests/e2e/test_network.py sees the network keep to them."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import APP_VALUES, WITH_PODS, Helm, Object, named, of_kind, pod_labels

DNS = {"to kube-system and 169.254.20.10/32": ["UDP 53", "TCP 53"]}
DATABASE = {"anywhere": ["TCP 5432"]}
API_SERVER = {"anywhere": ["TCP 443", "TCP 6443"]}
TASKS = {"to tasks": ["TCP 8080"]}


def policies_of(objects: list[Object]) -> dict[str, Object]:
    """By component."""
    found = of_kind(objects, "NetworkPolicy")
    return {item["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: item for item in found}


def rules(policy: Object, direction: str) -> list[tuple[str, list[str]]]:
    """Each rule in words: to or from whom, and at which ports."""
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    peers = {"egress": "to", "ingress": "from"}[direction]
    found = policy["spec"][direction] or []
    return [(words_for(peers, rule.get(peers)), ports_in_words(rule)) for rule in found]


def words_for(direction: str, peers: list[Object] | None) -> str:
    if not peers:
        return "anywhere"
    return f"{direction} {' and '.join(word_for(peer) for peer in peers)}"


def word_for(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    labels = (peer.get("podSelector") or peer["namespaceSelector"]).get("matchLabels", {})
    known = ("app.kubernetes.io/component", "kubernetes.io/metadata.name", "app.kubernetes.io/instance")
    return str(next((labels[label] for label in known if label in labels), labels))


def selects(selector: Object, labels: Object) -> bool:
    """Whether Kubernetes selects a pod with these labels. NotIn also selects pods without the label."""
    excluded = selector.get("matchExpressions", [])
    assert {each["operator"] for each in excluded} <= {"NotIn"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) not in each["values"] for each in excluded
    )


def ports_in_words(rule: Object) -> list[str]:
    return [f"{port['protocol']} {port['port']}" for port in rule.get("ports", [])]


@pytest.mark.parametrize(
    ("chart", "values"),
    [("spoke-operator", {}), ("spoke-app", APP_VALUES), ("spoke-app", APP_VALUES | {"tasks": {"enabled": False}})],
)
def test_there_is_one_for_every_pod(helm: Helm, chart: str, values: Object) -> None:
    objects = helm.render(chart, values)
    policies = policies_of(objects)
    pods = {pod_labels(item)["app.kubernetes.io/component"] for item in of_kind(objects, *WITH_PODS)}
    assert policies.keys() == pods
    for item in of_kind(objects, *WITH_PODS):
        selector = policies[pod_labels(item)["app.kubernetes.io/component"]]["spec"]["podSelector"]["matchLabels"]
        assert selector.items() <= pod_labels(item).items()


def test_operator_reaches_the_api_server_and_only_its_own_test_reaches_it(helm: Helm) -> None:
    policies = policies_of(helm.render("spoke-operator"))
    assert rules(policies["operator"], "egress") == [*DNS.items(), *API_SERVER.items()]
    assert rules(policies["operator"], "ingress") == [("from test", ["TCP 8080"])]
    assert rules(policies["test"], "ingress") == []


def test_application_reaches_its_database_and_itself(helm: Helm) -> None:
    policies = policies_of(helm.render("spoke-app", APP_VALUES))
    base = [*DNS.items(), *DATABASE.items()]
    assert {name: rules(policy, "egress") for name, policy in policies.items()} == {
        "sync": [*base, *API_SERVER.items()],
        "job": [*base, *TASKS.items()],
        "tasks": [*base, *TASKS.items()],
        "migrations": base,
        "test": base,
    }
    assert {name: rules(policy, "ingress") for name, policy in policies.items()} == {
        "sync": [],
        "job": [],
        "tasks": [("from rel and rel", ["TCP 8080"])],
        "migrations": [],
        "test": [],
    }


@pytest.mark.parametrize("override", [{}, {"nameOverride": "background"}])
def test_pods_that_send_no_tasks_do_not_reach_the_task_deployment(helm: Helm, override: Object) -> None:
    """Only the chart's own: the application may call a Deployment of its own dashboard or notify."""
    more = {
        "dashboard": {"enabled": True, "hosts": ["jobs.example.com"], "token": {"secretName": "token"}},
        "workers": {"small": {}},
    }
    objects = helm.render("spoke-app", APP_VALUES | more | override)
    (rule,) = policies_of(objects)["tasks"]["spec"]["ingress"]

    def reach(labels: Object) -> bool:
        return any(selects(peer["podSelector"], labels) for peer in rule["from"])

    found = [pod_labels(item) for item in of_kind(objects, *WITH_PODS)]
    senders = {labels["app.kubernetes.io/component"] for labels in found if reach(labels)}
    assert senders == {"tasks", "job", "worker-small"}
    silent = {labels["app.kubernetes.io/component"] for labels in found} - senders
    assert silent == {"sync", "migrations", "test", "dashboard"}
    name = {"app.kubernetes.io/name": found[0]["app.kubernetes.io/name"]}
    release = {"app.kubernetes.io/instance": "rel"}
    assert not reach(release | name | {"app.kubernetes.io/component": "notify"})
    for component in (*silent, "notify"):
        own = release | {"app.kubernetes.io/component": component}
        assert reach(own)
        assert reach(own | {"app.kubernetes.io/name": "shop"})
        assert not reach(own | {"app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": "other"})


def test_tasks_that_go_by_tokens_reach_the_api_server_which_reviews_them(helm: Helm) -> None:
    policies = policies_of(helm.render("spoke-app", APP_VALUES | {"tasks": {"tokens": {"enabled": True}}}))
    assert rules(policies["tasks"], "egress") == [*DNS.items(), *DATABASE.items(), *TASKS.items(), *API_SERVER.items()]
    assert rules(policies["job"], "egress") == [*DNS.items(), *DATABASE.items(), *TASKS.items()]


def test_what_values_allow_comes_on_top(helm: Helm) -> None:
    given = {
        "egress": {"jobs": [{"to": [{"podSelector": {"matchLabels": {"of": "{{ .Release.Name }}"}}}]}], "tasks": [{}]},
        "ingress": {
            "tasks": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
            "metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
        "database": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [6432]},
        "apiServer": {"to": [{"ipBlock": {"cidr": "172.18.0.2/32"}}], "ports": [6443]},
    }
    policies = policies_of(helm.render("spoke-app", APP_VALUES | {"networkPolicy": given}))
    assert rules(policies["job"], "egress")[-1] == ("to {'of': 'rel'}", [])
    assert rules(policies["tasks"], "egress")[-1] == ("anywhere", [])
    assert rules(policies["sync"], "egress")[1:] == [
        ("to 10.1.2.3/32", ["TCP 6432"]),
        ("to 172.18.0.2/32", ["TCP 6443"]),
    ]
    assert rules(policies["tasks"], "ingress") == [
        ("from rel and rel and {'app': 'shop'}", ["TCP 8080"]),
        ("from monitoring", ["TCP 8080"]),
    ]
    assert rules(policies["sync"], "ingress") == [("from monitoring", ["TCP 8080"])]
    assert rules(policies["job"], "ingress") == []
    metrics = {"networkPolicy": {"ingress": {"metrics": given["ingress"]["metrics"]}}}
    operator = policies_of(helm.render("spoke-operator", metrics))["operator"]
    assert rules(operator, "ingress") == [("from test and monitoring", ["TCP 8080"])]


def test_migrations_have_theirs_before_they_run(helm: Helm) -> None:
    """A hook that runs first finds none of the release's objects, so it brings its policy along."""
    objects = helm.render("spoke-app", APP_VALUES | {"migrations": {"hookWeight": 3}})
    policy = policies_of(objects)["migrations"]
    job = named(objects, "Job", "rel-spoke-app-migrate")
    notes, jobs_notes = policy["metadata"]["annotations"], job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == jobs_notes["helm.sh/hook"]
    assert int(notes["helm.sh/hook-weight"]) < int(jobs_notes["helm.sh/hook-weight"])
    assert "hook-succeeded" in notes["helm.sh/hook-delete-policy"], "nothing else removes a hook's object"


def test_they_can_be_left_out(helm: Helm) -> None:
    for chart, values in (("spoke-operator", {}), ("spoke-app", APP_VALUES)):
        assert not of_kind(helm.render(chart, values | {"networkPolicy": {"enabled": False}}), "NetworkPolicy")


def test_examples_tasks_reach_the_carrier_and_its_jobs_do_not(helm: Helm) -> None:
    objects = helm.render("texting", release="texting")
    policies = policies_of(objects)
    assert rules(policies["tasks"], "egress")[-1] == ("to carrier", ["TCP 8090"])
    assert "to carrier" not in dict(rules(policies["job"], "egress"))
    assert rules(policies["sync"], "egress")[1] == ("to database", ["TCP 5432"])
    assert rules(policies["tasks"], "ingress") == [("from texting and texting", ["TCP 8080"])]
    web = pod_labels(named(objects, "Deployment", "texting"))
    assert web["app.kubernetes.io/instance"] == "texting"
