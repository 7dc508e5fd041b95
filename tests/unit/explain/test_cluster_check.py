"""What `check` says of what it found in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.explain.situations import NOW, before

from spoke_jobs.cluster.check_results import ApiRefusal, CheckResults, OperatorLease, TemplateCheck
from spoke_jobs.cluster.cluster_view import PublishedTurns
from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.cluster.rights import CREATE, RIGHTS, Right
from spoke_jobs.contract.limit_scopes import Scope, ScopeKind
from spoke_jobs.contract.operator_state import PublishedPool
from spoke_jobs.explain.cluster_findings import Finding, findings
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope
from spoke_jobs.limits.operator_limits import ledger_digest, not_obeyed
from spoke_jobs.limits.published_limits import PublishedView, to_publish

TYPES = {"report": "default", "export": "large"}
LEDGER = ledger_digest("shop")
USER = "system:serviceaccount:shop:texting-runner"
FORBIDDEN = ApiRefusal(403, "403 Forbidden: not for you")
FINE = TemplateCheck(labeled=True, has_container=True)


def found(
    *,
    account: Account = Account.RUNNER,
    types: Mapping[str, str] = TYPES,
    busy: bool = False,
    ledger_limits: Sequence[JobLimit] = (),
    **changes: Any,
) -> dict[str, Finding]:
    values: dict[str, Any] = {
        "server": "https://10.0.0.1:6443",
        "namespace": "shop",
        "user": USER,
        "served": ("v1",),
        "kinds": frozenset({"spokejobs", "spokejobs/status"}),
        "rights": {CREATE: True},
        "dry_runs": dict.fromkeys(TYPES),
        "templates": {"default": FINE, "large": FINE},
        "published": PublishedTurns(before(seconds=20)),
        "ledger": LEDGER,
    }
    checked = CheckResults(**values | changes)
    seen = findings(checked, account, types, NOW, busy=busy, limits=ledger_limits)
    return {finding.name: finding for finding in seen}


def problem(finding: Finding) -> str:
    (text,) = finding.problems
    return text


def test_all_is_well() -> None:
    seen = found()
    assert list(seen) == ["server", "definition", "rights", "dry run", "templates", "operator"]
    assert not any(finding.problems or finding.unknown for finding in seen.values())
    assert seen["server"].said == f"https://10.0.0.1:6443, as {USER}"
    assert seen["dry run"].said == "a SpokeJob of each of 2 jobs would be created"


def test_each_missing_right_is_named() -> None:
    rights = dict.fromkeys(RIGHTS[Account.SYNC], True) | {
        Right("patch", "spokejobs", "jobs.spoke.dev", "status"): False
    }
    seen = found(account=Account.SYNC, rights=rights)["rights"]
    assert problem(seen) == (
        f"{USER} may not patch spokejobs.jobs.spoke.dev/status in namespace shop: the Role FULLNAME-sync of the chart "
        "spoke-app gives that right"
    )
    assert "watch spokejobs.jobs.spoke.dev" in seen.said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"served": (), "kinds": frozenset()}, "doesn't know jobs.spoke.dev"),
        ({"served": ("v2",), "kinds": frozenset()}, "has jobs.spoke.dev in v2, and this release needs v1"),
        ({"kinds": frozenset({"spokejobs"})}, "has no spokejobs/status"),
    ],
)
def test_a_definition_that_is_missing_or_of_another_release(changes: dict[str, Any], words: str) -> None:
    assert words in problem(found(**changes)["definition"])


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (ApiRefusal(0, "no answer from the API server: ConnectTimeoutError"), "ConnectTimeoutError"),
        (ApiRefusal(401, ""), "token"),
    ],
)
def test_where_nothing_can_be_asked_one_thing_is_said(away: ApiRefusal, words: str) -> None:
    seen = found(away=away)
    assert list(seen) == ["server"]
    assert words in problem(seen["server"])
    assert "https://10.0.0.1:6443" in problem(seen["server"])


def test_jobs_that_are_refused_alike_are_named_together() -> None:
    message = '403 Forbidden: spokejobs.jobs.spoke.dev "{}" is forbidden: exceeded quota: few'
    refused = {name: ApiRefusal(403, message.format(name)) for name in ("a", "b", "c", "d")}
    finding = found(dry_runs=refused | {"e": None, "f": ApiRefusal(422, "spec.resources: bad")})["dry run"]
    first, second = finding.problems
    assert "a SpokeJob of a, b, c and 1 more would be refused" in first
    assert "exceeded quota: few" in first
    assert "a SpokeJob of f would be refused: spec.resources: bad" in second
    assert finding.said == "a SpokeJob of each of 1 job would be created"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (ApiRefusal(404, ""), "isn't in namespace shop"),
        (TemplateCheck(labeled=False, has_container=True), 'lacks the label jobs.spoke.dev/template: "true"'),
        (
            TemplateCheck(labeled=True, has_container=True, not_for=("report",), too_long="its annotation x is long"),
            "can't be used: its annotation x is long",
        ),
        (TemplateCheck(labeled=True, has_container=False), "has no container named 'job'"),
        (TemplateCheck(labeled=True, has_container=True, not_for=("export",)), "is not for export: add them to its"),
    ],
)
def test_a_template_by_which_nothing_can_run(template: TemplateCheck | ApiRefusal, words: str) -> None:
    text = problem(found(templates={"default": FINE, "large": template})["templates"])
    assert text.startswith("the PodTemplate large, which export would use")
    assert words in text


QUEUE = JobLimit(parse_scope("queue:slow"), Bounds(2))


def published(*limits: JobLimit) -> dict[str, PublishedView]:
    return {name: PublishedView(name, "uid", spec) for name, spec in to_publish(limits, LEDGER).items()}


def test_a_limit_that_is_not_published_or_not_obeyed_is_named() -> None:
    split = JobLimit(Scope(ScopeKind.QUEUE, "a\nb"), Bounds(rate=Rate(5)))
    (name,) = to_publish([QUEUE], LEDGER)
    seen = found(ledger_limits=[QUEUE, split], limits={})["limits"]
    assert seen.problems == (
        f"the limit of queue:a b is not obeyed: {not_obeyed(split.scope)}",
        f"the limit of queue:slow is not published as the SpokeLimit {name}: see the log of `spoke-jobs sync`",
    )
    old = published(replace(QUEUE, bounds=Bounds(3)))
    assert "is not published" in problem(found(ledger_limits=[QUEUE], limits=old)["limits"])
    assert found(ledger_limits=[QUEUE], limits=published(QUEUE))["limits"].said == "1 limit of the ledger published"
    unread = found(ledger_limits=[QUEUE], limits=None)["limits"]
    assert (unread.problems, f"{USER} may not list spokelimits" in unread.unknown) == ((), True)


def test_what_may_not_be_looked_at_is_no_fault() -> None:
    seen = found(templates=dict.fromkeys(("default", "large"), FORBIDDEN), published=FORBIDDEN)
    assert not any(finding.problems for finding in seen.values())
    assert seen["templates"].unknown.startswith(f"default, large not checked: {USER} may not get podtemplates")
    assert "may not get configmaps spoke-operator-state" in seen["operator"].unknown


POOLS = tuple(PublishedPool(template=f"t{number}", free=4, starting=1, assigned=2) for number in range(4))
COUNTED = "4 free, 1 starting, 2 assigned"
POOLS_SAID = f"standby pods: t0: {COUNTED}; t1: {COUNTED}; t2: {COUNTED}; 1 further PodTemplate"
LEASE = OperatorLease("operator-0_abc", before(seconds=2), timedelta(seconds=15))
LAPSED = OperatorLease("operator-0_abc", before(minutes=5), timedelta(seconds=15))


@pytest.mark.parametrize(
    ("changes", "said", "wrong"),
    [
        ({}, "seen 20 s ago", ""),
        (
            {"published": PublishedTurns(before(seconds=20), standby_pods=POOLS)},
            f"seen 20 s ago ({POOLS_SAID})",
            "",
        ),
        ({"published": None, "busy": True}, "", "no operator has published its state in namespace shop"),
        ({"published": PublishedTurns(before(minutes=5)), "busy": True}, "", "no operator has been seen for 5 min"),
        ({"published": PublishedTurns(before(minutes=5)), "lease": LEASE}, "operator-0_abc leads", ""),
        ({"published": None, "lease": LAPSED}, "", "the Lease was last renewed 5 min ago"),
        (
            {"published": None, "lease": OperatorLease("", None, timedelta(seconds=15))},
            "",
            "no operator leads: the Lease is unused",
        ),
        ({"published": None, "lease": ApiRefusal(404, "404 NotFound: leases")}, "", "can't be read: 404"),
    ],
)
def test_whether_an_operator_is_at_work(changes: dict[str, Any], said: str, wrong: str) -> None:
    finding = found(**changes)["operator"]
    assert said in finding.said
    assert wrong in "".join(finding.problems)
    assert bool(finding.problems) == bool(wrong)


@pytest.mark.parametrize("published", [None, PublishedTurns(before(days=2))])
def test_an_operator_that_has_nothing_to_say_is_not_missed(published: PublishedTurns | None) -> None:
    finding = found(published=published)["operator"]
    assert not finding.problems
    assert "--lease" in finding.unknown
