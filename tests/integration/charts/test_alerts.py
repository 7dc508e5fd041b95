"""The charts' alert rules, by Prometheus' own promtool: with figures that must set them off, and that must not.

For each alert there is a day of which four hours are bad: it fires once, and resolves.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.prometheus import program

from spoke_jobs.contract.metrics.metric_catalogue import CATALOGUE
from spoke_jobs.contract.wait_reasons import NEED_ATTENTION, WAITS
from spoke_jobs_operator.core.reporting.job_counts import NEW

from .conftest import APP_VALUES, ROOT, Helm, Object, of_kind

ON: Object = {"monitoring": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}}}
VALUES: dict[str, Object] = {"spoke-operator": ON, "spoke-app": APP_VALUES | ON | {"workers": {"main": {}, "slow": {}}}}
every_chart = pytest.mark.parametrize("chart", list(VALUES))


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool")


def rules_of(helm: Helm, chart: str, values: Object | None = None) -> list[Object]:
    """The alerts of release `rel` in namespace `ns`."""
    (rule,) = of_kind(helm.render(chart, VALUES[chart] | (values or {}), namespace="ns"), "PrometheusRule")
    ((group),) = rule["spec"]["groups"]
    rules: list[Object] = group["rules"]
    return rules


def of_alert(rules: list[Object], alert: str) -> list[Object]:
    """The rules of one alert: promtool evaluates each rule of a file in all its tests."""
    return [rule for rule in rules if rule["alert"] == alert]


def written(folder: Path, rules: list[Object]) -> Path:
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "spoke", "rules": rules}]}))
    return file


@every_chart
def test_prometheus_takes_them(helm: Helm, promtool: str, chart: str, tmp_path: Path) -> None:
    slo: Object = {"monitoring": {"rules": {"enabled": True, "slo": {"enabled": True}}}}
    (rule,) = of_kind(helm.render(chart, VALUES[chart] | slo), "PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@every_chart
def test_each_says_what_to_do_and_where_to_read_on(helm: Helm, chart: str) -> None:
    for rule in rules_of(helm, chart):
        notes = rule["annotations"]
        assert "runbook_url" not in notes, (
            "a link must be absolute, and the chart does not know where its reader's docs are"
        )
        assert re.fullmatch(r"docs/operating\.md#[a-z-]+", notes["runbook"]), rule["alert"]
        assert notes["summary"].endswith("."), rule["alert"]
        assert notes["description"], rule["alert"]
        assert "@" not in json.dumps(rule), "a word was not filled in"
        assert rule["labels"]["severity"] in {"critical", "warning"}


@every_chart
def test_they_ask_for_the_metrics_that_there_are(helm: Helm, chart: str) -> None:
    asked = set(re.findall(r"\bspoke_\w+", " ".join(rule["expr"] for rule in rules_of(helm, chart))))
    assert asked
    assert asked <= {name for spec in CATALOGUE.values() for name in spec.series}


def test_what_keeps_jobs_waiting_in_the_normal_course_of_things_is_no_alarm(helm: Helm) -> None:
    (rule,) = [item for item in rules_of(helm, "spoke-operator") if item["alert"] == "SpokeJobsCannotStart"]
    match = re.search(r'reason!~"([^"]*)"', rule["expr"])
    assert match
    assert set(match[1].split("|")) == {NEW, *WAITS} - NEED_ATTENTION


@every_chart
def test_what_is_not_wanted_is_left_out_and_the_rest_is_found_by_its_labels(helm: Helm, chart: str) -> None:
    names = [rule["alert"] for rule in rules_of(helm, chart)]
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    choice = schema["properties"]["monitoring"]["properties"]["rules"]["properties"]["without"]["items"]["enum"]
    assert names == choice
    given = {"enabled": True, "without": names[:1], "alertLabels": {"team": "a"}, "runbook": "https://book"}
    rest = rules_of(helm, chart, {"monitoring": {"rules": given}})
    assert [rule["alert"] for rule in rest] == names[1:]
    assert all(rule["labels"]["team"] == "a" for rule in rest)
    assert all(rule["annotations"]["runbook_url"].startswith("https://book#") for rule in rest)


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({"sync": {"enabled": False}, "workers": {}}, False),
        ({"sync": {"enabled": False}}, True),
        ({"workers": {}}, True),
    ],
    ids=["neither", "workers", "sync"],
)
def test_alerts_on_schedules_need_a_process_that_dispatches_their_jobs(helm: Helm, values: Object, there: bool) -> None:
    names = [rule["alert"] for rule in rules_of(helm, "spoke-app", values)]
    assert ("SpokeSchedulesLate" in names) is there


def test_one_monitor_finds_the_pods_of_all_workers(helm: Helm) -> None:
    objects = helm.render("spoke-app", VALUES["spoke-app"], namespace="ns")
    (monitor,) = of_kind(objects, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    selector = monitor["spec"]["selector"]
    (choice,) = selector["matchExpressions"]
    found = []
    for item in of_kind(objects, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if selector["matchLabels"].items() <= labels.items() and labels[choice["key"]] in choice["values"]:
            found.append(item["metadata"]["name"])
            (container,) = item["spec"]["template"]["spec"]["containers"]
            assert endpoint["port"] in [port["name"] for port in container["ports"]]
    assert found == ["rel-spoke-app-worker-main", "rel-spoke-app-worker-slow"]


def test_without_tasks_there_is_no_alarm_about_them(helm: Helm) -> None:
    rules = rules_of(helm, "spoke-app", {"tasks": {"enabled": False}})
    assert rules
    assert not [rule for rule in rules if "Tasks" in rule["alert"]]


@every_chart
def test_monitors_find_the_services_whose_names_the_rules_know(helm: Helm, chart: str) -> None:
    objects = helm.render(chart, VALUES[chart], namespace="ns")
    services = {item["metadata"]["name"]: item for item in of_kind(objects, "Service")}
    monitors = {item["metadata"]["name"]: item for item in of_kind(objects, "ServiceMonitor")}
    assert services.keys() == monitors.keys()
    for name, monitor in monitors.items():
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        assert [other for other, item in services.items() if selector <= item["metadata"]["labels"].items()] == [name]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in services[name]["spec"]["ports"]]
    asked = set(re.findall(r'job="([^"]+)"', " ".join(rule["expr"] for rule in rules_of(helm, chart))))
    pods = {f"ns/{item['metadata']['name']}" for item in of_kind(objects, "PodMonitor")}
    assert asked == monitors.keys() | pods


class Case(NamedTuple):
    """Figures by the minute, for an hour; whether the alert is on at its end."""

    alert: str
    series: dict[str, str]
    fires: bool


def operator(metric: str, **labels: str) -> str:
    return series_of(metric, job="rel-spoke-operator", pod="a", **labels)


def tenant(metric: str, name: str, **labels: str) -> str:
    """A series of a namespace's jobs, as Prometheus stores it by the chart's ServiceMonitor."""
    return series_of(metric, **{"job": "rel-spoke-operator", "pod": "a", "namespace": name, **labels})


def app(metric: str, component: str = "sync", **labels: str) -> str:
    return series_of(metric, **{"job": f"rel-spoke-app-{component}", "pod": "a", **labels})


def worker(metric: str, **labels: str) -> str:
    """A series of a worker, as Prometheus stores it by the chart's PodMonitor."""
    return series_of(metric, **{"job": "ns/rel-spoke-app-workers", "pod": "a", **labels})


def series_of(metric: str, **labels: str) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in {"namespace": "ns", **labels}.items())
    return f"{metric}{{{inside}}}"


START = "spoke_operator_job_start_seconds_bucket"
OLDEST = "spoke_operator_oldest_waiting_seconds"
HOURS, SINCE, UNTIL = 24, 8, 12


class Level(NamedTuple):
    """A gauge: while all is well, and in the four bad hours."""

    well: float
    ill: float

    def day(self) -> str:
        """Its values of each minute of a day, in promtool's notation."""
        rest = (HOURS - UNTIL) * 60
        return f"{self.well}x{SINCE * 60} {self.ill}x{(UNTIL - SINCE) * 60 - 2} {self.well}x{rest}"


class Count(NamedTuple):
    """A counter, by how much it rises in a minute."""

    well: float
    ill: float

    def day(self) -> str:
        """Its values of each minute, in promtool's notation."""
        first, second, third = SINCE * 60, (UNTIL - SINCE) * 60, (HOURS - UNTIL) * 60
        begun, over = first * self.well, first * self.well + second * self.ill
        return (
            f"0+{self.well}x{first} {begun + self.ill}+{self.ill}x{second - 1} "
            f"{over + self.well}+{self.well}x{third - 1}"
        )


FINISHED = "spoke_operator_jobs_finished_total"
DAYS: dict[str, dict[str, Level | Count]] = {
    "SpokeOperatorNoLeader": {operator("spoke_operator_leads"): Level(1, 0)},
    "SpokeOperatorDeaf": {operator("spoke_operator_stream_restarts_total"): Count(0, 1)},
    "SpokeOperatorErrors": {operator("spoke_operator_errors_total", where="reconcile"): Count(0, 5)},
    "SpokeOperatorUndiagnosable": {operator("spoke_operator_undiagnosable_total"): Count(0, 1)},
    "SpokeOperatorThrottled": {operator("spoke_operator_throttled_total"): Count(0, 5)},
    "SpokeOperatorOldDefinition": {operator("spoke_operator_status_writes_unchanged_total"): Count(0, 1)},
    "SpokeJobsCannotStart": {operator("spoke_operator_waiting", reason="TemplateMissing"): Level(0, 3)},
    "SpokeJobsStartLate": {
        operator(START, le="600"): Count(1, 0),
        operator(START, le="1800"): Count(1, 1),
        operator(START, le="+Inf"): Count(1, 1),
    },
    "SpokeJobsWaitLong": {operator(OLDEST, reason="LimitReached"): Level(60, 9000)},
    "SpokeJobsFail": {
        operator(FINISHED, outcome="Failed", cause="JobError"): Count(0, 1),
        operator(FINISHED, outcome="Succeeded", cause=""): Count(1, 1),
    },
    "SpokeSchedulesLate": {worker("spoke_worker_oldest_due_schedule_seconds"): Level(1, 600)},
    "SpokeSchedulesFail": {app("spoke_sync_schedules", state="failing"): Level(0, 1)},
    "SpokeSchedulesOrphaned": {app("spoke_sync_schedules", state="orphaned"): Level(0, 1)},
    "SpokeSyncNotActive": {app("spoke_sync_active"): Level(1, 0)},
    "SpokeSyncBehind": {app("spoke_sync_seconds_since_compare"): Level(20, 300)},
    "SpokeJobsNotLaunched": {app("spoke_sync_oldest_unlaunched_seconds"): Level(5, 300)},
    "SpokeSyncUndiagnosable": {app("spoke_sync_undiagnosable_total"): Count(0, 1)},
    "SpokeTasksAway": {app("up", "tasks"): Level(1, 0)},
    "SpokeTasksFull": {app("spoke_tasks_requests_refused_total", "tasks", status="429"): Count(0, 5)},
    "SpokeTasksStrangers": {app("spoke_tasks_requests_refused_total", "tasks", status="401"): Count(0, 1)},
    "SpokeTasksCrowded": {app("spoke_tasks_connections_closed_total", "tasks", reason="peer"): Count(0, 30)},
    "SpokeTasksFail": {app("spoke_tasks_ended_total", "tasks", outcome="failed_for_good"): Count(0, 1)},
}


FAILED = operator("spoke_operator_jobs_finished_total", outcome="Failed", cause="JobError")
CANCELLED = operator("spoke_operator_jobs_finished_total", outcome="Failed", cause="Cancelled")
SUCCEEDED = operator("spoke_operator_jobs_finished_total", outcome="Succeeded", cause="")
COMPARED, ACTIVE = app("spoke_sync_seconds_since_compare"), app("spoke_sync_active")
OTHER_COMPARED, OTHER_ACTIVE = (app(f"spoke_sync_{name}", pod="b") for name in ("seconds_since_compare", "active"))
LATE = "oldest_due_schedule_seconds"
CASES = [
    Case("SpokeOperatorNoLeader", {}, True),
    Case("SpokeOperatorNoLeader", {series_of("spoke_operator_leads", job="another-operator"): "1x60"}, True),
    Case("SpokeOperatorDeaf", {tenant("spoke_operator_compare_failures_total", "shop"): "0+1x60"}, True),
    Case("SpokeOperatorErrors", {operator("spoke_operator_errors_total", where="reconcile"): "0+0.1x60"}, False),
    Case("SpokeOperatorThrottled", {operator("spoke_operator_throttled_total"): "0+0.1x60"}, False),
    *(Case("SpokeJobsCannotStart", {operator("spoke_operator_waiting", reason=reason): "500x60"}, False)
      for reason in ("LimitReached", "New", "BackingOff")),
    Case("SpokeJobsStartLate", {operator(START, le="600"): "0x60", operator(START, le="+Inf"): "0+1x60"}, False),
    Case("SpokeJobsWaitLong", {operator(OLDEST, reason="LimitReached"): "0+60x200"}, False),
    Case("SpokeJobsWaitLong", {operator(OLDEST, reason="Suspended"): "7200+60x60"}, False),
    Case("SpokeJobsFail", {FAILED: "0+1x60", SUCCEEDED: "0+100x60"}, False),
    Case("SpokeJobsFail", {CANCELLED: "0+1x60", SUCCEEDED: "0+1x60"}, False),
    Case("SpokeSchedulesLate", {app(f"spoke_sync_{LATE}"): "0+60x60"}, True),
    Case("SpokeSchedulesLate", {app(f"spoke_sync_{LATE}"): "1x60", worker(f"spoke_worker_{LATE}"): "0+60x60",
                                worker(f"spoke_worker_{LATE}", pod="b"): "0+60x60"}, True),
    Case("SpokeSchedulesLate", {worker(f"spoke_worker_{LATE}"): "0 30 60 90x57"}, False),
    Case("SpokeSchedulesFail", {worker("spoke_worker_schedules", state="failing"): "2x60"}, True),
    Case("SpokeSchedulesFail", {worker("spoke_worker_schedules", state="active"): "2x60"}, False),
    Case("SpokeSchedulesOrphaned", {worker("spoke_worker_schedules", state="orphaned"): "1x60"}, True),
    Case("SpokeSchedulesOrphaned", {worker("spoke_worker_schedules", state="paused"): "1x60"}, False),
    Case("SpokeSyncNotActive", {}, True),
    Case("SpokeSyncNotActive", {ACTIVE: "0x60", OTHER_ACTIVE: "0x60"}, True),
    Case("SpokeSyncNotActive", {ACTIVE: "1x60", OTHER_ACTIVE: "0x60"}, False),
    Case("SpokeSyncBehind", {COMPARED: "0+60x60", ACTIVE: "0x60"}, True),
    Case("SpokeSyncBehind", {COMPARED: "0+60x60", ACTIVE: "1x60", OTHER_ACTIVE: "0x60"}, True),
    Case("SpokeSyncBehind", {COMPARED: "0+60x60", OTHER_COMPARED: "0+60x60"}, True),
    Case("SpokeSyncBehind", {COMPARED: "0+60x60", OTHER_COMPARED: "20x60"}, False),
    Case("SpokeSyncBehind", {ACTIVE: "0x60", OTHER_ACTIVE: "0x60"}, False),
    Case("SpokeTasksAway", {}, True),
    Case("SpokeTasksFull", {app("spoke_tasks_requests_refused_total", "tasks", status="503"): "0+5x60"}, False),
    Case("SpokeTasksStrangers", {app("spoke_tasks_requests_refused_total", "tasks", status="403"): "0+1x60"}, True),
    Case("SpokeTasksCrowded", {app("spoke_tasks_connections_closed_total", "tasks", reason="idle"): "0+30x60"}, False),
    Case("SpokeTasksFail", {app("spoke_tasks_refused_total", "tasks", cause="UnknownTask"): "0+1x60"}, True),
    *(Case("SpokeTasksFail", {app("spoke_tasks_ended_total", "tasks", outcome=outcome): "0+0.1x60",
                              app("spoke_tasks_refused_total", "tasks", cause="UnknownTask"): "0+0.1x60"}, fires)
      for outcome, fires in (("failed_for_good", True), ("failed", False))),
]  # fmt: skip


@pytest.fixture(scope="module")
def all_rules(helm: Helm) -> list[Object]:
    return [rule for chart in VALUES for rule in rules_of(helm, chart)]


@pytest.mark.parametrize("alert", list(DAYS))
def test_it_fires_once_and_resolves_and_goes_off_when_it_must(
    all_rules: list[Object], promtool: str, tmp_path: Path, alert: str
) -> None:
    written(tmp_path, of_alert(all_rules, alert))
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    cases = [case for case in CASES if case.alert == alert]
    tests = [an_hour(case.series, firing, [{"labels": "{}", "value": 1}] if case.fires else []) for case in cases]
    assert prometheus_says(promtool, tmp_path, [a_day(alert), *tests]) == ""


def a_day(alert: str) -> Object:
    """A test of promtool."""
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    before = firing.replace("})", "} offset 1m)")
    expected: dict[str, tuple[int, float | None]] = {
        # It fires anew where it fires, and did not fire one evaluation before.
        f"count_over_time(({firing} unless on () ({before}))[{HOURS}h:1m])": (HOURS, 1),
        f"{firing} + 0": (SINCE, None),
        firing: (SINCE + 2, 1),
        f"{firing} * 1": (HOURS, None),
    }
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": name, "values": values.day()} for name, values in DAYS[alert].items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{hour}h",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
            for expression, (hour, value) in expected.items()
        ],
    }


def an_hour(series: dict[str, str], expression: str, expected: list[Object]) -> Object:
    """A test of promtool: the samples after an hour of these series."""
    return {
        "name": f"{expected} of {series}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": "1h", "exp_samples": expected}],
    }


def prometheus_says(promtool: str, folder: Path, tests: list[Object]) -> str:
    """What promtool finds wrong; empty if all samples are as expected."""
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


TENANTS: dict[str, dict[str, str]] = {
    "SpokeJobsCannotStart": {
        tenant("spoke_operator_waiting", "busy", reason="TemplateMissing"): "400x60",
        tenant("spoke_operator_waiting", "starving", reason="Unschedulable"): "1x60",
        tenant("spoke_operator_waiting", "well", reason="LimitReached"): "900x60",
    },
    "SpokeJobsStartLate": {
        # Of 1,000 jobs a minute one in a hundred starts late: over all tenants, nobody would notice the two others.
        tenant(START, "well", le="600"): "0+990x60",
        tenant(START, "well", le="+Inf"): "0+1000x60",
        **{tenant(START, name, le=le): rate for name in ("busy", "starving")
           for le, rate in (("600", "0x60"), ("1800", "0+1x60"), ("+Inf", "0+1x60"))},
    },
    "SpokeJobsWaitLong": {
        tenant(OLDEST, "busy", reason="LimitReached"): "9000x60",
        tenant(OLDEST, "starving", reason="NamespaceLimitReached"): "90000x60",
        tenant(OLDEST, "well", reason="LimitReached"): "60x60",
    },
    "SpokeJobsFail": {
        tenant(FINISHED, "well", outcome="Succeeded", cause=""): "0+1000x60",
        tenant(FINISHED, "well", outcome="Failed", cause="JobError"): "0+50x60",
        tenant(FINISHED, "busy", outcome="Succeeded", cause=""): "0+100x60",
        tenant(FINISHED, "busy", outcome="Failed", cause="JobError"): "0+100x60",
        tenant(FINISHED, "starving", outcome="Succeeded", cause=""): "0x60",
        tenant(FINISHED, "starving", outcome="Failed", cause="StartTimeout"): "0+1x60",
    },
}  # fmt: skip


@pytest.mark.parametrize(("label", "honored"), [("namespace", False), ("tenant", True)], ids=["exported", "honored"])
@pytest.mark.parametrize("alert", list(TENANTS))
def test_no_tenant_hides_anothers_alert(
    helm: Helm, promtool: str, tmp_path: Path, alert: str, label: str, honored: bool
) -> None:
    """Whether or not Prometheus moves the metrics' label `namespace` aside to `exported_namespace`."""
    given = {"monitoring": {"rules": {"enabled": True, "namespaceLabel": label, "alertLabels": {"team": "jobs"}}}}
    written(tmp_path, of_alert(rules_of(helm, "spoke-operator", given), alert))
    series = TENANTS[alert]
    if not honored:
        series = {name.replace("{namespace=", '{namespace="ns",exported_namespace='): value
                  for name, value in series.items()}  # fmt: skip
    firing = f'count by ({label}, team) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    expected = [{"labels": f'{{{label}="{name}",team="jobs"}}', "value": 1} for name in ("busy", "starving")]
    assert prometheus_says(promtool, tmp_path, [an_hour(series, firing, expected)]) == ""


def test_every_alert_on_jobs_is_tried_with_several_tenants(helm: Helm) -> None:
    alerts = {rule["alert"] for rule in rules_of(helm, "spoke-operator")}
    assert {name for name in alerts if name.startswith("SpokeJobs")} == TENANTS.keys()


def test_every_alert_is_tried(all_rules: list[Object]) -> None:
    assert {rule["alert"] for rule in all_rules} == DAYS.keys()
