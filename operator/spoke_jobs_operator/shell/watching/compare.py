"""Compare the store with listings of the cluster, periodically, to find changes whose events were lost.

A watch can end or stop sending without notice. Each namespace is compared separately, so that a deleted or forbidden
namespace does not affect the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Client, Listing
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics, Where
from spoke_jobs_operator.shell.store.store import Listed, ObjectIndex, Store, key_of

UNFINISHED = "status.outcome!=Succeeded,status.outcome!=Failed"
RETRY_SECONDS = 5.0
ALL_NAMESPACES = "*"
"""Stands for all namespaces in logs and metrics."""
T = TypeVar("T")
See = Callable[[Mapping[str, Any]], set[Key]]
logger = logging.getLogger(__name__)


class Compare:
    """Compare the store with the cluster.

    :param add: called for each SpokeJob to reconcile.
    :param read_live_next: called for a SpokeJob that must be read live before its next decision.
    :param done: called after each completed comparison, with its namespace; None stands for all namespaces.
    :param begins: called with a namespace after its first comparison, before its SpokeJobs are queued; None stands for
        all namespaces.
    :param limits: compares a namespace's SpokeLimits and its Namespace, before its SpokeJobs.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: OperatorMetrics,
        namespaces: Sequence[str],
        *,
        add: Callable[[Key], None],
        read_live_next: Callable[[Key], None],
        done: Callable[[str | None], None],
        limits: Callable[[str | None], Awaitable[None]],
        begins: Callable[[str | None], None] = lambda _namespace: None,
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._add = add
        self._read_live_next = read_live_next
        self._done = done
        self._begins = begins
        self._limits = limits
        self._all_wanted = asyncio.Event()
        self._compared: set[str | None] = set()
        self._all_owed: set[str | None] = set()
        self._templates_owed: set[str | None] = set(self._namespaces)
        self._problems: dict[str | None, tuple[int, str]] = {}
        self._one_at_a_time = asyncio.Lock()

    def want_all(self) -> None:
        """Request a comparison of all objects now."""
        self._all_wanted.set()

    def has_compared(self, namespace: str) -> bool:
        """Whether the namespace has been listed completely. An unknown object then does not exist."""
        return bool(self._compared & {namespace, None})

    async def first(self) -> None:
        """Compare until one namespace succeeds; :meth:`run` continues with the others.

        Finished SpokeJobs are left out: they hold no place and no lock, there may be ten thousand of them, and the
        watches report them anyway.
        """
        while not self._compared:
            await self.try_once(everything=False)
            if not self._compared:
                await asyncio.sleep(RETRY_SECONDS)

    async def repeat(self) -> None:
        """Discard earlier comparisons and compare again. A namespace counts as compared only after a new listing."""
        async with self._one_at_a_time:  # a running comparison may show an older state
            self._compared.clear()
        await self.first()

    async def run(self, every_seconds: float, all_every_seconds: float) -> None:
        """Compare periodically until cancelled; retry failed namespaces sooner."""
        loop = asyncio.get_running_loop()
        due, all_due = loop.time() + every_seconds, loop.time() + all_every_seconds
        while True:
            until_due = max(0.0, due - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(until_due, RETRY_SECONDS) if self._problems else until_due):
                    await self._all_wanted.wait()
            everything = self._all_wanted.is_set() or loop.time() >= all_due
            self._all_wanted.clear()
            if everything or loop.time() >= due:
                await self.try_once(everything=everything)
                due = loop.time() + every_seconds
                all_due = loop.time() + all_every_seconds if everything else all_due
            else:
                await self.try_once(everything=False, among=tuple(self._problems))

    async def try_once(self, *, everything: bool, among: Sequence[str | None] | None = None) -> bool:
        """Compare each namespace separately; return False if any failed."""
        async with self._one_at_a_time:
            if everything:
                self._all_owed.update(self._namespaces)
            succeeded = [await self._try_namespace(name) for name in (self._namespaces if among is None else among)]
        return all(succeeded)

    async def _try_namespace(self, namespace: str | None) -> bool:
        """Compare one namespace. Log a failure only if it is new or differs from the last one."""
        name = namespace or ALL_NAMESPACES
        try:
            await self._namespace(namespace, everything=namespace in self._all_owed)
        except Exception as error:
            problem = (error.status, error.reason) if isinstance(error, ApiError) else (0, type(error).__name__)
            if self._problems.get(namespace) != problem:
                logger.warning("comparing with the cluster failed; retrying: %s", error, extra={"namespace": name},
                               exc_info=None if isinstance(error, ApiError) else error)  # fmt: skip
            self._problems[namespace] = problem
            self._metrics.errors.labels(Where.COMPARE).inc()
            self._metrics.compare_failures.labels(name).inc()
            return False
        self._all_owed.discard(namespace)
        if self._problems.pop(namespace, None):
            logger.info("comparing with the cluster works again", extra={"namespace": name})
        if namespace not in self._compared:
            self._compared.add(namespace)
            self._begin(namespace)
        self._done(namespace)
        return True

    def _begin(self, namespace: str | None) -> None:
        """Queue the namespace's SpokeJobs. Until its first comparison, none that the watches report is reconciled."""
        self._begins(namespace)
        for item in self._store.spokejobs:
            key = self._store.spokejobs.owner_of(item)
            if namespace in (None, key.namespace):
                self._add(key)

    async def _namespace(self, namespace: str | None, *, everything: bool) -> None:
        store, client = self._store, self._client
        await self._limits(namespace)
        if everything or namespace in self._templates_owed:
            await self._compare_kind(client.listing(Kind.TEMPLATE, namespace), store.template_seen, store.templates)
            self._templates_owed.discard(namespace)
        jobs = client.listing(Kind.JOB, namespace, labels=LABEL_SPOKEJOB)
        await self._compare_kind(jobs, store.job_seen, store.jobs)
        pods = client.listing(Kind.POD, namespace, labels=LABEL_SPOKEJOB)
        await self._compare_kind(pods, store.pod_seen, store.pods, store.remove_pods)
        spokejobs = client.listing(Kind.SPOKEJOB, namespace, fields="" if everything else UNFINISHED)
        listed = await self._store_listing(spokejobs, store.spokejob_seen)
        absent = store.spokejobs.absent(listed, None if everything else store.unfinished())
        if everything:
            store.spokejobs.remove_all(absent, listed.version)
        for item in absent:
            key = store.spokejobs.owner_of(item)
            self._read_live_next(key)  # final or deleted by now
            self._add(key)
        for spokejob in store.unfinished():
            if namespace in (None, spokejob.namespace):
                self._add(key_of(spokejob))

    async def _compare_kind(
        self,
        listing: Listing,
        see: See,
        index: ObjectIndex[T],
        remove_all: Callable[[list[T], float], None] | None = None,
    ) -> None:
        listed = await self._store_listing(listing, see)
        absent = index.absent(listed)
        (remove_all or index.remove_all)(absent, listed.version)
        for item in absent:
            self._add(index.owner_of(item))

    async def _store_listing(self, listing: Listing, see: See) -> Listed:
        def seen(item: Mapping[str, Any]) -> None:
            for key in see(item):
                self._add(key)

        return await Listed.seen(listing.namespace, listing.pages, seen)
