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
SERVICE_MONITOR = "monitoring.serviceMonitor.enabled=true"


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


def test_they_say_who_reaches_the_dashboard_and_that_progress_needs_no_sign_in(helm: Helm, tmp_path: Path) -> None:
    progress: Object = {"enabled": True, "key": {"secretName": "progress"}, "hosts": ["a.test", "b.test"]}
    own: Object = {"enabled": True, "hosts": ["jobs.test"], "token": {"secretName": "token"}}
    reached: Object = {"networkPolicy": {"ingress": {"dashboard": [{"podSelector": {}}]}}}
    shut = notes(helm, tmp_path / "shut", "spoke-app", {"dashboard": own | {"progress": progress}})
    assert "The dashboard is for jobs.test. Nobody reaches it" in shut
    assert "progress of a job to whoever has a token, also at a.test, b.test.\n" in shut
    said = notes(helm, tmp_path / "reached", "spoke-app", {"dashboard": own} | reached)
    assert "Nobody reaches it" not in said
    assert "/progress" not in said
    assert "Nobody reaches it" not in notes(helm, tmp_path / "open", "spoke-app", {"dashboard": own} | OPEN)
    assert "dashboard" not in notes(helm, tmp_path / "without", "spoke-app", {})


@pytest.mark.parametrize(
    ("chart", "values", "read", "lacking"),
    [
        ("spoke-operator", {}, False, ""),
        ("spoke-app", READ, True, ""),
        ("spoke-operator", OPEN, True, ""),
        ("spoke-app", {"monitoring": RULES}, False, f"{SERVICE_MONITOR} and networkPolicy.ingress.metrics"),
        ("spoke-operator", {"monitoring": RULES | MONITOR}, False, "networkPolicy.ingress.metrics"),
        ("spoke-app", {"monitoring": RULES} | READ, True, SERVICE_MONITOR),
        ("spoke-operator", {"monitoring": RULES} | OPEN, True, SERVICE_MONITOR),
        ("spoke-app", {"monitoring": RULES | MONITOR} | READ, True, ""),
    ],
)
def test_they_say_who_reads_the_metrics_and_which_alarms_go_off_for_want_of_them(
    helm: Helm, tmp_path: Path, chart: str, values: Object, read: bool, lacking: str
) -> None:
    said = notes(helm, tmp_path, chart, values)
    assert ("Nobody can read the metrics" not in said) is read
    assert ("will fire" in said) is bool(lacking)
    if lacking:
        assert "Prometheus gets no metrics" in said
        assert f". Set\n{lacking}." in said


def test_they_name_no_alarm_that_is_not_there(helm: Helm, tmp_path: Path) -> None:
    values: Object = {"monitoring": RULES}
    assert "will fire: SpokeSyncNotActive, SpokeTasksAway. Set" in notes(helm, tmp_path / "both", "spoke-app", values)
    said = notes(helm, tmp_path / "sync", "spoke-app", values | {"tasks": {"enabled": False}})
    assert "will fire: SpokeSyncNotActive. Set" in said


def test_they_name_the_new_name_of_a_renamed_value(helm: Helm, tmp_path: Path) -> None:
    said = notes(helm, tmp_path / "old", "spoke-operator", {"operator": {"deafAfterSeconds": 90}})
    assert "WARNING: the value operator.deafAfterSeconds is now operator.unhealthyAfterSeconds." in said
    assert "WARNING" not in notes(helm, tmp_path / "new", "spoke-operator", {"operator": {"unhealthyAfterSeconds": 90}})
