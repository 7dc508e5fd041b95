"""Claim jobs and assign them to children.

While attempts are short, a child also holds a few orders ahead. If its current attempt then takes long, the claims of
these orders are released. Jobs of suspect types are claimed by themselves, and run in a child without other orders.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from spoke_jobs.execution.declared_options import with_declared_options
from spoke_jobs.execution.in_process import worker_name
from spoke_jobs.execution.lease import FRESH
from spoke_jobs.execution.start_allowance import StartAllowance
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim
from spoke_jobs.registry import Registry
from spoke_jobs.type_names import apart, closest
from spoke_jobs.worker.child_messages import Order
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool, HeldOrder
from spoke_jobs.worker.memory_watch import bound_of
from spoke_jobs.worker.suspect_types import SuspectTypes
from spoke_jobs.worker.worker_metrics import WorkerMetrics, claimed_attempt
from spoke_jobs.worker.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

_SHORT_SECONDS = 0.05
"""While attempts take less than this on average, children hold orders ahead."""
_WEIGHT = 0.1
_OTHER = {ChildKind.THREAD: ChildKind.LOOP, ChildKind.LOOP: ChildKind.THREAD}
_TOKEN_PAUSES = (0.05, 1.0)
"""The shortest and the longest pause between two claims for a token while such claims find no job."""


def rounded(room: int) -> int:
    """Round a number of jobs to claim down, to a power of two or to one and a half of it: 1, 2, 3, 4, 6, 8, 12, 16.

    The number is a part of the statement's text, and PostgreSQL plans each text by itself, which takes as long as to
    claim some jobs. The rest is claimed with the next ones.
    """
    power = 1 << room.bit_length() - 1
    return power + power // 2 if room >= power + power // 2 else power


class Claiming:
    """Claims jobs for a pool of children.

    Every method that queries the ledger raises DBAPIError if the database fails.

    :param give_back: releases the claim of an order that no child has, also while the database is away.
    """

    def __init__(
        self,
        ledger: SqlLedger,
        options: WorkerOptions,
        pool: ChildPool,
        metrics: WorkerMetrics,
        registry: Registry,
        give_back: Callable[[Order], object],
    ) -> None:
        self._ledger = ledger
        self._give_back = give_back
        self._registry = registry
        self._options = options
        self._all_types = (*options.types, *options.loop_types)
        self._pool = pool
        self._metrics = metrics
        self._may_have_work = dict.fromkeys(ChildKind, True)
        """Per kind, whether the ledger may have due jobs."""
        self._kinds = list(ChildKind)
        """The kinds in the order of their claims. First comes that of the last job: a notification names no kind. But
        where jobs of both kinds wait for the same room, of a limit or of a locked queue, the kinds take turns."""
        self._seconds = dict.fromkeys(ChildKind, 1.0)
        """Per kind, the moving average of an attempt's duration."""
        self.queried = False
        """Whether the last :meth:`claim` queried the database."""
        self._token_due = math.inf
        self._token_pause = 0.0
        """The least time until the next claim for a token. Under a rate of each queue, many tokens are for nobody."""
        self._rest_due = math.inf
        """When to claim again, because a claim has left due jobs unseen."""
        self._limits_version = ledger.limits.version
        self._allowance = StartAllowance()
        self._suspects = SuspectTypes(pauses=not options.drain)
        self._start_seconds = 1.0
        """How long the last child took to start."""

    def expect_work(self) -> None:
        """Assume that there may be due jobs of every kind, after a notification or a poll interval."""
        self._may_have_work = dict.fromkeys(ChildKind, True)
        self._suspects.expect_work()
        self._token_pause = 0.0

    def expect_room(self, kind: ChildKind, *, unlocks: bool) -> None:
        """Assume that an ended attempt has made room for others, if there are limits or it had locked its queue."""
        if unlocks:
            self._put_last(kind)
        if unlocks or self._ledger.limits.limited:
            self.expect_work()

    def due_in(self) -> float:
        """Seconds until a rate lets another attempt start, or a claim finds what the last one has left unseen."""
        return max(0.0, min(self._token_due, self._rest_due) - time.monotonic())

    def started(self, item: HeldOrder) -> None:
        """Note that a child has started an order."""
        if not item.counted:
            item.counted = True
            self._allowance.in_time(item.order.start_by)

    def not_started(self, item: HeldOrder) -> None:
        """Note that a child did not start an order, because it was too late or for another reason."""
        if time.monotonic() > item.order.start_by:
            for child, other in self._pool.assignments():  # their ends are reported later, perhaps after hours
                if child.has_begun(other):
                    self.started(other)
            self._allowance.late(item.order.start_by, item.order.asked_at)

    def child_started(self, seconds: float) -> None:
        """Note how long a child has taken to start."""
        self._start_seconds = seconds

    def took_down(self, child: Child, item: HeldOrder) -> None:
        """Note that an attempt has taken down its child. A worker of one type has no other type to protect."""
        name = item.type_name
        if len(self._types_of(child.kind)) == 1:
            return
        now = time.monotonic()
        lost_seconds = child.ran_seconds(item) + self._start_seconds
        losses = self._suspects.took_down(name, item.order.job_id, lost_seconds, now)
        if name not in self._suspects:
            return
        pause = max(0.0, losses.paused_until - now)
        logger.warning(
            "%d jobs in a row of the type %s have taken down their processes; held back, paused for %.1f s",
            losses.jobs,
            name,
            pause,
            extra={"job_type": name, "pause_seconds": round(pause, 1)},
        )

    def ended_well(self, item: HeldOrder) -> None:
        """Note that an attempt has ended, and its child goes on."""
        if self._suspects.ended_well(item.type_name):
            self.expect_work()

    def record_duration(self, kind: ChildKind, seconds: float) -> None:
        """Record the duration of an ended attempt."""
        self._seconds[kind] += (seconds - self._seconds[kind]) * _WEIGHT

    def claim(self) -> bool:
        """Claim and assign jobs; True if there were fewer due jobs than free slots."""
        idle = True
        self.queried = False
        if time.monotonic() >= self._token_due:
            shortest, longest = _TOKEN_PAUSES
            pause = min(max(2 * self._token_pause, shortest), longest)
            self.expect_work()
            self._token_due, self._token_pause = math.inf, pause
        if time.monotonic() >= self._rest_due:
            self._may_have_work = dict.fromkeys(ChildKind, True)
            self._rest_due = math.inf
        if self._suspects.forget_old(time.monotonic()):
            self.expect_work()
        self._metrics.held_back_types = len(self._suspects)
        for kind in tuple(self._kinds):
            try:
                idle = self._claim_kind(kind) and idle
            except Exception:
                self._put_last(kind)  # so that it does not keep the other kind from starting as long as its claims fail
                raise
        return idle and self._token_due == self._rest_due == math.inf

    def _claim_kind(self, kind: ChildKind) -> bool:
        """Claim and assign jobs of a kind; True if there were fewer due jobs than free slots."""
        idle = self._claim_suspects(kind)
        types = self._suspects.without(self._types_of(kind))
        while self._may_have_work[kind] and (room := self._room_of(kind)) and types:
            limit = rounded(min(self._options.batch, room))
            self._may_have_work[kind] = self._claim_for(kind, types, limit) == limit
        return idle and (not types or not self._may_have_work[kind])

    def _put_last(self, kind: ChildKind) -> None:
        if self._kinds[0] is kind:
            self._kinds.reverse()

    def _claim_suspects(self, kind: ChildKind) -> bool:
        """Claim a job of each suspect type that may start now; False if there may be more."""
        suspects = self._suspects.among(self._types_of(kind))
        for name in suspects:
            if self._may_start(kind, name) and any(child.room(ahead=False) for child in self._pool.of(kind)):
                self._suspects[name].may_have_work = self._claim_for(kind, (name,), 1) == 1
        return not any(self._suspects[name].may_have_work for name in suspects)

    def _may_start(self, kind: ChildKind, name: str) -> bool:
        """Whether a job of a suspect type may start once a child is free: one of each, in half of the children."""
        losses = self._suspects[name]
        if not losses.may_have_work or time.monotonic() < losses.paused_until:
            return False
        children = self._pool.of(kind)
        running = [item.type_name for child in children for item in child.orders.values() if item.alone]
        return name not in running and len(running) < max(1, len(children) // 2)

    def release_stale(self, receive: Callable[[Child], object]) -> None:
        """Release the claims of orders that wait in a child behind a long job, or that an event loop has not read.

        A claim is released only if it is stale. The child never starts an order with a stale claim before it has
        renewed the claim, and an event loop never starts one whose claim is half over, so no job runs twice.

        :param receive: processes the reports that a child has sent so far.
        """
        for child in self._pool.of(ChildKind.THREAD):
            if not any(map(self._is_stale, list(child.orders.values())[1:])):
                continue
            # These reports name the orders that have ended. The child starts none of the others with a stale claim.
            receive(child)
            for item in list(child.orders.values())[1:]:
                if self._is_stale(item):
                    self._ledger.release(item.order.token)
                    del child.orders[item.order.token]
        for child in self._pool.of(ChildKind.LOOP):
            if any(self._is_unread(child, item) for item in child.orders.values()):
                receive(child)
                for item in [item for item in child.orders.values() if self._is_unread(child, item)]:
                    self._ledger.release(item.order.token)
                    del child.orders[item.order.token]

    @staticmethod
    def _is_unread(child: Child, item: HeldOrder) -> bool:
        """Whether an event loop has not read the order while its claim was fresh enough to start it."""
        late = item.order.asked_at is not None and time.monotonic() > item.sent_at + item.order.lease_seconds / 2 + 0.5
        return late and not child.shared.lists(item.order.token)

    def _claim_for(self, kind: ChildKind, types: tuple[str, ...], limit: int) -> int:
        """Claim and assign up to so many jobs of the types; return how many."""
        assigned = 0
        for group, left_out in apart(types, self._all_types):
            if assigned < limit:
                assigned += self._claim_group(kind, group, left_out, limit - assigned)
        return assigned

    def _claim_group(self, kind: ChildKind, types: tuple[str, ...], left_out: tuple[str, ...], limit: int) -> int:
        only = self._options.only
        if left_out:
            only = replace(only, not_types=(*only.not_types, *left_out))
        claims = self._ledger.claim_batch(
            self._options.runner, types, worker_name(), self._options.lease_seconds, limit, only
        )
        self.queried = True
        if self._ledger.limits.version != self._limits_version:  # a notification was lost, or there are none
            self._limits_version = self._ledger.limits.version
            self._pool.limits_change()
        if claims:
            self._token_pause = 0.0
        if (wait := self._ledger.limits.next_token_seconds) is not None:
            self._token_due = min(self._token_due, time.monotonic() + max(wait, self._token_pause))
        if (due := self._ledger.rest_due) is not None:
            self._rest_due = min(self._rest_due, due)
        left = deque(claims)
        assigned = 0
        try:
            left = deque(with_declared_options(claims, self._registry, self._ledger))
            self._metrics.claimed(left)
            while left:
                assigned += self._assign(kind, left[0])
                left.popleft()
        except BaseException:
            for claim in left:  # nobody else knows of these claims
                self._give_back(Order.of(claim))
            raise
        return assigned

    def _assign(self, kind: ChildKind, claim: Claim) -> bool:
        """Assign a claim to a child, or release it if there is no room; return whether it is assigned."""
        name, own = self._key_of(claim.job.job_type)
        alone = name in self._suspects
        child = max(self._pool.of(own), key=lambda child: child.room(ahead=not alone), default=None)
        if (own is not kind or alone) and (child is None or not child.room(ahead=not alone)):
            self._ledger.release(claim.token)
            return False
        assert child is not None
        self._put_last(own if self._ledger.limits.limited else _OTHER[own])
        self._pool.order(child, self._held(claim, name, alone=alone))
        return True

    def _key_of(self, job_type: str) -> tuple[str, ChildKind]:
        """Return the name or the prefix by which the worker takes a type, and the kind of its jobs."""
        name = closest(job_type, self._all_types)
        assert name is not None
        return name, ChildKind.LOOP if name in self._options.loop_types else ChildKind.THREAD

    def _held(self, claim: Claim, name: str, *, alone: bool) -> HeldOrder:
        job, options = claim.job, claim.job.options
        memory = bound_of(options, self._options.job_memory_bytes)
        most = self._options.seconds_of(options)
        order = replace(Order.of(claim), start_by=self._allowance.start_by(claim))
        held = HeldOrder(order, options.timeout_seconds, job.locks_queue, memory, most, name, alone)
        held.observed = claimed_attempt(claim)
        return held

    def _types_of(self, kind: ChildKind) -> tuple[str, ...]:
        return self._options.loop_types if kind is ChildKind.LOOP else self._options.types

    def _room_of(self, kind: ChildKind) -> int:
        """The number of jobs to claim for a kind.

        While no slot is free, claim orders ahead only after all earlier ones were started: in batches.
        """
        children = self._pool.of(kind)
        now = sum(child.room(ahead=False) for child in children)
        if self._seconds[kind] >= _SHORT_SECONDS or self._ledger.limits.rated:
            return now  # under a rate, an order that waits in a child would start later than its token
        if any(self._may_start(kind, name) for name in self._suspects.among(self._types_of(kind))):
            return now  # no child would ever be free for a suspect type
        ahead = sum(child.room(ahead=True) for child in children)
        return ahead if now or ahead >= sum(child.takes_ahead for child in children) else 0

    @staticmethod
    def _is_stale(item: HeldOrder) -> bool:
        return time.monotonic() > item.sent_at + item.order.lease_seconds / FRESH + 0.5
