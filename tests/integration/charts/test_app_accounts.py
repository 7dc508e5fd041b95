"""The accounts of the application's chart, and their rights."""

from __future__ import annotations

from spoke_jobs.cluster.rights import RIGHTS

from .conftest import APP_VALUES, COMPONENTS, Helm, component_of, environment_of, merged, named, of_kind, pod_of
from .test_operator_chart import rights


def test_existing_accounts_are_bound_and_used(helm: Helm) -> None:
    accounts = {name: {"create": False, "name": f"given-{name}"} for name in ("jobs", "sync", "tasks")}
    accounts["migrations"] = {"name": "given-migrations"}
    values = {"serviceAccounts": accounts, "tasks": {"tokens": {"enabled": True}}}
    objects = helm.render("spoke-app", merged(APP_VALUES, values), namespace="shop")
    assert [item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")] == ["rel-spoke-app-runner"]
    for component in COMPONENTS:
        assert pod_of(component_of(objects, component))["serviceAccountName"] == f"given-{component}"
    for item in of_kind(objects, "PodTemplate", "Pod"):
        assert pod_of(item)["serviceAccountName"] == "given-jobs"
    bound = {subject["name"] for item in of_kind(objects, "RoleBinding") for subject in item["subjects"]}
    assert bound == {"given-jobs", "given-sync", "rel-spoke-app-runner"}
    (reviews,) = of_kind(objects, "ClusterRoleBinding")
    assert reviews["subjects"][0]["name"] == "given-tasks"
    (container,) = pod_of(component_of(objects, "tasks"))["containers"]
    assert {"shop/given-jobs", "shop/given-tasks"} <= set(environment_of(container)["SPOKE_TASKS_CALLERS"].split(","))


def test_what_is_the_clusters_is_no_other_releases(helm: Helm) -> None:
    """A ClusterRole is of no namespace: app in shop-web is another release than web-app in shop."""
    values = APP_VALUES | {"tasks": {"tokens": {"enabled": True}}}
    names = []
    for namespace, fullname in (("shop", "web-app"), ("shop-web", "app"), ("s" * 63, "a" * 52), ("s" * 63, "b" * 52)):
        objects = helm.render("spoke-app", values | {"fullnameOverride": fullname}, namespace=namespace)
        (role,), (binding,) = of_kind(objects, "ClusterRole"), of_kind(objects, "ClusterRoleBinding")
        assert binding["roleRef"]["name"] == binding["metadata"]["name"] == role["metadata"]["name"]
        assert len(role["metadata"]["name"]) <= 63
        names.append(role["metadata"]["name"])
    assert names[0].startswith("shop-web-app-token-reviews-")
    assert len(set(names)) == len(names)


def test_pods_without_credentials_leave_creating_to_sync(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    for kind, name in (("PodTemplate", "default"), ("Deployment", "rel-spoke-app-tasks")):
        assert environment_of(pod_of(named(objects, kind, name))["containers"][0])["SPOKE_SUBMIT"] == "sync"
    sync = pod_of(named(objects, "Deployment", "rel-spoke-app-sync"))
    assert sync["serviceAccountName"] == "rel-spoke-app-sync"
    assert "SPOKE_SUBMIT" not in environment_of(sync["containers"][0])


def test_sync_may_write_no_limits_if_the_platform_alone_sets_them(helm: Helm) -> None:
    objects = helm.render("spoke-app", merged(APP_VALUES, {"sync": {"publishLimits": False}}))
    assert ("jobs.spoke.dev", "spokelimits") not in rights(named(objects, "Role", "rel-spoke-app-sync")["rules"])


def test_an_account_may_run_the_templates_of_its_own_and_no_others(helm: Helm) -> None:
    """The operator's admission policies ask for this right."""
    templates = {"default": {}, "large": {"serviceAccountName": "{{ .Release.Name }}-large"}}
    objects = helm.render("spoke-app", merged(APP_VALUES, {"podTemplates": templates}), namespace="shop")
    for name, account in (("default", "rel-spoke-app-jobs"), ("large", "rel-large")):
        assert pod_of(named(objects, "PodTemplate", name))["serviceAccountName"] == account
        role = named(objects, "Role", f"rel-spoke-app-run-{name}")
        binding = named(objects, "RoleBinding", role["metadata"]["name"])
        assert rights(role["rules"]) == {("", "podtemplates", name): {"run"}}
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "shop"}]


def test_the_roles_are_what_check_asks_for(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    for account, needed in RIGHTS.items():
        given = rights(named(objects, "Role", f"rel-spoke-app-{account}")["rules"])
        asked: dict[tuple[str, ...], set[str]] = {}
        for right in needed:
            resource = right.resource + (f"/{right.subresource}" if right.subresource else "")
            key = (right.group, resource, *([right.name] if right.name else []))
            asked.setdefault(key, set()).add(right.verb)
        assert given == asked, account


def test_accounts_have_what_clouds_give_rights_by(helm: Helm) -> None:
    given = {name: {"annotations": {"cloud/role": name}} for name in ("jobs", "sync", "tasks")}
    objects = helm.render("spoke-app", APP_VALUES | {"serviceAccounts": given})
    for name in given:
        account = named(objects, "ServiceAccount", f"rel-spoke-app-{name}")
        assert account["metadata"]["annotations"] == {"cloud/role": name}


def test_example_dispatches_as_the_runners_account(helm: Helm) -> None:
    objects = helm.render("texting", release="texting")
    pod = pod_of(named(objects, "Deployment", "texting"))
    assert pod["serviceAccountName"] == "texting-runner"
    (binding,) = [item for item in of_kind(objects, "RoleBinding") if item["metadata"]["name"] == "texting-runner"]
    assert binding["subjects"][0]["name"] == "texting-runner"
    environment = environment_of(pod["containers"][0])
    assert environment["JOB_RUNNER"] == "kubernetes"
    assert environment["TEXTING_CARRIER_URL"] == "http://texting-carrier:8090"
