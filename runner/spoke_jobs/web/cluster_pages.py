"""The page *Cluster*: what works for jobs in their namespace. These functions block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from spoke_jobs.cluster.cluster_view import SILENCE, SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView, TemplateView
from spoke_jobs.contract.operator_state import (
    OperatorState,
    PublishedBound,
    PublishedHold,
    PublishedPause,
    PublishedQuota,
)
from spoke_jobs.contract.quota_message import QuotaUse
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.wait_text import group_text, meaning
from spoke_jobs.explain.cluster_findings import template_problem
from spoke_jobs.explain.groups import Group, groups
from spoke_jobs.explain.in_cluster import why_no_standby
from spoke_jobs.explain.reasons import SEE_TO_THE_OPERATOR
from spoke_jobs.explain.words import agreeing, line
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries, LaunchBacklog
from spoke_jobs.shared.object_fields import moment
from spoke_jobs.web.answers import Answer, Asked, Page, Reading
from spoke_jobs.web.cluster_reads import ClusterReads, read_sync
from spoke_jobs.web.view_parts import NO_SYNC, SYNC_IS_ACTIVE, GroupItem, StateCount, When, capped, group_item
from spoke_jobs.web.viewer import Viewer

SHOWN_TURNS = 20
"""The most SpokeJobs that are shown in the order of their turns."""
SHOWN_NODES = 50
"""The most nodes that are shown, the busiest ones."""
_TEXT_LIMIT = 200
_WITHOUT_CLUSTER = (
    "No cluster is configured here. Jobs that run in workers need none. If your jobs run in Kubernetes, set "
    "`SPOKE_NAMESPACE` for `spoke-jobs web` and, outside of the cluster, `KUBECONFIG`."
)
_LIMITS = {
    "all": "running jobs of the namespace",
    "maxUnfinished": "unfinished SpokeJobs that may start",
    "maxPriority": "highest priority that counts",
    "defaultTimeoutSeconds": "timeout in seconds of jobs without one",
    "maxTimeoutSeconds": "longest timeout in seconds",
    "weight": "weight of the namespace in the order of turns",
}
"""What the published limits are about that have no scope as their name, or one of which the name says too little."""


@dataclass(frozen=True, slots=True)
class LimitItem:
    """A limit that the operator obeys."""

    about: str
    value: str
    running: str
    """How many jobs count towards it; empty if the operator does not publish that."""
    source: str


@dataclass(frozen=True, slots=True)
class RateItem:
    """A rate that the operator obeys."""

    scope: str
    rate: str
    tokens: str
    source: str


@dataclass(frozen=True, slots=True)
class PauseItem:
    """A pause that the operator obeys."""

    scope: str
    reason: str
    by: str
    since: When | None
    until: When | None
    source: str


@dataclass(frozen=True, slots=True)
class HoldItem:
    """A reason for which the operator starts no attempt, or few."""

    reason: str
    meaning: str
    """Empty if this release does not know the reason."""
    about: str
    """The PodTemplate, what is short, and the like."""
    since: When | None
    next_try: When | None


@dataclass(frozen=True, slots=True)
class TemplateItem:
    """A PodTemplate."""

    name: str
    image: str
    requests: str
    """What the container of the job requests; empty if nothing."""
    types: str
    problem: str
    """Why jobs cannot use it, or why their attempts are held back; empty if nothing is known to be wrong."""


@dataclass(frozen=True, slots=True)
class PoolItem:
    """The standby pods of a PodTemplate."""

    template: str
    free: str
    starting: str
    assigned: str


@dataclass(frozen=True, slots=True)
class OperatorItem:
    """What the operator has published."""

    replica: str
    at: When
    since: When | None
    """Since when the replica has been the leader."""
    outdated: bool
    """Whether limits and pauses may have changed since. Without unfinished jobs, the operator publishes nothing."""
    counts: tuple[StateCount, ...]
    """Without addresses."""
    limits: tuple[LimitItem, ...]
    rates: tuple[RateItem, ...]
    pauses: tuple[PauseItem, ...]
    holds: tuple[HoldItem, ...]
    standby: tuple[tuple[str, str], ...]
    """PodTemplates that lack standby pods, and why."""
    pools: tuple[PoolItem, ...]
    """How many standby pods each PodTemplate has."""
    turns: tuple[str, ...]
    more_turns: bool


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """The page."""

    namespace: str
    without_cluster: str
    """That the installation has no cluster, and what to set if it has one; empty if it has one."""
    notes: tuple[str, ...]
    """What could not be read, or is not complete."""
    operator: OperatorItem | None
    """None if it has published nothing, or that could not be read."""
    absent: str
    """What to do because no operator seems to run; empty if there is no sign of that."""
    waiting: tuple[GroupItem, ...]
    """SpokeJobs that wait, by reason."""
    sync: str
    """Whether it is active; empty if the database cannot tell."""
    backlog: str
    """How many jobs wait for it."""
    oldest: When | None
    templates: tuple[TemplateItem, ...]
    nodes: tuple[tuple[str, str], ...]
    """The nodes that run attempts, and how many."""


def cluster_page(
    view: NamespaceView, waits: SpokeJobWaits, groups: Iterable[Group], backlog: LaunchBacklog, *, sync: bool | None
) -> ClusterPage:
    """Describe what works for the jobs of the namespace.

    :param groups: the SpokeJobs that wait.
    :param sync: whether sync is active; None if that is not known.
    """
    now, published = backlog.now, view.publication
    waiting = [group_item(group, now) for group in groups]
    unfinished = waits.oldest_unfinished is not None and _is_old(waits.oldest_unfinished, now)
    if waits.problem and published is not None:
        waiting = [_counted(name, number) for name, number in published.state.reasons.items()]
        unfinished = bool(waiting)
    return ClusterPage(
        line(view.namespace),
        "" if view.is_configured else _WITHOUT_CLUSTER,
        tuple(_notes(view, waits)),
        _operator(view, now),
        _absent(view, now, unfinished=unfinished),
        tuple(waiting),
        _sync(backlog, active=sync),
        capped(backlog.number),
        When.of(backlog.oldest_at, now) if backlog.oldest_at is not None else None,
        tuple(_template(each, published.state.holds if published else ()) for each in view.templates),
        tuple((_text(node), f"{number:,}") for node, number in waits.nodes[:SHOWN_NODES]),
    )


def _sync(backlog: LaunchBacklog, *, active: bool | None) -> str:
    if active is None:
        return ""
    if active:
        return SYNC_IS_ACTIVE
    return NO_SYNC if backlog.number.number else "No sync is active. Jobs under `kubernetes` need one."


def _notes(view: NamespaceView, waits: SpokeJobWaits) -> Iterable[str]:
    if view.problem and view.is_configured:
        yield f"The cluster could not be read: {line(view.problem, _TEXT_LIMIT)}"
    elif waits.problem and view.is_configured:
        yield f"SpokeJobs could not be read: {line(waits.problem, _TEXT_LIMIT)}"
    if view.state_problem:
        yield f"The operator's state could not be read: {line(view.state_problem, _TEXT_LIMIT)}"
    if view.templates_problem:
        yield f"PodTemplates could not be read: {line(view.templates_problem, _TEXT_LIMIT)}"
    if waits.more:
        yield "Not all SpokeJobs were read; there are more."
    if view.more_templates:
        yield f"These are {len(view.templates)} of the PodTemplates; there are more."
    if len(waits.nodes) > SHOWN_NODES:
        yield f"These are the {SHOWN_NODES} busiest nodes; there are more."


def _absent(view: NamespaceView, now: datetime, *, unfinished: bool) -> str:
    """Say what to do if the operator is silent although there are unfinished jobs. Without these it publishes nothing.

    :param unfinished: whether a SpokeJob has been unfinished for longer than :data:`SILENCE`. The publication that was
        read may be older than younger ones, because pages share it for some seconds.
    """
    if not unfinished or view.problem or view.state_problem:
        return ""
    if view.publication is None:
        return f"No operator has published its state here: {SEE_TO_THE_OPERATOR}."
    if _is_old(view.publication.at, now):
        return f"The operator is silent: {SEE_TO_THE_OPERATOR}."
    return ""


def _is_old(at: datetime, now: datetime) -> bool:
    """Whether the operator should have published since."""
    return now - at > SILENCE


def _counted(name: str, number: int) -> GroupItem:
    return GroupItem(
        f"{number:,}", f"{agreeing(number, 'waits', 'wait')} {line(group_text(Wait(name)), _TEXT_LIMIT)}", "", "", ""
    )


def _operator(view: NamespaceView, now: datetime) -> OperatorItem | None:
    if view.publication is None:
        return None
    state = view.publication.state
    numbers = (
        ("Running or starting in this namespace", state.running.namespace),
        ("Running or starting in all namespaces of the operator", state.running.all),
        ("Waiting for admission in this namespace", state.waiting),
        ("Starting in this namespace", state.starting),
    )
    return OperatorItem(
        line(view.publication.operator, _TEXT_LIMIT) or "unknown",
        When.of(view.publication.at, now),
        When.of(leads, now) if (leads := view.publication.leads_since) is not None else None,
        _is_old(view.publication.at, now),
        tuple(StateCount(what, f"{number:,}", "") for what, number in numbers),
        tuple(_limits(state)),
        tuple(
            RateItem(_text(rate.scope), _text(rate.rate), f"{rate.tokens:,}", _text(rate.source))
            for rate in state.rates
        ),
        tuple(_pause(pause, now) for pause in state.paused),
        tuple(_hold(hold, now) for hold in state.holds),
        tuple((_text(each.template), _text(why_no_standby(each, now))) for each in state.standby),
        tuple(
            PoolItem(_text(each.template), f"{each.free:,}", f"{each.starting:,}", f"{each.assigned:,}")
            for each in state.standby_pods
        ),
        tuple(_text(name) for name in state.turns[:SHOWN_TURNS]),
        len(state.turns) > SHOWN_TURNS,
    )


def _limits(state: OperatorState) -> Iterable[LimitItem]:
    if (most := state.limits.get("running")) is not None:
        yield LimitItem(
            "running jobs of all its namespaces",
            f"{most:,}",
            f"{state.running.all:,}",
            WaitReason.LIMIT_REACHED.setting,
        )
    running = {"all": state.running.namespace}
    running |= {f"queue:{name}": number for name, number in state.queues.items()}
    running |= {f"organization:{name}": number for name, number in state.organizations.items()}
    for scope, bound in state.namespace_limits.items():
        value, source = (bound.value, bound.source) if isinstance(bound, PublishedBound) else (bound, "")
        number = f"{running[scope]:,}" if scope in running else ""
        yield LimitItem(_LIMITS.get(scope, _text(scope)), f"{value:,}", number, _text(source))


def _pause(pause: PublishedPause, now: datetime) -> PauseItem:
    return PauseItem(
        _text(pause.scope),
        _text(pause.note or ""),
        _text(pause.by or "") or "unknown",
        _when(pause.since, now),
        _when(pause.until, now),
        _text(pause.source),
    )


def _hold(hold: PublishedHold, now: datetime) -> HoldItem:
    facts = [
        f"PodTemplate {hold.template}" if hold.template else "",
        f"short: {hold.short}" if hold.short else "",
        f"ResourceQuota {hold.quota}" if hold.quota else "",
        *(f"{each.resource}: {each.used} of {each.hard} used" for each in map(_use, hold.resources or ())),
        f"obstacles: {', '.join(hold.obstacles)}" if hold.obstacles else "",
        f"cause {hold.cause}" if hold.cause else "",
        f"{hold.pods:,} pods" if hold.pods else "",
    ]
    return HoldItem(
        _text(hold.reason),
        meaning(hold.reason),
        "; ".join(_text(fact) for fact in facts if fact),
        _when(hold.since, now),
        _when(hold.next_probe, now),
    )


def _use(each: PublishedQuota) -> QuotaUse:
    return QuotaUse(each.resource, each.requested, each.used, each.hard).in_one_unit()


def _template(each: TemplateView, holds: Iterable[PublishedHold]) -> TemplateItem:
    problem = template_problem(each.check)
    problems = [f"It {line(problem)}"] if problem else []
    problems += [_held_back(hold) for hold in holds if hold.template == each.name]
    return TemplateItem(
        _text(each.name),
        _text(each.image),
        ", ".join(f"{_text(amount)} {_text(resource)}" for resource, amount in each.requests),
        "any" if each.types is None else _text(each.types),
        "; ".join(problems),
    )


def _held_back(hold: PublishedHold) -> str:
    """Say that the operator holds back attempts of a PodTemplate."""
    why = hold.obstacles or (hold.cause or hold.short or (hold.quota and f"ResourceQuota {hold.quota}") or "",)
    said = ", ".join(_text(each) for each in why if each)
    return f"Attempts are held back: {_text(hold.reason)}{f' ({said})' if said else ''}"


def _text(text: str) -> str:
    return line(text, _TEXT_LIMIT)


def _when(text: str | None, now: datetime) -> When | None:
    found = moment({"at": text}, "at")
    return When.planned(found, now) if found is not None else None


class ClusterPages:
    """Reads a namespace, and what the ledger knows of sync. Both concern the jobs of all organizations."""

    def __init__(self, engine: Engine, queries: DashboardQueries, cluster: ClusterReads) -> None:
        self._engine = engine
        self._queries = queries
        self._cluster = cluster

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/cluster", self._namespace, of_all=True)

    def _namespace(self, _viewer: Viewer, asked: Asked) -> Answer:
        namespace, waits = self._cluster.namespace()
        backlog = self._queries.launch_backlog()
        waiting = groups(Crowd(backlog.now.astimezone(asked.zone), 0.0), waits.waiting)
        view = cluster_page(namespace, waits, waiting, backlog, sync=read_sync(self._engine).active)
        return Page("cluster.html", {"title": "Cluster", "view": view}, live=True)
