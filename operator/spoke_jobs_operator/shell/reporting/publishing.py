"""Publish the state of each namespace in a ConfigMap of that namespace.

`spoke-jobs why` reads the order of turns from the ConfigMap. The time in the ConfigMap shows whether an operator runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.operator_state import OperatorState, Publication, PublishedPool, PublishedStandby
from spoke_jobs.shared.api_errors import ApiError, NotFound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reporting.published_state import SHOWN_TURNS, report
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.store.store import Store

SIGN_OF_LIFE_SECONDS = 60.0
SETTLES_SECONDS = 120.0
"""For how long after its last job a namespace's state is published while standby pods start or end."""
logger = logging.getLogger(__name__)


class Publisher:
    """Write the ConfigMaps, and remember the last state of each.

    :param clock: returns the current time.
    :param standby: returns the PodTemplates of a namespace that lack standby pods.
    :param standby_pods: returns how many standby pods each of its PodTemplates has.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        pacer: Pacer,
        identity: str,
        clock: Callable[[], datetime],
        standby: Callable[[str], Sequence[PublishedStandby]] = lambda _namespace: (),
        standby_pods: Callable[[str], Sequence[PublishedPool]] = lambda _namespace: (),
    ) -> None:
        self._client = client
        self._store = store
        self._pacer = pacer
        self._identity = identity
        self._clock = clock
        self._standby = standby
        self._standby_pods = standby_pods
        self._since: datetime | None = None
        self._idle_since: dict[str, datetime] = {}
        self._published: dict[str, tuple[OperatorState, datetime]] = {}
        self._failing: set[str] = set()
        self.on_error: Callable[[Exception], None] = lambda _error: None
        """Called when publishing raised an unexpected error. It is tried again."""

    async def run(self, every_seconds: float) -> None:
        """Publish until cancelled. Only the leader does so."""
        self._since = self._clock()
        while True:
            try:
                await self.publish()
            except Exception as error:
                self.on_error(error)
            await asyncio.sleep(every_seconds)

    async def publish(self) -> None:
        """Write each state that has changed; once a minute also if unchanged, to show that the operator runs."""
        unfinished: defaultdict[str, list[SpokeJob]] = defaultdict(list)
        for item in self._store.unfinished():
            unfinished[item.namespace].append(item)
        turns = self._pacer.order(10 * SHOWN_TURNS)
        busy = set(unfinished)
        for namespace in busy | set(self._published):
            own = unfinished[namespace]
            pacer, standby, pods = self._pacer, self._standby(namespace), self._standby_pods(namespace)
            state = report(namespace, pacer.limits, pacer.usage, turns, own, pacer.has_place, standby, pods)
            now = self._clock()
            old, at = self._published.get(namespace, (None, now))
            if state != old or (now - at).total_seconds() >= SIGN_OF_LIFE_SECONDS:
                await self._write(namespace, state, now)
            if namespace in busy:
                self._idle_since.pop(namespace, None)
            elif self._published.get(namespace, (None, now))[0] == state and self._has_settled(namespace, state, now):
                self._forget(namespace)  # until the namespace has a job again

    def _has_settled(self, namespace: str, state: OperatorState, now: datetime) -> bool:
        """Whether nothing of the state of a namespace without unfinished jobs is about to change."""
        idle_since = self._idle_since.setdefault(namespace, now)
        changes = any(each.starting or each.assigned for each in state.standby_pods)
        return not changes or (now - idle_since).total_seconds() >= SETTLES_SECONDS

    def _forget(self, namespace: str) -> None:
        self._published.pop(namespace, None)
        self._idle_since.pop(namespace, None)

    async def _write(self, namespace: str, state: OperatorState, now: datetime) -> None:
        try:
            await self._client.publish(
                Key(namespace, STATE_CONFIGMAP), Publication(now, self._identity, state, self._since).to_data()
            )
        except (ApiError, NotLeading) as error:
            if namespace not in self._failing:
                logger.warning("could not write the ConfigMap %s: %s", STATE_CONFIGMAP, error,
                               extra={"namespace": namespace})  # fmt: skip
            self._failing.add(namespace)
            if isinstance(error, NotFound):  # the namespace is gone
                self._forget(namespace)
            return
        self._failing.discard(namespace)
        self._published[namespace] = (state, now)
