"""Decide what `check` says about a cluster, from the API server's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.cluster.check_results import ApiRefusal, CheckResults, OperatorLease, TemplateCheck
from spoke_jobs.cluster.cluster_view import SILENCE, PublishedTurns
from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.cluster.rights import Right
from spoke_jobs.contract import names
from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.explain.reasons import MESSAGE_LIMIT, SEE_TO_THE_OPERATOR
from spoke_jobs.explain.words import ago, count, line, seconds
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.limits.operator_limits import not_obeyed
from spoke_jobs.limits.published_limits import to_publish

_SHOWN = 3
_PLURAL = Kind.SPOKEJOB.plural
_LATE = 2
"""If the Lease was last renewed more than this many lease durations ago, no operator leads."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination."""

    name: str
    said: str = ""
    """What was found; empty if nothing could be read."""
    problems: tuple[str, ...] = ()
    unknown: str = ""
    """Why it could not be examined, if that is not a problem."""


def findings(
    checked: CheckResults,
    account: Account,
    types: Mapping[str, str],
    now: datetime,
    *,
    busy: bool,
    limits: Sequence[JobLimit] = (),
) -> Iterator[Finding]:
    """Decide what to say, in the order in which problems are best fixed.

    :param types: the application's job types, and the PodTemplate of each.
    :param busy: whether the ledger has unfinished jobs that the operator should be handling.
    :param limits: the ledger's limits.
    """
    if checked.away is not None:
        yield Finding("server", problems=(_away(checked),))
        return
    who = checked.user or "this account"
    yield Finding("server", f"{checked.server}, as {who}")
    yield _definition(checked)
    yield _rights(checked, account, who)
    if checked.dry_runs:
        yield _dry_runs(checked)
    if types:
        yield _templates(checked, types, who)
    if limits:
        yield _limits(checked, limits, who)
    yield _operator(checked, who, now, busy=busy)


def template_problem(found: TemplateCheck) -> str:
    """Say why jobs can't use a PodTemplate: the end of a sentence; empty if they can."""
    if not found.labeled:
        return f'lacks the label {names.LABEL_TEMPLATE}: "true": label it, if jobs may run as its service account'
    if not found.has_container:
        return f"has no container named {names.CONTAINER!r}, which runs the job"
    if found.too_long:
        return f"can't be used: {found.too_long}"
    if found.not_for:
        types = _few(list(found.not_for))
        return f"is not for {types}: add them to its annotation {ANNOTATION_TYPES}, or name another one"
    return ""


def _away(checked: CheckResults) -> str:
    assert checked.away is not None
    if checked.away.status == 401:
        return (
            f"the API server {checked.server} rejects the credentials: the token has expired, or is for "
            "another cluster; check KUBECONFIG, or the pod's service account"
        )
    said = line(checked.away.message, MESSAGE_LIMIT)
    return f"{said} ({checked.server}): check KUBECONFIG, and whether a NetworkPolicy allows this process to connect"


def _definition(checked: CheckResults) -> Finding:
    fix = "install the chart spoke-operator with crds.enabled, or `kubectl apply --server-side -f crds`"
    if not checked.served:
        problem = f"the API server doesn't know {names.GROUP}, the SpokeJob's definition: {fix}"
    elif names.VERSION not in checked.served:
        there = ", ".join(checked.served)
        problem = f"the API server has {names.GROUP} in {there}, and this release needs {names.VERSION}: {fix}"
    elif missing := {_PLURAL, f"{_PLURAL}/status"} - checked.kinds:
        problem = f"{names.API_VERSION} has no {' and no '.join(sorted(missing))}: {fix}"
    else:
        return Finding("definition", f"{_PLURAL} {names.API_VERSION}")
    return Finding("definition", problems=(problem,))


def _rights(checked: CheckResults, account: Account, who: str) -> Finding:
    allowed = [str(right) for right, answer in checked.rights.items() if answer is True]
    problems = tuple(
        _missing(right, checked.namespace, account, who) for right, answer in checked.rights.items() if answer is False
    )
    refusals = [answer for answer in checked.rights.values() if isinstance(answer, ApiRefusal)]
    unknown = f"the rights could not be checked: {line(refusals[0].message, MESSAGE_LIMIT)}" if refusals else ""
    said = f"{account}: {', '.join(allowed)}" if allowed else ""
    return Finding("rights", said, problems, unknown)


def _missing(right: Right, namespace: str, account: Account, who: str) -> str:
    role = f"the Role FULLNAME-{account} of the chart spoke-app gives that right"
    return f"{who} may not {right} in namespace {namespace}: {role}"


def _dry_runs(checked: CheckResults) -> Finding:
    refused: dict[str, list[str]] = {}
    for name, refusal in checked.dry_runs.items():
        if refusal is not None:
            refused.setdefault(refusal.message.replace(f'"{name}"', "it"), []).append(name)
    problems = tuple(
        f"a SpokeJob of {_few(kinds)} would be refused: {line(message, MESSAGE_LIMIT)}"
        for message, kinds in refused.items()
    )
    fine = sum(refusal is None for refusal in checked.dry_runs.values())
    said = f"a SpokeJob of each of {count(fine, 'job')} would be created" if fine else ""
    return Finding("dry run", said, problems)


def _templates(checked: CheckResults, types: Mapping[str, str], who: str) -> Finding:
    fine, problems, unknown = [], [], []
    for name, found in checked.templates.items():
        users = _few([kind for kind, template in types.items() if template == name])
        if isinstance(found, TemplateCheck):
            wrong = template_problem(found)
            fine += [name] if not wrong else []
            problems += [f"the PodTemplate {name}, which {users} would use, {wrong}"] if wrong else []
        elif found.status == 404:
            problems.append(
                f"the PodTemplate {name}, which {users} would use, isn't in namespace {checked.namespace}: the chart "
                f"spoke-app creates it (podTemplates.{name})"
            )
        else:
            unknown.append(name)
    words = f"{', '.join(unknown)} not checked: {who} may not get podtemplates"
    return Finding("templates", ", ".join(fine), tuple(problems), words if unknown else "")


def _limits(checked: CheckResults, limits: Sequence[JobLimit], who: str) -> Finding:
    problems = [
        f"the limit of {line(str(item.scope))} is not obeyed: {problem}"
        for item in limits
        if (problem := not_obeyed(item.scope))
    ]
    wanted, found = to_publish(limits, checked.ledger), checked.limits
    if not isinstance(found, Mapping):
        why = (
            line(found.message, MESSAGE_LIMIT) if found is not None else f"{who} may not list {Kind.SPOKELIMIT.plural}"
        )
        unknown = f"whether sync has published the ledger's limits was not checked: {why}" if wanted else ""
        return Finding("limits", problems=tuple(problems), unknown=unknown)
    lacking = [name for name, spec in wanted.items() if name not in found or found[name].spec != spec]
    problems += [
        f"the limit of {line(wanted[name].scope)} is not published as the SpokeLimit {name}: see the log of "
        "`spoke-jobs sync`"
        for name in lacking
    ]
    said = f"{count(len(wanted) - len(lacking), 'limit')} of the ledger published" if wanted else ""
    return Finding("limits", said, tuple(problems))


def _operator(checked: CheckResults, who: str, now: datetime, *, busy: bool) -> Finding:
    published, lease = checked.published, checked.lease
    if isinstance(published, PublishedTurns) and now - published.at <= SILENCE:
        return Finding("operator", f"seen {ago(published.at, now)}{_standby_pods(published)}")
    if lease is not None:
        return _leader(lease, who, now)
    if isinstance(published, ApiRefusal):
        return Finding(
            "operator",
            unknown=f"{who} may not get configmaps {names.STATE_CONFIGMAP}, where the operator publishes its state",
        )
    advice = SEE_TO_THE_OPERATOR
    ask = "it does so only in namespaces with unfinished jobs; --lease reads its Lease instead"
    if published is None:
        if busy:
            silent = f"no operator has published its state in namespace {checked.namespace}"
            problem = f"jobs are unfinished, and {silent}: {advice}"
            return Finding("operator", problems=(problem,))
        return Finding("operator", unknown=f"it has published no state in namespace {checked.namespace} yet: {ask}")
    silent = seconds((now - published.at).total_seconds())
    if busy:
        return Finding(
            "operator", problems=(f"jobs are unfinished, and no operator has been seen for {silent}: {advice}",)
        )
    return Finding("operator", unknown=f"it last published its state {silent} ago: {ask}")


def _standby_pods(published: PublishedTurns) -> str:
    """Say how many standby pods there are, by PodTemplate."""
    found = published.standby_pods
    said = [
        f"{line(each.template, MESSAGE_LIMIT)}: {each.free:,} free, {each.starting:,} starting, "
        f"{each.assigned:,} assigned"
        for each in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        said.append(count(len(found) - _SHOWN, "further PodTemplate"))
    return f" (standby pods: {'; '.join(said)})" if said else ""


def _leader(lease: OperatorLease | ApiRefusal, who: str, now: datetime) -> Finding:
    if isinstance(lease, ApiRefusal):
        if lease.status == 403:
            return Finding("operator", unknown=f"{who} may not get the operator's Lease")
        said = line(lease.message, MESSAGE_LIMIT)
        return Finding("operator", problems=(f"the operator's Lease can't be read: {said}",))
    late = now - (lease.renewed_at or now - timedelta(days=1))
    if lease.holder and late <= _LATE * lease.lasts:
        return Finding(
            "operator", f"{line(lease.holder)} leads; it renewed its Lease {seconds(max(late.total_seconds(), 0))} ago"
        )
    what = (
        f"the Lease was last renewed {seconds(late.total_seconds())} ago" if lease.renewed_at else "the Lease is unused"
    )
    return Finding("operator", problems=(f"no operator leads: {what}; check that the spoke-operator runs",))


def _few(names_: list[str]) -> str:
    shown = ", ".join(line(name) for name in names_[:_SHOWN])
    return shown if len(names_) <= _SHOWN else f"{shown} and {len(names_) - _SHOWN:,} more"
