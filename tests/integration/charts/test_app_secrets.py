"""Where the pods of spoke-app find the database, the tasks' key and the key of progress."""

from __future__ import annotations

import pytest

from spoke_jobs.settings import Settings

from .conftest import APP_VALUES, Helm, Object, environment_of, merged, of_kind, pod_of, pods_of

ROLES: Object = {
    "database": {
        "migrations": {"secretName": "shop-owner", "secretKey": "owner"},
        "jobs": {"secretName": "{{ .Release.Name }}-jobs"},
    },
    "podTemplates": {"default": {}, "risky": {"database": {"secretName": "risky"}}},
}


PROGRESS: Object = {"dashboard": {"progress": {"key": {"secretName": "{{ .Release.Name }}-progress"}}}}
SERVED: Object = {
    "dashboard": {
        "enabled": True,
        "hosts": ["jobs.example.com"],
        "token": {"secretName": "token"},
        "progress": {"enabled": True, "key": {"secretKey": "hex"}},
    },
    "workers": {"small": {"lane": "worker"}, "old": {}},
    "notify": {"enabled": True, "slack": {"secretName": "shop-slack"}},
}


def sources(objects: list[Object], variable: str = "SPOKE_DATABASE_URL") -> dict[str, set[tuple[str, str] | None]]:
    """The Secret and its key of the variable, in each workload's containers; None in those that do not have it."""
    return {
        name: {_source(pod, container, variable) for container in _containers(pod)} for name, pod in pods_of(objects)
    }


def _containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _source(pod: Object, container: Object, variable: str) -> tuple[str, str] | None:
    variables = environment_of(container)
    assert f"{variable}_FILE" not in variables or variable not in variables, "a process refuses both"
    if secret := variables.get(variable):
        return secret["secretKeyRef"]["name"], secret["secretKeyRef"]["key"]
    file = variables.get(f"{variable}_FILE")
    return None if file is None else _mounted(pod, container, file)


def _mounted(pod: Object, container: Object, file: str) -> tuple[str, str]:
    """The Secret and the key that this file has."""
    folder, path = file.rsplit("/", 1)
    (mount,) = [item for item in container["volumeMounts"] if item["mountPath"] == folder]
    assert mount["readOnly"]
    assert "subPath" not in mount, "the kubelet does not renew such a file"
    (volume,) = [item for item in pod["volumes"] if item["name"] == mount["name"]]
    (item,) = volume["secret"]["items"]
    assert item["path"] == path
    return volume["secret"]["secretName"], item["key"]


def test_one_secret_serves_all_by_default(helm: Helm) -> None:
    found = sources(helm.render("spoke-app", APP_VALUES))
    assert len(found) == 5
    assert set.union(*found.values()) == {("shop-database", "url")}


def test_migrations_and_jobs_may_have_secrets_of_their_own(helm: Helm) -> None:
    values = merged(APP_VALUES, ROLES)
    expected = {
        "Deployment rel-spoke-app-sync": {("shop-database", "url")},
        "Deployment rel-spoke-app-tasks": {("shop-database", "url")},
        "Pod rel-spoke-app-test": {("shop-database", "url")},
        "PodTemplate default": {("rel-jobs", "url")},
        "PodTemplate risky": {("risky", "url")},
        "Job rel-spoke-app-migrate": {("shop-owner", "owner")},
    }
    assert sources(helm.render("spoke-app", values)) == expected
    assert sources(helm.render("spoke-app", values | {"secretsAsFiles": True})) == expected


def test_as_files_no_secret_is_in_an_environment(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES | {"secretsAsFiles": True})
    for name, pod in pods_of(objects):
        for container in _containers(pod):
            variables = environment_of(container)
            assert not any("secretKeyRef" in value for value in variables.values() if isinstance(value, dict)), name
            if "Job" not in name:
                assert _mounted(pod, container, variables["SPOKE_TASKS_KEY_FILE"]) == ("shop-tasks", "key"), name


def test_with_tokens_there_is_no_key_to_mount(helm: Helm) -> None:
    values = merged(APP_VALUES, {"secretsAsFiles": True, "tasks": {"tokens": {"enabled": True}}})
    for item in of_kind(helm.render("spoke-app", values), "Deployment", "PodTemplate"):
        names = {volume["name"] for volume in pod_of(item)["volumes"]}
        assert "spoke-database" in names
        assert "spoke-tasks-key" not in names


def test_the_example_s_own_pods_get_the_files_too(helm: Helm) -> None:
    objects = helm.render("texting", {"spoke-app": {"secretsAsFiles": True}}, release="texting")
    (web,) = [pod for name, pod in pods_of(objects) if name == "Deployment texting"]
    assert _source(web, web["containers"][0], "SPOKE_DATABASE_URL") == ("texting-database", "url")


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
def test_who_makes_or_reads_tokens_of_progress_has_their_key(helm: Helm, as_files: bool, tokens: bool) -> None:
    given: Object = {"secretsAsFiles": as_files, "tasks": {"tokens": {"enabled": tokens}}}
    objects = helm.render("spoke-app", merged(merged(APP_VALUES, given), merged(PROGRESS, SERVED)))
    found = sources(objects, "SPOKE_PROGRESS_KEY")
    without = {name for name, keys in found.items() if keys == {None}}
    assert without == {"Deployment rel-spoke-app-notify", "Job rel-spoke-app-migrate"}
    holders = {name for name, keys in found.items() if keys == {("rel-progress", "hex")}}
    assert holders == found.keys() - without
    parts = ("sync", "tasks", "dashboard", "worker-small", "worker-old")
    assert {"PodTemplate default", *(f"Deployment rel-spoke-app-{part}" for part in parts)} < holders
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    assert {"SPOKE_PROGRESS_KEY", "SPOKE_PROGRESS_KEY_FILE"} <= known


@pytest.mark.parametrize("as_files", [False, True])
def test_an_application_that_serves_progress_itself_has_the_key_too(helm: Helm, as_files: bool) -> None:
    values: Object = {"spoke-app": PROGRESS | {"secretsAsFiles": as_files}}
    found = sources(helm.render("texting", values, release="texting"), "SPOKE_PROGRESS_KEY")
    assert found["Deployment texting"] == found["PodTemplate default"] == {("texting-progress", "key")}
    unnamed = helm.render("texting", {"spoke-app": {"secretsAsFiles": as_files}}, release="texting")
    assert set.union(*sources(unnamed, "SPOKE_PROGRESS_KEY").values()) == {None}


def test_the_schema_is_known_to_every_container(helm: Helm) -> None:
    named = merged(APP_VALUES, {"database": {"schema": "billing"}})
    for values, expected in ((APP_VALUES, None), (named, "billing")):
        for _, pod in pods_of(helm.render("spoke-app", values)):
            assert {environment_of(item).get("SPOKE_SCHEMA") for item in _containers(pod)} == {expected}


@pytest.mark.parametrize("as_files", [False, True])
def test_notify_alone_has_the_secrets_of_its_receivers(helm: Helm, as_files: bool) -> None:
    hook = {"secretName": "{{ .Release.Name }}-hook", "signingKey": "signing"}
    notify = {"enabled": True, "webhook": hook, "slack": {"secretName": "shop-slack"}}
    objects = helm.render("spoke-app", merged(APP_VALUES, {"notify": notify, "secretsAsFiles": as_files}))
    for name, secret in (
        ("WEBHOOK_URL", ("rel-hook", "url")),
        ("WEBHOOK_KEY", ("rel-hook", "signing")),
        ("SLACK_URL", ("shop-slack", "url")),
    ):
        found = {pod: of for pod, of in sources(objects, f"SPOKE_NOTIFY_{name}").items() if of != {None}}
        assert found == {"Deployment rel-spoke-app-notify": {secret}}
