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


def test_it_is_off_by_default(helm: Helm) -> None:
    names = [item["metadata"]["name"] for item in helm.render("spoke-app", APP_VALUES)]
    assert names
    assert not any("dashboard" in name for name in names)


def test_by_a_token(helm: Helm) -> None:
    objects = render(helm, TOKEN | {"hosts": ["jobs.example.com", "jobs.internal"]})
    container, pod = container_of(objects), pod_of(named(objects, "Deployment", NAME))
    assert container["args"][:2] == ["--host=0.0.0.0", "--port=8080"]
    assert options_of(container) == [
        "--host-name=jobs.example.com",
        "--host-name=jobs.internal",
        "--token-file=/var/run/secrets/spoke-dashboard/secret",
    ]
    (volume,) = [item for item in pod["volumes"] if "secret" in item]
    assert volume["secret"] == {"secretName": "rel-token", "items": [{"key": "token", "path": "secret"}]}
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    assert mounts[volume["name"]] == "/var/run/secrets/spoke-dashboard"
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": container["ports"][0]["name"]}


def test_by_a_proxy(helm: Helm) -> None:
    objects = render(helm, PROXY)
    assert options_of(container_of(objects)) == [
        "--host-name=jobs.example.com",
        "--trusted-proxy=10.0.0.0/8",
        "--trusted-proxy=fd00::/8",
        "--user-header=X-Forwarded-User",
    ]
    assert not [item for item in pod_of(named(objects, "Deployment", NAME))["volumes"] if "secret" in item]
    objects = render(helm, merged(PROXY | {"replicas": 2}, KEY))
    assert options_of(container_of(objects))[-1] == "--session-key-file=/var/run/secrets/spoke-dashboard/secret"
    (volume,) = [item for item in pod_of(named(objects, "Deployment", NAME))["volumes"] if "secret" in item]
    assert volume["secret"] == {"secretName": "session", "items": [{"key": "hex", "path": "secret"}]}


def test_by_an_identity_provider(helm: Helm) -> None:
    objects = render(helm, OIDC)
    assert options_of(container_of(objects)) == [
        "--host-name=jobs.example.com",
        "--host-name=jobs.internal",
        "--oidc-issuer=https://sso.example.com/realms/shop",
        "--oidc-client-id=rel",
        "--oidc-client-secret-file=/var/run/secrets/spoke-oidc/secret",
        "--session-key-file=/var/run/secrets/spoke-dashboard/secret",
        "--public-url=https://jobs.example.com",
        "--oidc-group=ops",
        "--oidc-group-claim=groups",
    ]
    container, pod = container_of(objects), pod_of(named(objects, "Deployment", NAME))
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    secrets = {mounts[item["name"]]: item["secret"] for item in pod["volumes"] if "secret" in item}
    assert secrets == {
        "/var/run/secrets/spoke-oidc": {
            "secretName": "rel-oidc",
            "items": [{"key": "client-secret", "path": "secret"}],
        },
        "/var/run/secrets/spoke-dashboard": {
            "secretName": "session",
            "items": [{"key": "session-key", "path": "secret"}],
        },
    }


def test_whom_an_identity_provider_admits(helm: Helm) -> None:
    given: Object = {
        "readOnlyGroups": ["support", HOSTILE],
        "groupClaim": "realm_access.roles",
        "userClaim": "upn",
        "scopes": ["roles"],
        "caFile": "/etc/sso/ca.crt",
        "publicUrl": "https://jobs.internal:8443",
    }
    assert options_of(container_of(render(helm, merged(OIDC, {"oidc": given}))))[6:] == [
        "--public-url=https://jobs.internal:8443",
        "--oidc-group=ops",
        "--oidc-read-only-group=support",
        f"--oidc-read-only-group={HOSTILE}",
        "--oidc-group-claim=realm_access.roles",
        "--oidc-user-claim=upn",
        "--oidc-scope=roles",
        "--oidc-ca-file=/etc/sso/ca.crt",
    ]
    anyone = render(helm, merged(OIDC, {"oidc": {"groups": [], "anyone": True}}))
    assert "--oidc-anyone" in options_of(container_of(anyone))


def test_it_reaches_the_identity_provider(helm: Helm) -> None:
    usual = [*DNS.items(), *DATABASE.items(), *API_SERVER.items()]
    assert rules(policies_of(render(helm, OIDC))["dashboard"], "egress") == [*usual, ("anywhere", ["TCP 443"])]
    own = {
        "egress": {
            "oidc": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 8443}]}]
        }
    }
    narrow = rules(policies_of(render(helm, OIDC, networkPolicy=own))["dashboard"], "egress")
    assert len(narrow) == len(usual) + 1
    assert "10.1.2.3/32" in narrow[-1][0]
    assert rules(policies_of(render(helm, networkPolicy=own))["dashboard"], "egress") == usual


def test_what_people_may_see_and_do(helm: Helm) -> None:
    narrow = {"readOnly": True, "organizations": [7, 20_000_000], "payloads": True, "hideOutput": True}
    assert options_of(container_of(render(helm, TOKEN | narrow)))[2:] == [
        "--read-only",
        "--organization=7",
        "--organization=20000000",
        "--payloads",
        "--hide-output",
    ]


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


def test_or_not_at_all(helm: Helm) -> None:
    objects = render(helm, TOKEN | {"readsCluster": False})
    assert pod_of(named(objects, "Deployment", NAME))["automountServiceAccountToken"] is False
    assert NAME not in {item["metadata"]["name"] for item in of_kind(objects, "RoleBinding")}
    assert rules(policies_of(objects)["dashboard"], "egress") == [*DNS.items(), *DATABASE.items()]


def test_nobody_reaches_it_who_is_not_named(helm: Helm) -> None:
    policy = policies_of(render(helm))["dashboard"]
    assert rules(policy, "ingress") == []
    assert rules(policy, "egress") == [*DNS.items(), *DATABASE.items(), *API_SERVER.items()]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "{{ .Release.Name }}-ingress"}}}
    named_ = policies_of(render(helm, networkPolicy={"ingress": {"dashboard": [peer]}}))["dashboard"]
    assert rules(named_, "ingress") == [("from rel-ingress", ["TCP 8080"])]
    open_ = render(helm, networkPolicy={"enabled": False})
    assert not of_kind(open_, "NetworkPolicy")


def test_its_service_leads_to_its_pods(helm: Helm) -> None:
    objects = render(helm, TOKEN | {"serviceAnnotations": {"a": "b"}})
    deployment, service = named(objects, "Deployment", NAME), named(objects, "Service", NAME)
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"].items() <= pod_labels(deployment).items()
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http"}]
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert not of_kind(objects, "Ingress", "HTTPRoute")


def test_an_ingress_for_its_hosts(helm: Helm) -> None:
    hosts = ["jobs.example.com", "jobs.internal"]
    given = {
        "enabled": True,
        "className": "nginx",
        "tlsSecretName": "{{ .Release.Name }}-tls",
        "annotations": {"a": "b"},
    }
    ingress = named(render(helm, TOKEN | {"hosts": hosts, "ingress": given}), "Ingress", NAME)
    assert ingress["metadata"]["annotations"] == {"a": "b"}
    spec = ingress["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"secretName": "rel-tls", "hosts": hosts}]
    assert [rule["host"] for rule in spec["rules"]] == hosts
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/", "Prefix")
        assert path["backend"] == {"service": {"name": NAME, "port": {"name": "http"}}}
    plain = named(render(helm, TOKEN | {"ingress": {"enabled": True}}), "Ingress", NAME)["spec"]
    assert not {"tls", "ingressClassName"} & plain.keys()


def test_a_route_of_the_gateway_api(helm: Helm) -> None:
    gateway = {"name": "{{ .Release.Name }}-public", "namespace": "gateways"}
    objects = render(helm, TOKEN | {"httpRoute": {"enabled": True, "parentRefs": [gateway]}})
    route = named(objects, "HTTPRoute", NAME)
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["parentRefs"] == [{"name": "rel-public", "namespace": "gateways"}]
    assert route["spec"]["hostnames"] == ["jobs.example.com"]
    (rule,) = route["spec"]["rules"]
    service = named(objects, "Service", NAME)
    assert rule["backendRefs"] == [{"name": NAME, "port": service["spec"]["ports"][0]["port"]}]


def test_the_progress_of_single_jobs(helm: Helm) -> None:
    usual = options_of(container_of(render(helm)))
    assert options_of(container_of(render(helm, PROGRESS))) == [*usual, "--progress"]
    more = {"origins": ["https://app.example.com", "http://[::1]:8000"], "messages": True}
    assert options_of(container_of(render(helm, merged(PROGRESS, {"progress": more})))) == [
        *usual,
        "--progress",
        "--progress-origin=https://app.example.com",
        "--progress-origin=http://[::1]:8000",
        "--progress-messages",
    ]
    off = render(helm, merged(PROGRESS, {"progress": more | {"enabled": False}}))
    assert options_of(container_of(off)) == usual


def test_origins_as_browsers_write_them(helm: Helm, tmp_path: Path) -> None:
    origins = ["https://app.example.com", "http://localhost:8000", "https://[fd00::1]", "http://a"]
    progress(origins=origins, key="k" * 32, database=f"sqlite:///{tmp_path}/jobs.sqlite3").close()
    assert render(helm, merged(PROGRESS, {"progress": {"origins": origins}}))


def test_other_origins_are_refused_before_the_process_refuses_them(helm: Helm) -> None:
    origins = ["https://a.example/", "a.example", "*", "null", "https://A.example", "https://a:b", "ftp://a", ""]
    for origin in origins:
        with pytest.raises(ConfigurationError, match="is no origin"):
            progress(origins=[origin])
    with pytest.raises(Refused) as caught:
        render(helm, merged(PROGRESS, {"progress": {"origins": origins}}))
    named = {int(number) for number in re.findall(r"\borigins[./](\d+)", str(caught.value))}
    assert named == set(range(len(origins)))


def test_at_the_application_s_hosts_there_is_progress_only(helm: Helm) -> None:
    gateway = {"name": "{{ .Release.Name }}-public", "namespace": "gateways"}
    inside = {"ingress": {"enabled": True, "className": "inside", "annotations": {"sign-in": "yes"}}}
    users: Object = {
        "ingress": {"enabled": True, "className": "public", "tlsSecretName": "{{ .Release.Name }}-tls"},
        "httpRoute": {"enabled": True, "parentRefs": [gateway], "annotations": {"a": "b"}},
    }
    objects = render(helm, merged(PROGRESS | inside, {"progress": users}))
    assert [item["metadata"]["name"] for item in of_kind(objects, "Ingress", "HTTPRoute")] == [NAME, USERS, USERS]
    ingress, route = named(objects, "Ingress", USERS), named(objects, "HTTPRoute", USERS)
    hosts = ["app.example.com", "example.com"]
    assert "annotations" not in ingress["metadata"], "those of the dashboard may sign people in"
    assert ingress["spec"]["ingressClassName"] == "public"
    assert ingress["spec"]["tls"] == [{"secretName": "rel-tls", "hosts": hosts}]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == route["spec"]["hostnames"] == hosts
    for rule in ingress["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == (PATH, "Prefix")
        assert path["backend"] == {"service": {"name": NAME, "port": {"name": "http"}}}
    assert route["metadata"]["annotations"] == {"a": "b"}
    assert route["spec"]["parentRefs"] == [{"name": "rel-public", "namespace": "gateways"}]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": PATH}}]
    assert rule["backendRefs"] == [{"name": NAME, "port": 8080}]
    (rule,) = named(objects, "Ingress", NAME)["spec"]["rules"]
    assert rule["host"] == "jobs.example.com"
    off = render(helm, merged(PROGRESS, {"progress": users | {"enabled": False}}))
    assert not of_kind(off, "Ingress", "HTTPRoute")


def test_progress_needs_no_sign_in_but_the_dashboard_beside_it_does(helm: Helm) -> None:
    with pytest.raises(Refused, match=r"say who may look, .*dashboard.progress needs no sign-in, but the same pods"):
        render(helm, PROGRESS | {"token": {"secretName": ""}})
    with pytest.raises(Refused, match=r"say who may look, .*not by two of them\n"):
        render(helm, TOKEN | {"token": {"secretName": ""}})


def test_several_replicas_have_a_disruption_budget(helm: Helm) -> None:
    assert NAME not in {item["metadata"]["name"] for item in of_kind(render(helm), "PodDisruptionBudget")}
    objects = render(helm, TOKEN | {"replicas": 2})
    budget, deployment = named(objects, "PodDisruptionBudget", NAME), named(objects, "Deployment", NAME)
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert deployment["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("dashboard", "problem"),
    [
        (TOKEN | {"hosts": []}, "dashboard.hosts: name the hosts"),
        ({"enabled": True, "hosts": ["a"]}, "say who may look"),
        (merged(TOKEN, PROXY), "not by two of them"),
        (merged(TOKEN, OIDC), "not by two of them"),
        (merged(OIDC, {"oidc": {"clientId": ""}}), "clientId, clientSecret.secretName and sessionKey.secretName"),
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
        (
            merged(PROGRESS, {"progress": {"hosts": ["a.test", "jobs.example.com"]}}),
            "progress.hosts: jobs.example.com is a host of the dashboard",
        ),
        (
            merged(OIDC | PROGRESS | {"token": {}}, {"oidc": {"publicUrl": "https://App.example.com:8443"}}),
            "progress.hosts: app.example.com is a host of the dashboard",
        ),
        (merged(PROGRESS, {"progress": {"hosts": [], "ingress": {"enabled": True}}}), "dashboard.progress.hosts: name"),
        (
            merged(PROGRESS, {"progress": {"hosts": [], "httpRoute": {"enabled": True}}}),
            "dashboard.progress.hosts: name",
        ),
        (merged(PROGRESS, {"progress": {"httpRoute": {"enabled": True}}}), "dashboard.progress.httpRoute.parentRefs"),
        (merged(PROGRESS, {"progress": {"key": {"value": "plain"}}}), "value"),
        (merged(PROGRESS, {"progress": {"hosts": ["app.example.com/progress"]}}), "hosts"),
        (TOKEN | {"hosts": ["jobs.example.com:8443"]}, "hosts"),
        (TOKEN | {"hosts": ["*"]}, "hosts"),
        (merged(PROXY, {"proxy": {"cidrs": ["10.0.0.1"]}}), "cidrs"),
        (TOKEN | {"organizations": ["7"]}, "organizations"),
        (TOKEN | {"host": "a"}, "host"),
    ],
)
def test_what_is_refused(helm: Helm, dashboard: Object, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        render(helm, dashboard)
