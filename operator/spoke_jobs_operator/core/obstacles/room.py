"""Decide how many pods may wait for a node or start at a time, so that few wait in the scheduler's queue.

Pods in the scheduler's queue start in the scheduler's order. So the operator admits only as many SpokeJobs as the nodes
take at once. The others wait here, in the order of priority and turn.

Pods of one PodTemplate are a group, since they compete for the same nodes. While a pod of a group waits for room, few
further pods of that group are admitted. A group whose pods do not wait is not held back by the pods of another group,
because it may use other nodes.

Each namespace has a share of every bound. So pods of one namespace that never start keep no other namespace from
starting its own, whoever created their Jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypeVar

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import with_reason
from spoke_jobs.contract.operator_state import PublishedHold
from spoke_jobs.contract.wait_reasons import WAITS, Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.attempt_state import Ended, Pends, Runs, Unclear
from spoke_jobs_operator.core.diagnosis.refusals import quota_wait
from spoke_jobs_operator.core.diagnosis.scheduler_message import FITS_NOWHERE, shortage
from spoke_jobs_operator.core.objects.api_objects import Key, Pod

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
IN_A_FULL_GROUP = 10
"""The most pods of a group without a node while one of them waits for room."""
STARTING_ON_A_NODE = 10
"""How many pods may start at a time for each node that runs attempts."""
LATE_ON_A_NODE = timedelta(seconds=30)
"""If its node takes longer than this to start a pod, the pod no longer counts: a slow image must not hold up others."""
LATE_WITHOUT_NODE = timedelta(seconds=120)
"""If the scheduler takes longer than this to decide about a pod, the pod no longer counts, either."""
REMEMBERED = timedelta(seconds=60)
"""How long a group counts as full after its last pod that waited for room."""
UNWRITTEN = timedelta(seconds=60)
"""A job younger than this gets no reason in its status if it is held only because others start."""
FAST = timedelta(seconds=3)
SLOW = timedelta(seconds=10)
"""A start within `FAST`, while many pods start, raises the number of pods that may start at a time by one. A start
slower than `SLOW` lowers it by two."""
STUCK = frozenset(
    {
        WaitReason.UNSCHEDULABLE,
        WaitReason.NO_NODE_MATCHES,
        WaitReason.RESOURCE_CLAIM_PENDING,
        WaitReason.SANDBOX_FAILED,
        WaitReason.REGISTRY_AWAY,
    }
)
"""The reasons of pods that can't start, and not because of others. All causes are such reasons, too."""
NOT_YET = Wait("")
"""No reason: the next admission follows soon, so this wait is not worth a status write."""


class Group(NamedTuple):
    """A PodTemplate of a namespace."""

    namespace: str
    template: str


class Phase(Enum):
    """How far the pod of an attempt has come."""

    NO_NODE = "no node"
    """The pod is being created, or the scheduler has not decided yet."""
    NO_ROOM = "no room"
    """The scheduler finds no node with room for the pod."""
    HAS_NODE = "has node"
    """The pod's node is starting it."""
    OTHER = "other"
    """The pod runs, ends, or can't start for a reason other than room."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the operator has observed of an attempt's pod."""

    phase: Phase
    short: str = ""
    """With `NO_ROOM`: which resources are short."""
    node: str = ""
    runs: bool = False
    """Whether the pod's container runs."""
    start_timeout: float = 0.0
    """With `runs`: for how many seconds its process waits for its database."""
    has_pod: bool = False
    refused: Wait | None = None
    """What the attempt waits for, if a ResourceQuota or an absent webhook refuses its pod."""
    stuck: Wait | None = None
    """What the attempt waits for, if its pod can't start, and not because of others."""
    recorded: bool = False
    """Whether the attempt has ended, and its process has recorded that in the ledger."""


def sighting(
    pod: Pod | None, state: Ended | Runs | Pends | Unclear, start_timeout: float = 0.0, *, node_lost: bool = False
) -> Sighting:
    """Return the observation of an attempt with this state.

    :param node_lost: whether the pod would fit a node that went away.
    """
    node, has_pod = pod.node if pod else "", pod is not None
    if isinstance(state, Pends) and state.reason == WaitReason.CLUSTER_FULL:
        return Sighting(Phase.NO_ROOM, short=shortage(state.message), has_pod=has_pod)
    if isinstance(state, Pends) and state.reason == WaitReason.QUOTA_EXCEEDED:
        return Sighting(Phase.OTHER, refused=quota_wait(state.message) or Wait(WaitReason.QUOTA_EXCEEDED))
    if isinstance(state, Pends) and state.reason == WaitReason.WEBHOOK_AWAY:
        return Sighting(Phase.OTHER, refused=Wait(WaitReason.WEBHOOK_AWAY, detail=state.message))
    if isinstance(state, Pends) and state.reason == WaitReason.POD_PENDING:
        return Sighting(Phase.HAS_NODE if node else Phase.NO_NODE, node=node, has_pod=has_pod)
    return Sighting(
        Phase.OTHER,
        node=node,
        runs=isinstance(state, Runs),
        start_timeout=start_timeout,
        has_pod=has_pod,
        stuck=None if node_lost and _fits_nowhere(state) else _stuck(state),
        recorded=isinstance(state, Ended) and state.recorded,
    )


def _fits_nowhere(state: Ended | Runs | Pends | Unclear) -> bool:
    return isinstance(state, Pends) and state.reason in FITS_NOWHERE


def _stuck(state: Ended | Runs | Pends | Unclear) -> Wait | None:
    """Return what keeps a pod from starting, if no other pod's end and no other program's decision is waited for."""
    if not isinstance(state, Pends) or (state.reason in WAITS and state.reason not in STUCK):
        return None
    return Wait(state.reason, object=state.object, since=state.since, detail=state.message)


@dataclass(slots=True)
class _Attempt:
    group: Group
    since: datetime
    phase: Phase = Phase.NO_NODE
    node: str = ""
    adopted: bool = False
    """Whether an earlier leader or process created its Job. How long its start took is then unknown."""
    late: bool = False
    """Whether the attempt no longer counts, because it takes long to start without waiting for room."""


_LATE = {Phase.NO_NODE: LATE_WITHOUT_NODE, Phase.HAS_NODE: LATE_ON_A_NODE}


@dataclass(slots=True)
class _Bounded:
    """The pods that one bound counts, by namespace."""

    total: int = 0
    in_namespace: Counter[str] = field(default_factory=Counter)

    def count(self, namespace: str, by: int) -> None:
        """Change the count."""
        self.total += by
        bump(self.in_namespace, namespace, by)

    def is_reached(self, bound: int, namespace: str) -> bool:
        """Whether the namespace may have no further pod: the bound is reached, and the namespace has its share of it.

        The share is the bound divided by the number of namespaces that have such pods, but at least one pod. If as many
        namespaces as the bound allows pods have one each, the others wait for one of them.
        """
        if self.total < bound:
            return False
        own, namespaces = self.in_namespace[namespace], len(self.in_namespace)
        return namespaces >= bound or own >= bound // (namespaces if own else namespaces + 1)


@dataclass(slots=True)
class _Full:
    short: str
    since: datetime
    until: datetime


class Room:
    """The attempts that are starting, and the groups that have no room.

    :param most_pending: the most pods without a node, and the fewest that may start at a time.
    """

    def __init__(self, most_pending: int) -> None:
        self.most_pending = most_pending
        self._attempts: dict[Key, _Attempt] = {}
        self._starting: set[Key] = set()  # those that may become late
        self._pending = _Bounded()
        self._not_full = _Bounded()  # those of them that do not wait for room
        self._without_node = _Bounded()
        self._no_node: Counter[Group] = Counter()  # including those that wait for room
        self._no_room: Counter[Group] = Counter()
        self._nodes: Counter[str] = Counter()
        self._full: dict[Group, _Full] = {}
        self._window = float(most_pending)

    @property
    def pending(self) -> int:
        """How many pods have no node yet, or are being started by their node."""
        return self._pending.total

    @property
    def wait_for_room(self) -> int:
        """How many pods wait for room."""
        return self._pending.total - self._not_full.total

    @property
    def may_start(self) -> int:
        """How many pods may start at a time."""
        return max(int(self._window), self.most_pending, STARTING_ON_A_NODE * len(self._nodes))

    def closed_in(self, namespace: str) -> bool:
        """Whether no SpokeJob of the namespace can be admitted now."""
        return self._not_full.is_reached(self.may_start, namespace)

    def published(self, namespace: str) -> list[PublishedHold]:
        """Return the full groups of a namespace: what is short, since when, and how many pods wait."""
        return [
            PublishedHold(
                reason=WaitReason.CLUSTER_FULL,
                template=group.template,
                short=full.short,
                since=full.since.isoformat(),
                pods=self._no_room[group],
            )
            for group, full in of_namespace(self._full, namespace)
        ]

    def why(self, group: Group, created_at: datetime, now: datetime) -> Wait | None:
        """Return why a SpokeJob of the group can't be admitted now; None if it can."""
        if not self._is_held(group):
            return None
        full = self._full.get(group)
        if full is not None:
            return Wait(WaitReason.CLUSTER_FULL, object=full.short, running=self._no_room[group], since=full.since)
        if now - created_at < UNWRITTEN:
            return NOT_YET
        return Wait(WaitReason.START_LIMIT_REACHED, running=self.pending, limit=self.may_start)

    def _is_held(self, group: Group) -> bool:
        without_node = self._without_node.is_reached(self.most_pending, group.namespace)
        if self._no_room[group]:
            if self._no_node[group] >= IN_A_FULL_GROUP or without_node:
                return True
        elif without_node and self._no_node[group]:
            return True
        if not self._pending.is_reached(self.may_start, group.namespace):
            return False
        return self.closed_in(group.namespace) or bool(self._no_node[group])

    def admit(self, key: Key, group: Group, now: datetime, *, adopted: bool = False) -> None:
        """Count a SpokeJob that gets a Job.

        :param adopted: whether it has its Job already.
        """
        self.release(key)
        self._attempts[key] = attempt = _Attempt(group, now, adopted=adopted)
        self._starting.add(key)
        self._count(attempt, 1)

    def release(self, key: Key) -> None:
        """Stop counting a SpokeJob that has no attempt."""
        self._starting.discard(key)
        if (attempt := self._attempts.pop(key, None)) is not None:
            self._count(attempt, -1)

    def observe(self, key: Key, seen: Sighting, now: datetime) -> bool:
        """Record how far the pod of an admitted SpokeJob has come. Return whether it has come further."""
        attempt = self._attempts.get(key)
        if attempt is None:
            return False
        if seen.phase is Phase.NO_ROOM:
            self._remember(attempt.group, seen.short, now)
        if (attempt.phase, attempt.node) == (seen.phase, seen.node):
            return False
        if seen.runs and attempt.phase in (Phase.NO_NODE, Phase.HAS_NODE) and not attempt.adopted:
            self._adapt(now - attempt.since)
        self._count(attempt, -1)
        if attempt.phase is Phase.NO_ROOM:  # its start begins now
            attempt.since, attempt.late = now, False
        attempt.phase, attempt.node = seen.phase, seen.node
        if seen.phase in _LATE and not attempt.late:
            self._starting.add(key)
        else:
            self._starting.discard(key)
        self._count(attempt, 1)
        return True

    def tick(self, now: datetime) -> bool:
        """Stop counting attempts that take long to start. Return whether there are such attempts."""
        found = False
        for key in list(self._starting):
            attempt = self._attempts[key]
            if now - attempt.since >= _LATE[attempt.phase]:
                self._starting.discard(key)
                self._count(attempt, -1)
                attempt.late = True
                self._count(attempt, 1)
                found = True
        for group, full in list(self._full.items()):
            if self._no_room[group]:
                full.until = now + REMEMBERED
            elif now >= full.until:
                del self._full[group]
        return found

    def _remember(self, group: Group, short: str, now: datetime) -> None:
        full = self._full.get(group)
        if full is None:
            self._full[group] = _Full(short, now, now + REMEMBERED)
        else:
            full.short, full.until = short, now + REMEMBERED

    def _adapt(self, took: timedelta) -> None:
        """Let more pods start at a time while nodes start many of them fast, and fewer while nodes are slow.

        A fast start raises the number only if many pods are starting: nodes start a few pods fast in any case.
        """
        if took <= FAST and 2 * self.pending >= self.may_start:
            self._window = min(self._window + 1, 1_000)
        elif took > SLOW:
            self._window = max(self._window - 2, self.most_pending)

    def _count(self, attempt: _Attempt, by: int) -> None:
        if attempt.node:
            bump(self._nodes, attempt.node, by)
        if attempt.late and attempt.phase is not Phase.NO_ROOM:
            return
        if attempt.phase is not Phase.OTHER:
            self._pending.count(attempt.group.namespace, by)
        if attempt.phase in (Phase.NO_NODE, Phase.HAS_NODE):
            self._not_full.count(attempt.group.namespace, by)
        if attempt.phase in (Phase.NO_NODE, Phase.NO_ROOM):
            self._without_node.count(attempt.group.namespace, by)
            bump(self._no_node, attempt.group, by)
        if attempt.phase is Phase.NO_ROOM:
            bump(self._no_room, attempt.group, by)


def of_namespace(groups: Mapping[Group, V], namespace: str) -> list[tuple[Group, V]]:
    """Return what is known of the groups of a namespace."""
    return [(group, groups[group]) for group in sorted(groups) if group.namespace == namespace]


def pods_not_starting(newest: Wait, count: int, since: datetime | None) -> Wait:
    """Return the wait for other pods or Jobs of the same PodTemplate: so many can't start, the last for this reason."""
    detail = with_reason(newest.code, wait_text.sentence(newest))
    return Wait(WaitReason.PODS_NOT_STARTING, object=newest.code, running=count, since=since, detail=detail)


def published_not_starting(group: Group, waits: Collection[Wait], since: datetime) -> PublishedHold:
    """Return what is published of a PodTemplate whose pods or Jobs can't start."""
    return PublishedHold(
        reason=WaitReason.PODS_NOT_STARTING,
        template=group.template,
        obstacles=tuple(sorted({str(wait.code) for wait in waits})),
        since=since.isoformat(),
        pods=len(waits),
    )


def bump(counter: Counter[K], name: K, by: int) -> None:
    """Change a count. A count of 0 is removed, so that counters don't grow with every name that was ever counted."""
    count = counter.get(name, 0) + by
    if count:
        counter[name] = count
    else:
        counter.pop(name, None)
