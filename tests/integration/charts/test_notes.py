"""What Helm says after an installation: the charts' NOTES."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from .conftest import APP_VALUES, KUBE_VERSION, ROOT, Helm, Object, named, read

READ: Object = {"networkPolicy": {"ingress": {"metrics": [{"podSelector": {}}]}}}
OPEN: Object = {"networkPolicy": {"enabled": False}}
RULES: Object = {"rules": {"enabled": True}}
MONITOR: Object = {"serviceMonitor": {"enabled": True}}
every_chart = pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])


def notes(helm: Helm, folder: Path, chart: str, values: Object) -> str:
    """As `helm install` prints them; `helm template` doesn't, so they are rendered as an object's text."""
    copy = folder / chart
    shutil.copytree(ROOT / "charts" / chart, copy)
    text = (copy / "templates/NOTES.txt").read_text()
    shown = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}}
    body = f'{yaml.safe_dump(shown)}data:\n  text: {{{{ include "notes" . | toJson }}}}\n'
    (copy / "templates/notes.yaml").write_text(f'{{{{- define "notes" }}}}{text}{{{{ end -}}}}\n{body}')
    given = (APP_VALUES if chart == "spoke-app" else {}) | values
    rendered = helm.run(
        "template", "rel", str(copy), "--kube-version", KUBE_VERSION, "--values=-", stdin=yaml.safe_dump(given)
    )
    return str(named(read(rendered), "ConfigMap", "notes")["data"]["text"])


def test_they_say_who_reaches_the_dashboard(helm: Helm, tmp_path: Path) -> None:
    dashboard: Object = {"dashboard": {"enabled": True, "hosts": ["jobs.test"], "token": {"secretName": "token"}}}
    reached: Object = {"networkPolicy": {"ingress": {"dashboard": [{"podSelector": {}}]}}}
    shut = notes(helm, tmp_path / "shut", "spoke-app", dashboard)
    assert "The dashboard is for jobs.test. Nobody reaches it" in shut
    assert "Nobody reaches it" not in notes(helm, tmp_path / "reached", "spoke-app", dashboard | reached)
    assert "Nobody reaches it" not in notes(helm, tmp_path / "open", "spoke-app", dashboard | OPEN)
    assert "dashboard" not in notes(helm, tmp_path / "without", "spoke-app", {})
    assert "/progress" not in shut


@pytest.mark.parametrize(("hosts", "end"), [([], "token."), (["a.test", "b.test"], "token, also at a.test, b.test.")])
def test_they_say_that_progress_needs_no_sign_in(helm: Helm, tmp_path: Path, hosts: list[str], end: str) -> None:
    progress: Object = {"enabled": True, "key": {"secretName": "progress"}, "hosts": hosts}
    dashboard: Object = {"enabled": True, "hosts": ["jobs.test"], "token": {"secretName": "a"}, "progress": progress}
    said = notes(helm, tmp_path, "spoke-app", {"dashboard": dashboard})
    assert f"Below /progress, it shows the progress of a job to whoever has a {end}\n" in said


@every_chart
def test_they_say_that_nobody_reads_the_metrics(helm: Helm, tmp_path: Path, chart: str) -> None:
    assert "Nobody can read the metrics" in notes(helm, tmp_path / "shut", chart, {})
    assert "Nobody can read the metrics" not in notes(helm, tmp_path / "read", chart, READ)
    assert "Nobody can read the metrics" not in notes(helm, tmp_path / "open", chart, OPEN)


@every_chart
@pytest.mark.parametrize(
    ("values", "lacking"),
    [
        ({"monitoring": RULES}, "monitoring.serviceMonitor.enabled=true and networkPolicy.ingress.metrics"),
        ({"monitoring": RULES | MONITOR}, "networkPolicy.ingress.metrics"),
        ({"monitoring": RULES} | READ, "monitoring.serviceMonitor.enabled=true"),
        ({"monitoring": RULES} | OPEN, "monitoring.serviceMonitor.enabled=true"),
        ({"monitoring": RULES | MONITOR} | READ, ""),
        ({"monitoring": RULES | MONITOR} | OPEN, ""),
        ({"monitoring": MONITOR}, ""),
        ({}, ""),
    ],
)
def test_they_say_which_alarms_go_off_for_want_of_figures(
    helm: Helm, tmp_path: Path, chart: str, values: Object, lacking: str
) -> None:
    said = notes(helm, tmp_path, chart, values)
    if lacking:
        assert "Prometheus gets no metrics" in said
        assert f". Set\n{lacking}." in said
    else:
        assert "will fire" not in said


def test_they_name_the_templates(helm: Helm, tmp_path: Path) -> None:
    some = notes(helm, tmp_path / "some", "spoke-app", {"podTemplates": {"large": {}}})
    assert "with the PodTemplates default, large.\n" in some
    assert "helm test rel" in some
    none = notes(helm, tmp_path / "none", "spoke-app", {"podTemplates": {"default": None}})
    assert "with PodTemplates from elsewhere: podTemplates is empty.\n" in none
    assert "helm test" not in none


def test_they_name_no_alarm_that_is_not_there(helm: Helm, tmp_path: Path) -> None:
    values: Object = {"monitoring": RULES}
    assert "will fire: SpokeSyncNotActive, SpokeTasksAway. Set" in notes(helm, tmp_path / "both", "spoke-app", values)
    said = notes(helm, tmp_path / "sync", "spoke-app", values | {"tasks": {"enabled": False}})
    assert "will fire: SpokeSyncNotActive. Set" in said


def test_they_name_the_new_name_of_a_renamed_value(helm: Helm, tmp_path: Path) -> None:
    said = notes(helm, tmp_path / "old", "spoke-operator", {"operator": {"deafAfterSeconds": 90}})
    assert "WARNING: the value operator.deafAfterSeconds is now operator.unhealthyAfterSeconds." in said
    assert "WARNING" not in notes(helm, tmp_path / "new", "spoke-operator", {"operator": {"unhealthyAfterSeconds": 90}})
