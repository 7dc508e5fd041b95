"""The Job that migrates, a hook of the application's chart."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml
from hypothesis import given, settings, strategies

from spoke_jobs.errors import InvalidLimit
from spoke_jobs.limits.limit_file import read_entries

from .conftest import (
    APP_VALUES,
    ROOT,
    Helm,
    Object,
    Refused,
    component_of,
    environment_of,
    merged,
    named,
    of_kind,
    pod_of,
)

MIGRATIONS_POLICY = "rel-spoke-app-migrations"


def test_annotations_for_argo_cd_stand_beside_the_hook_s(helm: Helm) -> None:
    """Argo CD then goes by its own; Helm by its own."""
    given = {"argocd.argoproj.io/hook": "Sync", "argocd.argoproj.io/sync-wave": "-1", "helm.sh/hook": "post-install"}
    objects = helm.render("spoke-app", merged(APP_VALUES, {"migrations": {"annotations": given}}))
    for item in (named(objects, "Job", "rel-spoke-app-migrate"), named(objects, "NetworkPolicy", MIGRATIONS_POLICY)):
        annotations = item["metadata"]["annotations"]
        assert annotations["argocd.argoproj.io/hook"] == "Sync"
        assert annotations["argocd.argoproj.io/sync-wave"] == "-1"
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_the_page_on_gitops_has_values_that_put_the_secret_before_the_migrations(helm: Helm) -> None:
    page = (ROOT / "docs/how-to/gitops.md").read_text()
    (block,) = (text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "extraObjects" in text)
    values: Object = yaml.safe_load(block)
    objects = helm.render("spoke-app", merged(APP_VALUES, values))

    def wave(item: Object) -> int:
        return int(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))

    (secret,), (job,) = of_kind(objects, "ExternalSecret"), of_kind(objects, "Job")
    assert wave(secret) < wave(job) < wave(component_of(objects, "sync"))
    assert wave(named(objects, "NetworkPolicy", MIGRATIONS_POLICY)) == wave(job)
    assert "argocd.argoproj.io/hook" not in secret["metadata"]["annotations"], "or each sync would delete it first"
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
    url = environment_of(pod_of(job)["containers"][0])["SPOKE_DATABASE_URL"]
    assert url["secretKeyRef"]["name"] == secret["spec"]["target"]["name"]


def test_migrations_need_nothing_of_the_release(helm: Helm) -> None:
    """A hook that runs first finds none of the release's objects."""
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = pod_of(job)
    assert "serviceAccountName" not in pod
    assert [item["name"] for item in pod["initContainers"]] == ["await-database"]
    assert pod["containers"][0]["command"] == ["spoke-jobs", "migrate"]


def test_migrations_can_be_made_anew_by_their_label(helm: Helm) -> None:
    """As docs/restoring.md has it, out of all the hooks of the release."""
    hooks = [item for item in helm.render("texting", release="texting") if _is_hook(item)]
    chosen = [item for item in hooks if item["metadata"]["labels"]["app.kubernetes.io/component"] == "migrations"]
    made = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in chosen}
    assert made == {"job/texting-migrate", "networkpolicy/texting-migrations"}
    page = (ROOT / "docs/restoring.md").read_text()
    assert "--selector=app.kubernetes.io/component=migrations" in page
    assert all(name in page for name in made)


def _is_hook(item: Object) -> bool:
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def test_migrations_run_one_after_the_other(helm: Helm) -> None:
    steps = [{"name": name, "command": ["run", name]} for name in ("one", "two", "three")]
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES | {"migrations": {"steps": steps}}), "Job")
    pod = pod_of(job)
    assert [item["name"] for item in pod["initContainers"]] == ["await-database", "one", "two"]
    assert [item["command"] for item in pod["containers"]] == [["run", "three"]]


def test_limits_are_applied_after_the_migrations(helm: Helm) -> None:
    limits = [{"scope": "type:export", "max_running": 1000000, "paused": "upgrade"}]
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES | {"limits": limits}), "Job")
    pod = pod_of(job)
    assert [item["name"] for item in pod["initContainers"]] == ["await-database", "ledger"]
    (container,) = pod["containers"]
    *command, path, prune, flag, actor = container["command"]
    assert (command, prune, flag, actor) == (
        ["spoke-jobs", "limits", "apply", "--file"],
        "--prune",
        "--as",
        "release rel",
    )
    (volume,) = [item for item in pod["volumes"] if item["name"] == "spoke-limits"]
    (mount,) = [item for item in container["volumeMounts"] if item["name"] == "spoke-limits"]
    (item,) = volume["downwardAPI"]["items"]
    assert f"{mount['mountPath']}/{item['path']}" == path
    annotation = job["spec"]["template"]["metadata"]["annotations"]["jobs.spoke.dev/limits"]
    assert item["fieldRef"]["fieldPath"] == "metadata.annotations['jobs.spoke.dev/limits']"
    assert [str(entry.scope) for entry in read_entries(json.loads(annotation))] == ["type:export"]
    assert json.loads(annotation) == limits


REFUSED_BY_SCHEMA: list[Object] = [
    *({"scope": scope, "max_running": 1} for scope in (
        "report", "type:a*", "type:.*", "type:", "organization:seven", f"queue:{'q' * 250}"
    )),
    *({"scope": "all", "rate": rate} for rate in ("5", "0/s", "5/0s", "5/8d", "5/week", "1000001/h")),
    {"scope": "all", "max_runing": 1},
    {"scope": "all"},
    {"scope": "all", "max_running": 1000001},
    {"scope": "all", "max_running": 1, "burst": 2},
    {"scope": "all", "rate": "5/s", "burst": 1000001},
    {"scope": "all", "paused": " "},
    {"scope": "all", "paused": True},
    {"scope": "all", "paused": {"until": "2026-03-01T08:00Z"}},
    {"scope": "all", "paused": {"reason": "x", "until": "2026-03-01T08:00"}},
]  # fmt: skip
REFUSED_BY_TEMPLATE: list[tuple[list[Object], str]] = [
    ([{"scope": "all", "rate": "600001/min"}], '"all" has the rate 600001/min, which can\'t be kept'),
    ([{"scope": "all", "rate": "20001/2s"}], "the fastest is 10,000/s"),
    ([{"scope": "all", "paused": {"reason": "x", "until": "2026-02-30T08:00Z"}}], "there is no such day"),
    (
        [{"scope": "organization:7", "max_running": 1}, {"scope": "organization:07", "max_running": 2}],
        'two entries have the scope "organization:7"',
    ),
]


def test_limits_that_the_command_would_refuse_are_refused_before_anything_changes(helm: Helm) -> None:
    workers: Object = APP_VALUES | {"workers": {"all": {}}}
    for limits in ([entry] for entry in REFUSED_BY_SCHEMA):
        with pytest.raises(InvalidLimit):
            read_entries(limits)
    with pytest.raises(Refused) as caught:
        helm.render("spoke-app", workers | {"limits": REFUSED_BY_SCHEMA})
    named = {int(number) for number in re.findall(r"\blimits[./](\d+)", str(caught.value))}
    assert named == set(range(len(REFUSED_BY_SCHEMA)))
    for limits, said in REFUSED_BY_TEMPLATE:
        with pytest.raises(InvalidLimit):
            read_entries(limits)
        with pytest.raises(Refused, match=re.escape(said)):
            helm.render("spoke-app", workers | {"limits": limits})
    fine = [
        {"scope": "organization:70", "rate": "10000/s", "burst": 5},
        {"scope": "organization:7", "rate": "600000/1min"},
        {"scope": "type:ingest.*", "max_running": 0, "paused": {"reason": "x", "until": "2026-03-31T22:00:00Z"}},
        {"scope": "queue:ä b:c", "rate": "1000000/7d"},
        {"scope": "each-queue", "rate": "5/s", "burst": 2},
    ]
    read_entries(fine)
    helm.render("spoke-app", workers | {"limits": fine})


SCOPES = strategies.sampled_from(["all", "each-type", "type:a.b", "type:a.*", "type:*", "queue:", "key:a:b", "queue:ä"])
RATES = strategies.builds(
    "{}/{}{}".format,
    strategies.sampled_from([0, 1, 9999, 10000, 99999, 1000000, 1000001]),
    strategies.sampled_from(["", 0, 1, 7, 8, 60, 168, 169, 10080, 10081, 604800, 604801]),
    strategies.sampled_from(["s", "m", "min", "h", "d", "w"]),
)
ENTRIES = strategies.fixed_dictionaries(
    {"scope": SCOPES | strategies.text(max_size=5).map("type:{}".format)},
    optional={
        "max_running": strategies.integers(-1, 1_000_001),
        "rate": RATES,
        "burst": strategies.sampled_from([0, 1, 1_000_000, 1_000_001]),
        "paused": strategies.just(False) | strategies.text(max_size=5),
    },
)


@given(ENTRIES)
@settings(deadline=None, max_examples=300)
def test_what_the_schema_accepts_the_command_accepts(entry: Object) -> None:
    schema = json.loads((ROOT / "charts/spoke-app/values.schema.json").read_text())
    accepts = jsonschema.Draft202012Validator(schema["properties"]["limits"] | {"$defs": schema["$defs"]})
    if accepts.is_valid([entry]):
        refused = ""
        try:
            read_entries([entry])
        except InvalidLimit as error:
            refused = str(error)
        assert not refused or "the fastest is 10,000/s" in refused, "the template refuses these"


def test_an_empty_list_of_limits_removes_those_of_an_earlier_release(helm: Helm) -> None:
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES | {"limits": []}), "Job")
    assert job["spec"]["template"]["metadata"]["annotations"]["jobs.spoke.dev/limits"] == "[]"
    assert "--prune" in pod_of(job)["containers"][0]["command"]


def test_example_has_its_database_before_the_migrations(helm: Helm) -> None:
    objects = helm.render("texting", release="texting")
    assert hook_weight(named(objects, "Secret", "texting-database")) < hook_weight(
        named(objects, "StatefulSet", "texting-database")
    )
    assert hook_weight(named(objects, "StatefulSet", "texting-database")) < hook_weight(
        named(objects, "Job", "texting-migrate")
    )


def hook_weight(item: Object) -> int:
    return int(item["metadata"]["annotations"]["helm.sh/hook-weight"])
