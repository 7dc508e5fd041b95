"""The charts' alerts on error budgets, by Prometheus' own promtool: a week with an incident for each of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest
import yaml
from scripts import slo_rules
from tests.prometheus import program

from spoke_jobs.contract.metrics import application_catalogue
from spoke_jobs.contract.metrics.metric_catalogue import CATALOGUE, buckets_of
from spoke_jobs_operator.core.reporting import job_counts

from .conftest import APP_VALUES, ROOT, Helm, Object, merged, of_kind

SLO: Object = {"monitoring": {"rules": {"enabled": True, "slo": {"enabled": True}}}}
VALUES: dict[str, Object] = {"spoke-operator": SLO, "spoke-app": merged(APP_VALUES, SLO) | {"workers": {"main": {}}}}
every_chart = pytest.mark.parametrize("chart", list(VALUES))

MINUTES = 7 * 24 * 60
"""Of a week."""


def groups_of(helm: Helm, chart: str, values: Object | None = None) -> list[Object]:
    (rule,) = of_kind(helm.render(chart, merged(VALUES[chart], values or {}), namespace="ns"), "PrometheusRule")
    groups: list[Object] = rule["spec"]["groups"]
    return groups


def budgets_of(helm: Helm, chart: str, values: Object | None = None) -> list[Object]:
    """The alerts on error budgets."""
    rules: list[Object] = groups_of(helm, chart, values)[-1]["rules"]
    return rules


PROMISES = ("Start", "Success")
PREFIX = {"spoke-operator": "SpokeJobs", "spoke-app": "SpokeWorkers"}


def budgets_of_promise(helm: Helm, chart: str, promise: str) -> list[Object]:
    """The alerts on one budget: promtool evaluates each rule of a file in all its tests, and that takes a second."""
    return [rule for rule in budgets_of(helm, chart) if rule["alert"].startswith(f"{PREFIX[chart]}{promise}")]


@every_chart
def test_they_are_off_unless_wanted(helm: Helm, chart: str) -> None:
    assert len(groups_of(helm, chart)) == 2
    assert len(groups_of(helm, chart, {"monitoring": {"rules": {"slo": {"enabled": False}}}})) == 1
    (without,) = of_kind(helm.render("spoke-app", VALUES["spoke-app"] | {"workers": {}}), "PrometheusRule")
    assert len(without["spec"]["groups"]) == 1, "there are no workers"


@every_chart
def test_they_ask_for_the_metrics_that_there_are_and_say_what_to_do(helm: Helm, chart: str) -> None:
    rules = budgets_of(helm, chart)
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}
    for rule in rules:
        asked = set(re.findall(r"\bspoke_\w+", rule["expr"]))
        assert asked <= {name for spec in CATALOGUE.values() for name in spec.series}
        assert not re.search("@[A-Z_]+@", json.dumps(rule)), "a word was not filled in"
        assert rule["annotations"]["runbook"] == "docs/operating.md#error-budgets"


def test_they_know_how_many_pauses_are_shown() -> None:
    assert slo_rules.MOST_PAUSES == application_catalogue.MOST_SCOPES == job_counts.MOST_SCOPES


@every_chart
def test_the_time_to_the_start_is_a_bound_of_the_histogram(chart: str) -> None:
    """Between two bounds nobody knows how many jobs there were."""
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    slo = schema["properties"]["monitoring"]["properties"]["rules"]["properties"]["slo"]["properties"]
    name = {"spoke-operator": "spoke_operator_job_start_seconds", "spoke-app": "spoke_worker_job_wait_seconds"}[chart]
    assert tuple(slo["startSeconds"]["enum"]) == buckets_of(name)


@dataclass(frozen=True)
class Spell:
    """What is different for a part of the week."""

    since: float
    """Hours from the beginning of the week."""
    hours: float
    share: float = 0.0
    """The share of the jobs that break the promise."""
    jobs: float = 10.0
    """How many jobs start, or end, in a minute."""

    def covers(self, hour: float) -> bool:
        return self.since <= hour < self.since + self.hours


Pauses = Mapping[str, tuple[float, float]]
"""By scope, from when to when, in hours."""


def counters(spells: Sequence[Spell]) -> tuple[str, str, str]:
    """The counters of all jobs, of the good and of the bad ones, by the minute."""
    usual = Spell(0, 0)
    week = [next((spell for spell in spells if spell.covers(minute / 60)), usual) for minute in range(MINUTES)]
    every = [spell.jobs for spell in week]
    bad = [spell.jobs * spell.share for spell in week]
    return summed(every), summed([all_ - bad_ for all_, bad_ in zip(every, bad, strict=True)]), summed(bad)


def summed(increases: Sequence[float]) -> str:
    """A counter from nought on, in promtool's notation."""
    total, parts = 0.0, ["0"]
    for increase, group in groupby(increases):
        number = len(list(group))
        parts.append(f"{total + increase:.10g}+{increase:.10g}x{number - 1}")
        total += increase * number
    return " ".join(parts)


def paused(since: float, until: float) -> str:
    """The samples of a pause: before and after it there is no series."""
    before, there = round(since * 60), round((until - since) * 60)
    return f"{f'_x{before} ' if before else ''}1x{there - 1} stale"


def known(blind: tuple[float, float] | None) -> str:
    """The samples of a series that processes have while they report pauses.

    :param blind: from when to when they do not, in hours.
    """
    if blind is None:
        return f"1x{MINUTES - 1}"
    since, until = (round(hour * 60) for hour in blind)
    return f"1x{since - 1} stale _x{until - since - 1} 1x{MINUTES - until - 1}"


def series_of(
    chart: str, promise: str, spells: Sequence[Spell], pauses: Pauses, blind: tuple[float, float] | None = None
) -> dict[str, str]:
    """The series of a week, as far as they are about one promise."""
    every, good, bad = counters(spells)
    labels = {
        "spoke-operator": 'namespace="shop",job="rel-spoke-operator",pod="a"',
        "spoke-app": 'namespace="ns",job="ns/rel-spoke-app-workers",pod="a"',
    }[chart]
    another = labels.replace('pod="a"', 'pod="b"')
    process = {"spoke-operator": "operator", "spoke-app": "worker"}[chart]
    start = {"operator": "spoke_operator_job_start_seconds", "worker": "spoke_worker_job_wait_seconds"}[process]
    found = {
        ("operator", "Success"): {
            f'spoke_operator_jobs_finished_total{{{labels},outcome="Failed",cause="JobError"}}': bad,
            f'spoke_operator_jobs_finished_total{{{labels},outcome="Failed",cause="Cancelled"}}': every,
            f'spoke_operator_jobs_finished_total{{{labels},outcome="Succeeded",cause=""}}': good,
        },
        ("worker", "Success"): {
            f"spoke_worker_jobs_failed_total{{{labels}}}": bad,
            f"spoke_worker_jobs_failed_total{{{another}}}": bad,
            f'spoke_worker_attempts_total{{{labels},end="done"}}': good,
        },
    }.get(
        (process, promise),
        {
            f'{start}_bucket{{{labels},le="60.0"}}': good,
            f'{start}_bucket{{{labels},le="300.0"}}': every,
            f"{start}_count{{{labels}}}": every,
        },
    )
    sign = {"operator": "spoke_operator_leads", "worker": "spoke_worker_jobs_failed_total"}[process]
    return (
        {f"{sign}{{{labels}}}": known(blind)}
        | found
        | {
            f'spoke_{process}_paused{{{labels},scope="{scope}",by="sam"}}': paused(*when)
            for scope, when in pauses.items()
        }
    )


@dataclass(frozen=True)
class Case:
    """What happens in a week, and which alerts fire, at least from when to when, in hours."""

    spells: Sequence[Spell]
    pauses: Pauses = field(default_factory=dict)
    fires: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    of: tuple[str, ...] = PROMISES
    """The promises whose alerts fire."""
    blind: tuple[float, float] | None = None
    """From when to when no process reports pauses, in hours."""


INCIDENT = Spell(96, 1, share=0.5)
CREEPING = Spell(96, 24, share=0.04)
STANDSTILL = Spell(96, 3, jobs=0)
CATCHING_UP = Spell(99, 0.5, share=0.9)
CAUGHT_UP = {"Fast": (99.5, 99 + 2 / 3)}
CASES = {
    "nothing happens": Case([]),
    "a few jobs": Case([Spell(96, 1, share=0.005)]),
    "an incident of an hour": Case([INCIDENT], fires={"Fast": (96.5, 97)}),
    "a day that is worse than usual": Case([CREEPING], fires={"Slow": (115, 123)}),
    "a standstill that nobody wanted": Case([STANDSTILL, CATCHING_UP], fires=CAUGHT_UP),
    "a pause": Case([STANDSTILL, CATCHING_UP], {"all": (96, 99)}),
    "a pause of a part": Case([CATCHING_UP], {"queue:mail": (90, 99)}, CAUGHT_UP, of=("Success",)),
    "a pause of a part that nobody knows about": Case(
        [INCIDENT], {"queue:mail": (90, 96)}, {"Fast": (96.5, 97)}, blind=(96, 98)
    ),
    "an incident when one of many pauses is shown no longer": Case(
        [INCIDENT], {f"queue:{number}": (90, 168) for number in range(50)} | {"type:a": (90, 96)}, {"Fast": (96.5, 97)}
    ),
    "one of a few pauses ends": Case(
        [CATCHING_UP],
        {f"queue:{number}": (90, 168) for number in range(49)} | {"type:a": (90, 99)},
        CAUGHT_UP,
        of=("Success",),
    ),
    "an incident while a part is paused": Case([INCIDENT], {"queue:mail": (2, 168)}, {"Fast": (96.5, 97)}),
    "an incident while all is paused": Case([INCIDENT], {"all": (90, 100)}),
    "an incident long after a pause": Case([INCIDENT], {"all": (80, 90)}, {"Fast": (96.5, 97)}),
}


FEW = ("an incident of an hour", "a day that is worse than usual", "a pause")


@every_chart
@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("cases", [pytest.param(FEW, id="few"), pytest.param(tuple(CASES), id="all")])
def test_in_a_week_each_alert_fires_once_and_resolves_and_pauses_silence_it(
    helm: Helm, chart: str, promise: str, cases: Sequence[str], tmp_path: Path
) -> None:
    rules = budgets_of_promise(helm, chart, promise)
    alert = f"{PREFIX[chart]}{promise}Budget"
    tests = [
        week(name, rules, series_of(chart, promise, case.spells, case.pauses, case.blind),
             {f"{alert}{speed}": when for speed, when in case.fires.items() if promise in case.of})
        for name, case in CASES.items()
        if name in cases
    ]  # fmt: skip
    assert promtool_says(tmp_path, rules, tests) == ""


def test_a_pause_of_all_namespaces_silences_those_of_each(helm: Helm, tmp_path: Path) -> None:
    rules = budgets_of_promise(helm, "spoke-operator", "Start")
    series = series_of("spoke-operator", "Start", [STANDSTILL, CATCHING_UP], {})
    labels = 'namespace="ns",job="rel-spoke-operator",pod="a",scope="all",source="SPOKE_OPERATOR_PAUSED"'
    series |= {f"spoke_operator_paused{{{labels}}}": paused(96, 99)}
    assert promtool_says(tmp_path, rules, [week("all namespaces", rules, series, {})]) == ""


def test_one_namespace_s_pause_silences_no_other_one(helm: Helm, tmp_path: Path) -> None:
    rules = budgets_of_promise(helm, "spoke-operator", "Start")
    series = series_of("spoke-operator", "Start", [INCIDENT], {"all": (90, 100)})
    other = series_of("spoke-operator", "Start", [INCIDENT], {})
    series |= {name.replace('namespace="shop"', 'namespace="other"'): values for name, values in other.items()}
    firing = 'count by (namespace) (ALERTS{alertstate="firing"})'
    test = week("two namespaces", [], series, {})
    test["promql_expr_test"] = [
        {"expr": firing, "eval_time": "5800m", "exp_samples": [{"labels": '{namespace="other"}', "value": 1}]}
    ]
    assert promtool_says(tmp_path, rules, [test]) == ""


def test_a_few_jobs_of_an_idle_application_call_nobody(helm: Helm, tmp_path: Path) -> None:
    """Half of them fail: three."""
    for chart in VALUES:
        quiet = [Spell(0, 96, jobs=0), Spell(96, 1, share=0.5, jobs=6 / 60), Spell(97, 100, jobs=0)]
        for promise in PROMISES:
            rules = budgets_of_promise(helm, chart, promise)
            test = week(promise, rules, series_of(chart, promise, quiet, {}), {})
            assert promtool_says(tmp_path, rules, [test]) == ""


def week(
    name: str, rules: Sequence[Object], series: Mapping[str, str], fires: Mapping[str, tuple[float, float]]
) -> Object:
    """A test of promtool: of these alerts only the given ones fire, each once, at least from when to when."""
    tests: list[Object] = []
    for rule in rules:
        firing = f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}})'
        begins = f"count_over_time(({firing} unless on () ({firing.replace('})', '} offset 10m)')}))[7d:10m])"
        wanted = fires.get(rule["alert"])
        tests += [sample(begins, MINUTES, 1 if wanted else None), sample(firing, MINUTES, None)]
        tests += [sample(firing, round(hour * 60), 1) for hour in wanted or ()]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": series_name, "values": values} for series_name, values in series.items()],
        "promql_expr_test": tests,
    }


def sample(expression: str, minute: int, value: float | None) -> Object:
    expected: list[Object] = [] if value is None else [{"labels": "{}", "value": value}]
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": expected}


def promtool_says(folder: Path, rules: Sequence[Object], tests: Sequence[Object]) -> str:
    """What promtool finds wrong; empty if all is as expected. The alerts are evaluated every ten minutes."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "slo", "rules": list(rules)}]}))
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "10m", "tests": list(tests)}))
    done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
