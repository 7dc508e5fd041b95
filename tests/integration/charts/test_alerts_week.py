"""A week of data for each of the charts' alerts, of which four hours are bad: it fires once, and resolves."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.prometheus import program

from .conftest import Helm, Object
from .test_alerts import START, VALUES, app, operator, rules_of, worker

HOURS, SINCE, UNTIL = 168, 72, 76


class Level(NamedTuple):
    """A gauge."""

    well: float
    ill: float

    def week(self) -> str:
        """Its values of each minute, in promtool's notation."""
        rest = (HOURS - UNTIL) * 60
        return f"{self.well}x{SINCE * 60} {self.ill}x{(UNTIL - SINCE) * 60 - 2} {self.well}x{rest}"


class Count(NamedTuple):
    """A counter, by how much it rises in a minute."""

    well: float
    ill: float

    def week(self) -> str:
        """Its values of each minute, in promtool's notation."""
        first, second, third = SINCE * 60, (UNTIL - SINCE) * 60, (HOURS - UNTIL) * 60
        begun, over = first * self.well, first * self.well + second * self.ill
        return (
            f"0+{self.well}x{first} {begun + self.ill}+{self.ill}x{second - 1} "
            f"{over + self.well}+{self.well}x{third - 1}"
        )


FINISHED = "spoke_operator_jobs_finished_total"
WEEKS: dict[str, dict[str, Level | Count]] = {
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
    "SpokeJobsWaitLong": {operator("spoke_operator_oldest_waiting_seconds", reason="LimitReached"): Level(60, 9000)},
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


@pytest.mark.parametrize("chart", list(VALUES))
def test_each_alert_fires_once_and_resolves(helm: Helm, chart: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", *(written(tmp_path, rule) for rule in rules_of(helm, chart))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def written(folder: Path, rule: Object) -> Path:
    """Write the test of one alert. It has no other rule: promtool evaluates each of a file's rules in all its tests."""
    name = rule["alert"]
    (folder / f"{name}.rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "spoke", "rules": [rule]}]}))
    file = folder / f"{name}.test.yaml"
    test = {"rule_files": [f"{name}.rules.yaml"], "evaluation_interval": "5m", "tests": [week_of(name)]}
    file.write_text(yaml.safe_dump(test))
    return file


def week_of(alert: str) -> Object:
    """A test of promtool."""
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    before = firing.replace("})", "} offset 5m)")
    expected: dict[str, tuple[int, float | None]] = {
        # It fires anew where it fires, and did not fire one evaluation before.
        f"count_over_time(({firing} unless on () ({before}))[{HOURS}h:5m])": (HOURS, 1),
        f"{firing} + 0": (SINCE, None),
        firing: (SINCE + 2, 1),
        f"{firing} * 1": (HOURS, None),
    }
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": name, "values": values.week()} for name, values in WEEKS[alert].items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{hour}h",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
            for expression, (hour, value) in expected.items()
        ],
    }
