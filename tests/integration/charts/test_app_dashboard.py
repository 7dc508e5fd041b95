"""The dashboard of the application's chart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.commands import run_command

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import Settings
from spoke_jobs.web import progress
from spoke_jobs.web.serve_dashboard import PROGRESS as PATH

from .conftest import APP_VALUES, Helm, Object, Refused, environment_of, merged, named, of_kind, pod_labels, pod_of
from .test_network_policies import API_SERVER, DATABASE, DNS, policies_of, rules

NAME = "rel-spoke-app-dashboard"
USERS = "rel-spoke-app-progress"
TOKEN: Object = {"enabled": True, "hosts": ["jobs.example.com"], "token": {"secretName": "{{ .Release.Name }}-token"}}
PROXY: Object = {
    "enabled": True,
    "hosts": ["jobs.example.com"],
    "proxy": {"cidrs": ["10.0.0.0/8", "fd00::/8"], "header": "X-Forwarded-User"},
}
OIDC: Object = {
    "enabled": True,
    "hosts": ["jobs.example.com", "jobs.internal"],
    "oidc": {
        "issuer": "https://sso.example.com/realms/shop",
        "clientId": "{{ .Release.Name }}",
        "clientSecret": {"secretName": "{{ .Release.Name }}-oidc"},
        "sessionKey": {"secretName": "session"},
        "groups": ["ops"],
    },
}
HOSTILE = 'a: "b" # \\{{ 1 }}'
PROGRESS: Object = TOKEN | {
    "progress": {"enabled": True, "key": {"secretName": "progress"}, "hosts": ["app.example.com", "example.com"]},
}
KEY: Object = {"proxy": {"sessionKey": {"secretName": "session", "secretKey": "hex"}}}


def render(helm: Helm, dashboard: Object = TOKEN, **values: object) -> list[Object]:
    return helm.render("spoke-app", merged(APP_VALUES | values, {"dashboard": dashboard}))


def container_of(objects: list[Object]) -> Object:
    (container,) = pod_of(named(objects, "Deployment", NAME))["containers"]
    found: Object = container
    return found


def options_of(container: Object) -> list[str]:
    """What the command is given. The command line knows each option."""
    args: list[str] = container["args"]
    assert container["command"] == ["spoke-jobs", "web"]
    assert run_command(["web", *args, "--help"]).exit_code == 0
    return args[2:]


DIRECTORY = "/var/run/secrets"
HOST = "--host-name=jobs.example.com"
BY_TOKEN = [HOST, f"--token-file={DIRECTORY}/spoke-dashboard/secret"]
BY_PROXY = [HOST, "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=fd00::/8", "--user-header=X-Forwarded-User"]
BY_OIDC = [
    HOST,
    "--host-name=jobs.internal",
    "--oidc-issuer=https://sso.example.com/realms/shop",
    "--oidc-client-id=rel",
    f"--oidc-client-secret-file={DIRECTORY}/spoke-oidc/secret",
    f"--session-key-file={DIRECTORY}/spoke-dashboard/secret",
]
ADMITTED: Object = {
    "readOnlyGroups": ["support", HOSTILE],
    "groupClaim": "realm_access.roles",
    "userClaim": "upn",
    "scopes": ["roles"],
    "caFile": "/etc/sso/ca.crt",
    "publicUrl": "https://jobs.internal:8443",
}
NARROW: Object = {"readOnly": True, "organizations": [7, 20_000_000], "payloads": True, "hideOutput": True}
ORIGINS: Object = {"origins": ["https://app.example.com", "http://[::1]:8000"], "messages": True}


@pytest.mark.parametrize(
    ("dashboard", "options", "secrets"),
    [
        (TOKEN, BY_TOKEN, {"spoke-dashboard": ("rel-token", "token")}),
        (PROXY, BY_PROXY, {}),
        (
            merged(PROXY | {"replicas": 2}, KEY),
            [*BY_PROXY, f"--session-key-file={DIRECTORY}/spoke-dashboard/secret"],
            {"spoke-dashboard": ("session", "hex")},
        ),
        (
            OIDC,
            [*BY_OIDC, "--public-url=https://jobs.example.com", "--oidc-group=ops", "--oidc-group-claim=groups"],
            {"spoke-oidc": ("rel-oidc", "client-secret"), "spoke-dashboard": ("session", "session-key")},
        ),
        (
            merged(OIDC, {"oidc": ADMITTED}),
            [
                *BY_OIDC,
                "--public-url=https://jobs.internal:8443",
                "--oidc-group=ops",
                "--oidc-read-only-group=support",
                f"--oidc-read-only-group={HOSTILE}",
                "--oidc-group-claim=realm_access.roles",
                "--oidc-user-claim=upn",
                "--oidc-scope=roles",
                "--oidc-ca-file=/etc/sso/ca.crt",
            ],
            None,
        ),
        (
            TOKEN | NARROW,
            [*BY_TOKEN, "--read-only", "--organization=7", "--organization=20000000", "--payloads", "--hide-output"],
            None,
        ),
        (
            merged(PROGRESS, {"progress": ORIGINS}),
            [
                *(*BY_TOKEN, "--progress", "--progress-origin=https://app.example.com"),
                *("--progress-origin=http://[::1]:8000", "--progress-messages"),
            ],
            None,
        ),
        (merged(PROGRESS, {"progress": ORIGINS | {"enabled": False}}), BY_TOKEN, None),
    ],
)
def test_it_gets_its_options_and_the_secrets_that_they_name(
    helm: Helm, dashboard: Object, options: list[str], secrets: dict[str, tuple[str, str]] | None
) -> None:
    objects = render(helm, dashboard)
    container, pod = container_of(objects), pod_of(named(objects, "Deployment", NAME))
    assert container["args"][:2] == ["--host=0.0.0.0", "--port=8080"]
    assert options_of(container) == options
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    found = {mounts[item["name"]]: item["secret"] for item in pod["volumes"] if "secret" in item}
    if secrets is not None:
        assert found == {
            f"{DIRECTORY}/{name}": {"secretName": secret, "items": [{"key": key, "path": "secret"}]}
            for name, (secret, key) in secrets.items()
        }
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": container["ports"][0]["name"]}


def test_whom_it_reaches_and_who_reaches_it(helm: Helm) -> None:
    def policy(dashboard: Object, **network: object) -> Object:
        return policies_of(render(helm, dashboard, networkPolicy=network))["dashboard"]

    usual = [*DNS.items(), *DATABASE.items(), *API_SERVER.items()]
    assert rules(policy(TOKEN), "ingress") == []
    assert rules(policy(TOKEN), "egress") == usual
    assert rules(policy(OIDC), "egress") == [*usual, ("anywhere", ["TCP 443"])]
    own = {"oidc": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 8443}]}]}
    assert rules(policy(OIDC, egress=own), "egress") == [*usual, ("to 10.1.2.3/32", ["TCP 8443"])]
    assert rules(policy(TOKEN, egress=own), "egress") == usual
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "{{ .Release.Name }}-ingress"}}}
    named_ = policy(TOKEN, ingress={"dashboard": [peer]})
    assert rules(named_, "ingress") == [("from rel-ingress", ["TCP 8080"])]
    objects = render(helm, TOKEN | {"readsCluster": False})
    assert pod_of(named(objects, "Deployment", NAME))["automountServiceAccountToken"] is False
    assert NAME not in {item["metadata"]["name"] for item in of_kind(objects, "RoleBinding")}
    assert rules(policies_of(objects)["dashboard"], "egress") == usual[:2]


def test_the_origins_are_those_that_the_process_takes(helm: Helm, tmp_path: Path) -> None:
    fine = ["https://app.example.com", "http://localhost:8000", "https://[fd00::1]", "http://a"]
    progress(origins=fine, key="k" * 32, database=f"sqlite:///{tmp_path}/jobs.sqlite3").close()
    assert render(helm, merged(PROGRESS, {"progress": {"origins": fine}}))
    origins = ["https://a.example/", "a.example", "*", "null", "https://A.example", "https://a:b", "ftp://a", ""]
    for origin in origins:
        with pytest.raises(ConfigurationError, match="is no origin"):
            progress(origins=[origin])
    with pytest.raises(Refused) as caught:
        render(helm, merged(PROGRESS, {"progress": {"origins": origins}}))
    named = {int(number) for number in re.findall(r"\borigins[./](\d+)", str(caught.value))}
    assert named == set(range(len(origins)))


def test_its_database_role_may_be_another_one(helm: Helm) -> None:
    own = {"database": {"secretName": "shop-database", "dashboard": {"secretName": "shop-reader", "secretKey": "dsn"}}}
    found = environment_of(container_of(render(helm, **own)))
    assert found["SPOKE_DATABASE_URL"] == {"secretKeyRef": {"name": "shop-reader", "key": "dsn"}}
    assert found["JOB_RUNNER"] == "kubernetes", "limits that the operator does not obey are refused"
    assert found["SPOKE_APP"] == "shop.jobs", "schedules can be run"
    assert not {name for name in found if "TASKS" in name}, "it dispatches no task"
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    assert found.keys() <= known
    as_file = render(helm, secretsAsFiles=True, **own)
    assert environment_of(container_of(as_file))["SPOKE_DATABASE_URL_FILE"] == "/var/run/secrets/spoke-database/url"
    volumes = {item["name"]: item for item in pod_of(named(as_file, "Deployment", NAME))["volumes"]}
    assert volumes["spoke-database"]["secret"]["secretName"] == "shop-reader"


def test_it_reads_the_cluster_by_the_rights_of_readers(helm: Helm) -> None:
    objects = render(helm)
    pod = pod_of(named(objects, "Deployment", NAME))
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == (NAME, True)
    binding = named(objects, "RoleBinding", NAME)
    assert binding["roleRef"]["name"] == named(objects, "Role", "rel-spoke-app-reader")["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [NAME]
    given = render(helm, serviceAccounts={"dashboard": {"create": False, "name": "given"}})
    assert NAME not in {item["metadata"]["name"] for item in of_kind(given, "ServiceAccount")}
    assert pod_of(named(given, "Deployment", NAME))["serviceAccountName"] == "given"
    assert [subject["name"] for subject in named(given, "RoleBinding", NAME)["subjects"]] == ["given"]


def test_its_service_leads_to_its_pods(helm: Helm) -> None:
    objects = render(helm, TOKEN | {"serviceAnnotations": {"a": "b"}})
    deployment, service = named(objects, "Deployment", NAME), named(objects, "Service", NAME)
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"].items() <= pod_labels(deployment).items()
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http"}]
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert not of_kind(objects, "Ingress", "HTTPRoute")


GATEWAY: Object = {"name": "{{ .Release.Name }}-public", "namespace": "gateways"}
WAYS: Object = {
    "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "{{ .Release.Name }}-tls"},
    "httpRoute": {"enabled": True, "parentRefs": [GATEWAY], "annotations": {"a": "b"}},
}


@pytest.mark.parametrize(
    ("dashboard", "name", "hosts", "path"),
    [
        (TOKEN | {"hosts": ["jobs.example.com", "b.test"]} | WAYS, NAME, ["jobs.example.com", "b.test"], "/"),
        (merged(PROGRESS, {"progress": WAYS}), USERS, ["app.example.com", "example.com"], PATH),
    ],
    ids=["dashboard", "progress"],
)
def test_an_ingress_and_a_route_for_the_hosts(
    helm: Helm, dashboard: Object, name: str, hosts: list[str], path: str
) -> None:
    """At the application's hosts there is progress only."""
    objects = render(helm, dashboard)
    assert [item["metadata"]["name"] for item in of_kind(objects, "Ingress", "HTTPRoute")] == [name, name]
    ingress, route = named(objects, "Ingress", name), named(objects, "HTTPRoute", name)
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "rel-tls", "hosts": hosts}]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == route["spec"]["hostnames"] == hosts
    for rule in ingress["spec"]["rules"]:
        (way,) = rule["http"]["paths"]
        assert (way["path"], way["pathType"]) == (path, "Prefix")
        assert way["backend"] == {"service": {"name": NAME, "port": {"name": "http"}}}
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["metadata"]["annotations"] == {"a": "b"}
    assert route["spec"]["parentRefs"] == [{"name": "rel-public", "namespace": "gateways"}]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": path}}]
    assert rule["backendRefs"] == [{"name": NAME, "port": 8080}]


def test_the_annotations_of_the_dashboard_s_ingress_are_not_those_of_progress(helm: Helm) -> None:
    """They may sign people in."""
    inside = {"ingress": {"enabled": True, "annotations": {"sign-in": "yes"}}}
    objects = render(helm, merged(PROGRESS | inside, {"progress": {"ingress": {"enabled": True}}}))
    ingress = named(objects, "Ingress", NAME)
    assert ingress["metadata"]["annotations"] == {"sign-in": "yes"}
    assert not {"tls", "ingressClassName"} & ingress["spec"].keys()
    assert "annotations" not in named(objects, "Ingress", USERS)["metadata"]
    off = render(helm, merged(PROGRESS, {"progress": WAYS | {"enabled": False}}))
    assert not of_kind(off, "Ingress", "HTTPRoute")


@pytest.mark.parametrize(
    ("dashboard", "problem"),
    [
        (TOKEN | {"hosts": []}, "dashboard.hosts: name the hosts"),
        ({"enabled": True, "hosts": ["a"]}, "say who may look"),
        (TOKEN | {"token": {"secretName": ""}}, r"say who may look, .*not by two of them\n"),
        (
            PROGRESS | {"token": {"secretName": ""}},
            "say who may look, .*dashboard.progress needs no sign-in, but the same pods",
        ),
        (merged(TOKEN, PROXY), "not by two of them"),
        (merged(TOKEN, OIDC), "not by two of them"),
        (merged(OIDC, {"oidc": {"sessionKey": {"secretName": ""}}}), "are needed, too"),
        (merged(OIDC, {"oidc": {"groups": []}}), "say who may look, by groups"),
        (merged(OIDC, {"oidc": {"anyone": True}}), "not by both"),
        (merged(OIDC, {"oidc": {"issuer": "http://sso.example.com"}}), "issuer"),
        (merged(OIDC, {"oidc": {"publicUrl": "https://jobs.example.com/ops"}}), "publicUrl"),
        (merged(PROXY, {"proxy": {"header": ""}}), "dashboard.proxy.header"),
        (PROXY | {"replicas": 2}, "dashboard.proxy.sessionKey.secretName"),
        (TOKEN | {"httpRoute": {"enabled": True}}, "dashboard.httpRoute.parentRefs"),
        (merged(PROGRESS, {"progress": {"key": {"secretName": ""}}}), "dashboard.progress.key.secretName: name the"),
        (PROGRESS | {"enabled": False}, "dashboard.progress.enabled needs dashboard.enabled"),
        (merged(PROGRESS, {"progress": {"hosts": ["a.test", "jobs.example.com"]}}), "jobs.example.com is a host of"),
        (
            merged(OIDC | PROGRESS | {"token": {}}, {"oidc": {"publicUrl": "https://App.example.com:8443"}}),
            "progress.hosts: app.example.com is a host of the dashboard",
        ),
        (merged(PROGRESS, {"progress": {"hosts": [], "ingress": {"enabled": True}}}), "dashboard.progress.hosts: name"),
        (merged(PROGRESS, {"progress": {"httpRoute": {"enabled": True}}}), "dashboard.progress.httpRoute.parentRefs"),
        (merged(PROGRESS, {"progress": {"hosts": ["app.example.com/progress"]}}), "hosts"),
        (TOKEN | {"hosts": ["jobs.example.com:8443"]}, "hosts"),
        (merged(PROXY, {"proxy": {"cidrs": ["10.0.0.1"]}}), "cidrs"),
    ],
)
def test_what_is_refused(helm: Helm, dashboard: Object, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        render(helm, dashboard)
