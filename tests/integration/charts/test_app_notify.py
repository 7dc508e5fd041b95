"""`spoke-jobs notify` in the application's chart."""

from __future__ import annotations

from tests.commands import run_command

from spoke_jobs.settings import Settings

from .conftest import APP_VALUES, Helm, Object, environment_of, merged, named, of_kind, pod_of

BOTH: Object = {
    "enabled": True,
    "name": "{{ .Release.Name }} of {{ .Release.Namespace }}",
    "dashboardUrl": "https://{{ .Release.Name }}.example",
    "webhook": {"secretName": "{{ .Release.Name }}-hook", "signingKey": "signing"},
    "slack": {"secretName": "shop-slack"},
    "args": ["--period", "30m", "--messages"],
}


def render(helm: Helm, notify: Object, **values: object) -> list[Object]:
    return helm.render("spoke-app", merged(APP_VALUES, {"notify": notify, **values}), namespace="shop")


def pod(objects: list[Object]) -> Object:
    return pod_of(named(objects, "Deployment", "rel-spoke-app-notify"))


def test_it_gets_its_options(helm: Helm) -> None:
    objects = render(helm, BOTH)
    (container,) = pod(objects)["containers"]
    help_ = run_command([*container["command"][1:], *container["args"], "--help"])
    assert help_.exit_code == 0, "the command line knows each option"
    found = environment_of(container)
    assert found["SPOKE_NOTIFY_NAME"] == "rel of shop"
    assert found["SPOKE_NOTIFY_DASHBOARD_URL"] == "https://rel.example"
    known = {str(field.validation_alias) for field in Settings.model_fields.values()} | {"SPOKE_HEALTH_PORT"}
    assert found.keys() <= known
    assert found["SPOKE_HEALTH_PORT"] == str(container["ports"][0]["containerPort"])


def test_with_one_receiver_the_other_one_is_not_set(helm: Helm) -> None:
    (container,) = pod(render(helm, {"enabled": True, "slack": {"secretName": "shop-slack"}}))["containers"]
    assert {name for name in environment_of(container) if "NOTIFY" in name} == {"SPOKE_NOTIFY_SLACK_URL"}
    assert "args" not in container


def test_it_has_no_credentials_of_the_cluster(helm: Helm) -> None:
    objects = render(helm, BOTH)
    assert pod(objects)["automountServiceAccountToken"] is False
    account = pod(objects)["serviceAccountName"]
    assert named(objects, "ServiceAccount", account)["automountServiceAccountToken"] is False
    assert account not in str(of_kind(objects, "RoleBinding", "ClusterRoleBinding"))
    given = render(helm, BOTH, serviceAccounts={"notify": {"create": False, "name": "given"}})
    assert pod(given)["serviceAccountName"] == "given"
    assert "rel-spoke-app-notify" not in {item["metadata"]["name"] for item in of_kind(given, "ServiceAccount")}


def test_it_reaches_dns_the_database_and_receivers(helm: Helm) -> None:
    def ports(objects: list[Object]) -> list[list[int]]:
        policy = named(objects, "NetworkPolicy", "rel-spoke-app-notify")["spec"]
        assert policy["ingress"] == []
        return [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]]

    assert ports(render(helm, BOTH)) == [[53], [5432], [443]]
    narrow = {"egress": {"notify": [{"ports": [{"port": 8443}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}]}}
    assert ports(render(helm, BOTH, networkPolicy=narrow)) == [[53], [5432], [8443]]
    assert ports(render(helm, BOTH, networkPolicy={"egress": {"notify": []}})) == [[53], [5432]]
