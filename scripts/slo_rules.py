"""``python -m scripts.slo_rules CHART``: print the chart's alerts on error budgets, files/slo.yaml.

Each objective has two alerts. A fast burn of its budget calls somebody; a slow one can wait for the next working day.
An alert looks at a long window, so that a short disturbance does not set it off, and at a short one, so that it
resolves soon. The pairs of windows are those of the SRE Workbook, chapter 5.

While jobs are paused, none starts, and after that many start late. So a pause silences the alerts until a while after
its end. A pause of a part of the jobs silences only those on starts, and only after its end: until then, its jobs do
not start, and after it they fail no more often than others. It silences the alerts on the starts of all jobs of the
namespace or of the application, because no metric says of each job whether it was paused.

That a pause has ended is known from its series, which is gone. If it may be gone for another reason, no alert is
silent: see :func:`_ended`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

LEAST_BAD = 4
"""So many jobs in the long window set off no alert, however few jobs there were."""
MOST_PAUSES = 50
"""If there are more pauses (of the operator: in a namespace and of a kind), the metrics show only so many."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows, and how many times faster than the objective allows the budget burns in both."""

    long: str
    short: str
    factor: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a budget burns."""

    name: str
    severity: str
    burns: tuple[Burn, ...]
    quiet: str
    """For how long after a pause the alert is silent: at least as long as the jobs that it has delayed are in a short
    window."""
    lasts: str
    meaning: str


FAST = Speed(
    "Fast",
    "critical",
    (Burn("1h", "5m", 14.4), Burn("6h", "30m", 6)),
    "1h",
    "2m",
    "At this rate, the budget of 30 days is gone within five days.",
)
SLOW = Speed(
    "Slow",
    "warning",
    (Burn("1d", "2h", 3), Burn("3d", "6h", 1)),
    "6h",
    "15m",
    "At this rate, the budget of 30 days is gone before they are over.",
)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is promised of jobs. The functions return expressions for a window of time."""

    name: str
    percent: str
    """The placeholder for how many jobs of a hundred have to keep the promise."""
    bad: Callable[[str], str]
    """How many jobs broke it."""
    every: Callable[[str], str]
    """How many jobs there were."""
    pauses: Callable[[str], tuple[str, ...]]
    """What makes the alert silent: each is behind an `unless`."""
    section: str
    summary: str
    advice: str

    def alert(self, speed: Speed) -> dict[str, Any]:
        """Return an alert on the budget, in Prometheus' format."""
        burning = "\n  or\n".join(self._burning(burn) for burn in speed.burns)
        silent = "\n".join(f"unless {pause}" for pause in self.pauses(speed.quiet))
        return {
            "alert": f"{self.name}{speed.name}",
            "expr": f"(\n{burning}\n)\n{silent}",
            "for": speed.lasts,
            "labels": {"severity": speed.severity},
            "annotations": {
                "summary": self.summary,
                "description": f"{speed.meaning} {self.advice}",
                "runbook_url": self.section,
            },
        }

    def _burning(self, burn: Burn) -> str:
        allowed = f"{burn.factor:g} * (1 - {self.percent} / 100)"
        return (
            f"  (\n    {self.bad(burn.long)} > {allowed} * {self.every(burn.long)}"
            f"\n    and {self.bad(burn.short)} > {allowed} * {self.every(burn.short)}"
            f"\n    and {self.bad(burn.long)} > {LEAST_BAD}\n  )"
        )


def _by_tenant(expression: str, function: str = "sum", more: str = "") -> str:
    return f"{function} by (@TENANT@{more}) (@BY_TENANT({expression})@)"


def _ended(was: str, still: str, known: str, count: str) -> str:
    """Return the pauses that have ended. If nobody knows whether a pause has ended, it has not.

    :param was: the pauses that there were.
    :param still: those that there are.
    :param known: has a value while processes report pauses.
    :param count: how to count the pauses that there are. The most that are shown may be some of more.
    """
    return f"(\n  {was}\n  unless\n  {still}\n  and on () {known}\n  unless {count} ({still}) >= {MOST_PAUSES}\n)"


def _pauses_of_operator(quiet: str) -> tuple[str, ...]:
    whole = f'max_over_time(spoke_operator_paused{{@JOB@,scope="all"}}[{quiet}])'
    everywhere = f'spoke_operator_paused{{@JOB@,source="SPOKE_OPERATOR_PAUSED"}}[{quiet}]'
    return f"on (@TENANT@) {_by_tenant(whole)}", f"on () max_over_time({everywhere})"


def _part_pauses_of_operator(quiet: str) -> tuple[str, ...]:
    part = 'spoke_operator_paused{@JOB@,scope!="all"}'
    was = _by_tenant(f"max_over_time({part}[{quiet}])", "max", ", scope")
    still = _by_tenant(part, "max", ", scope")
    # Only the leader reports pauses.
    ended = _ended(was, still, "spoke_operator_leads{@JOB@} == 1", "on (@TENANT@) count by (@TENANT@)")
    return *_pauses_of_operator(quiet), f"on (@TENANT@) {ended}"


def _pauses_of_workers(quiet: str) -> tuple[str, ...]:
    return (f'on () max_over_time(spoke_worker_paused{{@WORKERS@,scope="all"}}[{quiet}])',)


def _part_pauses_of_workers(quiet: str) -> tuple[str, ...]:
    part = 'spoke_worker_paused{@WORKERS@,scope!="all"}'
    was, still = f"max by (scope) (max_over_time({part}[{quiet}]))", f"max by (scope) ({part})"
    # A worker reads this one from the ledger just before the pauses, which it leaves out if this read fails.
    ended = _ended(was, still, "spoke_worker_jobs_failed_total{@WORKERS@}", "on () count")
    return *_pauses_of_workers(quiet), f"on () {ended}"


def _pods_started(window: str) -> str:
    return _by_tenant(f"increase(spoke_operator_job_start_seconds_count{{@JOB@}}[{window}])")


def _pods_started_late(window: str) -> str:
    bucket = 'spoke_operator_job_start_seconds_bucket{@JOB@,le=~"@START_SECONDS@(\\\\.0)?"}'
    in_time = _by_tenant(f"increase({bucket}[{window}])")
    return f"({_pods_started(window)} - {in_time})"


def _pods_finished(window: str, more: str = "") -> str:
    finished = f'spoke_operator_jobs_finished_total{{@JOB@,cause!="Cancelled"{more}}}'
    return _by_tenant(f"increase({finished}[{window}])")


def _pods_failed(window: str) -> str:
    return _pods_finished(window, ',outcome="Failed"')


def _workers_started(window: str) -> str:
    return f"sum(increase(spoke_worker_job_wait_seconds_count{{@WORKERS@}}[{window}]))"


def _workers_started_late(window: str) -> str:
    bucket = 'spoke_worker_job_wait_seconds_bucket{@WORKERS@,le=~"@START_SECONDS@(\\\\.0)?"}'
    return f"({_workers_started(window)} - sum(increase({bucket}[{window}])))"


def _workers_failed(window: str) -> str:
    """Each worker counts the failures of all. Of each five minutes, the highest of their counts is taken.

    So workers may come and go.
    """
    failed = "max(increase(spoke_worker_jobs_failed_total{@WORKERS@}[5m]))"
    return failed if window == "5m" else f"sum_over_time({failed}[{window}:5m])"


def _workers_finished(window: str) -> str:
    done = f'sum(increase(spoke_worker_attempts_total{{@WORKERS@,end="done"}}[{window}]))'
    return f"({done} + {_workers_failed(window)})"


OBJECTIVES = {
    "spoke-operator": (
        Objective(
            "SpokeJobsStartBudget",
            "@START_PERCENT@",
            _pods_started_late,
            _pods_started,
            _part_pauses_of_operator,
            "#error-budgets",
            "Too many jobs of namespace {{ $labels.@TENANT@ }} start more than @START_SECONDS@ s after their creation.",
            "{{ $value | humanize }} jobs in the longer window did. spoke_operator_waiting shows the reasons.",
        ),
        Objective(
            "SpokeJobsSuccessBudget",
            "@SUCCESS_PERCENT@",
            _pods_failed,
            _pods_finished,
            _pauses_of_operator,
            "#error-budgets",
            "Too many jobs of namespace {{ $labels.@TENANT@ }} fail.",
            "{{ $value | humanize }} jobs in the longer window did, cancelled ones not counted. "
            "spoke_operator_jobs_finished_total shows their causes, and spoke-jobs why groups them.",
        ),
    ),
    "spoke-app": (
        Objective(
            "SpokeWorkersStartBudget",
            "@START_PERCENT@",
            _workers_started_late,
            _workers_started,
            _part_pauses_of_workers,
            "#error-budgets",
            "Too many jobs of @NAMESPACE@/@NAME@ in workers start more than @START_SECONDS@ s after they are due.",
            "{{ $value | humanize }} jobs in the longer window did. spoke_worker_job_wait_seconds shows their types "
            "and queues. If the workers are busy, add replicas.",
        ),
        Objective(
            "SpokeWorkersSuccessBudget",
            "@SUCCESS_PERCENT@",
            _workers_failed,
            _workers_finished,
            _pauses_of_workers,
            "#error-budgets",
            "Too many jobs of @NAMESPACE@/@NAME@ in workers fail.",
            "{{ $value | humanize }} jobs in the longer window did, cancelled ones not counted. spoke-jobs why groups "
            "them by their causes.",
        ),
    ),
}
_HEAD = """\
# Generated by `make generate` from scripts/slo_rules.py: alerts on error budgets.
# tests/integration/charts/test_slo_alerts.py tests them.
"""


def page(chart: str) -> str:
    """Return the file of a chart."""
    alerts = [objective.alert(speed) for objective in OBJECTIVES[chart] for speed in (FAST, SLOW)]
    return _HEAD + yaml.dump({"rules": alerts}, Dumper=_Dumper, sort_keys=False, width=140)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)

if __name__ == "__main__":
    print(page(sys.argv[1]), end="")  # noqa: T201 (a tool)
