"""Lists what is there, from time to time, to make up for events that never came.

A watch can end, or fall silent, without anybody noticing; what rests on events alone rests for ever then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs_operator.core.model import Key

from .client import ApiError, Client, Kind, Listing
from .metrics import Metrics
from .store import Listed, Shelf, Store, key_of

UNFINISHED = "status.outcome!=Succeeded,status.outcome!=Failed"
RETRY_SECONDS = 5.0
T = TypeVar("T")
See = Callable[[Mapping[str, Any]], set[Key]]
logger = logging.getLogger(__name__)


class Compare:
    """The comparison of store and cluster.

    :param add: has a SpokeJob looked at.
    :param distrust: has a SpokeJob read live before that.
    :param done: is called after each comparison that came to its end.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        metrics: Metrics,
        namespaces: Sequence[str],
        *,
        add: Callable[[Key], None],
        distrust: Callable[[Key], None],
        done: Callable[[], None],
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._add = add
        self._distrust = distrust
        self._done = done
        self._all_wanted = asyncio.Event()

    def want_all(self) -> None:
        """Compare everything now, not only when it is due."""
        self._all_wanted.set()

    async def first(self) -> None:
        """Compare everything, however long that takes to succeed."""
        while True:
            if await self.try_once(everything=True):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def run(self, every_seconds: float, all_every_seconds: float) -> None:
        """Compare until cancelled, beginning one interval from now."""
        loop = asyncio.get_running_loop()
        all_due = loop.time() + all_every_seconds
        delay = every_seconds
        while True:
            try:
                async with asyncio.timeout(delay):
                    await self._all_wanted.wait()
            except TimeoutError:
                pass
            everything = self._all_wanted.is_set() or loop.time() >= all_due
            self._all_wanted.clear()
            if await self.try_once(everything=everything):
                delay = every_seconds
                all_due = loop.time() + all_every_seconds if everything else all_due
            else:
                delay = RETRY_SECONDS
                if everything:
                    all_due = loop.time()

    async def try_once(self, *, everything: bool) -> bool:
        """Compare; False, with a line in the log, if the API server didn't let us."""
        try:
            for namespace in self._namespaces:
                await self._namespace(namespace, everything=everything)
        except ApiError as error:
            logger.warning("comparing with the cluster failed: %s", error)
            self._metrics.errors.labels("compare").inc()
            return False
        self._done()
        return True

    async def _namespace(self, namespace: str | None, *, everything: bool) -> None:
        store, client = self._store, self._client
        if everything:
            await self._shelf(client.listing(Kind.TEMPLATE, namespace), store.template_seen, store.templates)
        jobs = client.listing(Kind.JOB, namespace, labels=LABEL_SPOKEJOB)
        await self._shelf(jobs, store.job_seen, store.jobs)
        pods = client.listing(Kind.POD, namespace, labels=LABEL_SPOKEJOB)
        await self._shelf(pods, store.pod_seen, store.pods)
        spokejobs = client.listing(Kind.SPOKEJOB, namespace, fields="" if everything else UNFINISHED)
        listed = await self._take_in(spokejobs, store.spokejob_seen)
        for item in store.spokejobs.absent(listed, None if everything else store.unfinished()):
            key = store.spokejobs.owner_of(item)
            self._distrust(key)  # final by now, or gone
            self._add(key)
        for spokejob in store.unfinished():
            if namespace in (None, spokejob.namespace):
                self._add(key_of(spokejob))

    async def _shelf(self, listing: Listing, see: See, shelf: Shelf[T]) -> None:
        listed = await self._take_in(listing, see)
        absent = shelf.absent(listed)
        shelf.take_out(absent)
        for item in absent:
            self._add(shelf.owner_of(item))

    async def _take_in(self, listing: Listing, see: See) -> Listed:
        uids: set[str] = set()
        version = 0
        async for page in listing.pages:
            version = page.resource_version
            for item in page.items:
                uids.add(item["metadata"]["uid"])
                for key in see(item):
                    self._add(key)
        return Listed(listing.namespace, frozenset(uids), version)
