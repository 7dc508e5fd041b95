"""Run the watches with kopf, and restart them whenever they end.

kopf ends after a watch error other than 410, and then cancels every task of its event loop. So it runs in a thread
with its own event loop. None of kopf's features that write to objects is used: no annotations, finalizers, peering or
posted events.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import kopf
import uvloop

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Kind
from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.page_limits import MOST_OBJECTS
from spoke_jobs_operator.shell.api.bounded_answers import session_options
from spoke_jobs_operator.shell.api.operator_client import Client

OnEvent = Callable[[str, Mapping[str, Any], bool], None]
"""Called in the main event loop, with the kind's plural, the object, and whether it was deleted."""

SERVED_CHECK_SECONDS = 10.0
OPTIONAL_CHECK_SECONDS = 30.0
RESTARTS = Backoff(base=1.0, maximum=30.0)
REQUESTS = Backoff(base=1.0, maximum=10.0)
"""The waits between kopf's tries of one request."""
INACTIVITY_SECONDS = 90.0
"""A watch without data for this time is broken: the API server sends a bookmark every minute."""
LONG_ENOUGH_SECONDS = 60.0
STOP_SECONDS = 3.0

_KINDS = (*(kind for kind in CUSTOM if kind.value.required), Kind.JOB, Kind.POD, Kind.TEMPLATE, Kind.WARNING)
_EVENTS = (
    f"type=Warning,reason!=BackOff,reason!=Failed,reason!=FailedScheduling,involvedObject.kind!={Kind.SPOKEJOB.kind}"
)
"""Selects FailedCreate of Jobs, and the `POD_WARNINGS` of `read_objects.py`. Selectors have no "or", so this one
excludes other Events: frequent ones, whose content is also in the pod's conditions and container states, and those
about SpokeJobs, which are the operator's own. Unhealthy is frequent, too, but only its message tells a startup probe
from the others. So all of them come, and `read_event` drops those about other probes."""
logger = logging.getLogger(__name__)


async def _nothing() -> tuple[Kind, ...]:
    """Return no further kinds."""
    return ()


class Streams:
    """Run the event streams, and restart them when they end.

    :param on_event: called for each event.
    :param on_restart: called before a restart, since events in between are lost.
    :param optional: returns further kinds that can be watched now. When these change, the streams start again.
    """

    def __init__(
        self,
        client: Client,
        namespaces: Sequence[str],
        on_event: OnEvent,
        on_restart: Callable[[], None],
        optional: Callable[[], Awaitable[tuple[Kind, ...]]] = _nothing,
    ) -> None:
        self._client = client
        self._namespaces = tuple(namespaces)
        self._on_event = on_event
        self._on_restart = on_restart
        self._optional = optional
        self._further: tuple[Kind, ...] = ()

    async def run(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            await self._until_served()
            started = loop.time()
            listening = asyncio.create_task(self._listen_once(loop))
            others = asyncio.create_task(self._until_other_kinds())
            try:
                await asyncio.wait({listening, others}, return_when=asyncio.FIRST_COMPLETED)
                if not listening.done():
                    logger.info("other kinds can be watched now; restarting the event streams")
                    self._on_restart()
                    continue
                ended = listening.result()
            finally:
                await _cancelled(listening, others)
            failures = 0 if loop.time() - started > LONG_ENOUGH_SECONDS else failures + 1
            delay = RESTARTS.after(failures)
            logger.error("the event streams ended (%s); restarting in %.0f s", ended, delay)
            await asyncio.sleep(delay)
            self._on_restart()

    async def _until_served(self) -> None:
        while True:
            try:
                if await self._client.is_served():
                    self._further = await self._optional()
                    return
                problem = f"the API server doesn't know {Kind.SPOKEJOB.resource}: install the CRD"
            except ApiError as error:
                problem = f"could not read {Kind.SPOKEJOB.resource} from the API server: {error}"
            logger.error("%s; retrying in %.0f s", problem, SERVED_CHECK_SECONDS)
            await asyncio.sleep(SERVED_CHECK_SECONDS)

    async def _until_other_kinds(self) -> None:
        while True:
            await asyncio.sleep(OPTIONAL_CHECK_SECONDS)
            with contextlib.suppress(ApiError):
                if await self._optional() != self._further:
                    return

    async def _listen_once(self, loop: asyncio.AbstractEventLoop) -> str:
        """Run kopf until it ends; return the reason."""
        kopf_loop: asyncio.AbstractEventLoop | None = None
        stop: asyncio.Event | None = None
        done: asyncio.Future[str] = loop.create_future()

        async def listen() -> None:
            nonlocal kopf_loop, stop
            kopf_loop, stop = asyncio.get_running_loop(), asyncio.Event()
            await kopf.operator(
                registry=self._registry(loop),
                settings=_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=stop,
            )

        def in_thread() -> None:
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(listen())
                reason = "stopped"
            except BaseException as error:
                reason = f"{type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):  # the main event loop may be closed by now
                loop.call_soon_threadsafe(_resolve, done, reason)

        threading.Thread(target=in_thread, name="streams", daemon=True).start()
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if kopf_loop and stop:
                with contextlib.suppress(RuntimeError):
                    kopf_loop.call_soon_threadsafe(stop.set)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done, STOP_SECONDS)
            raise

    def _registry(self, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            info = await self._client.access()
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
                headers=info.as_http_headers(),
                **session_options(),
            )
            return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

        for kind in (*_KINDS, *self._further):

            async def handle(event: Mapping[str, Any], plural: str = kind.plural, **_: Any) -> None:
                gone = event.get("type") == "DELETED"
                loop.call_soon_threadsafe(self._on_event, plural, event["object"], gone)

            group, version, plural = _selector(kind)
            kopf.on.event(group=group, version=version, plural=plural, id=plural, registry=registry)(handle)
        return registry


class Backoffs:
    """The waits between kopf's tries of one request: from 1 s up to 10 s, without end. Each request starts again."""

    def __iter__(self) -> Iterator[float]:
        return map(REQUESTS.after, itertools.count(1))


class NoEssence(kopf.DiffBaseStorage):
    """Turn off kopf's comparison with the last handled state: it deep-copies every object, and is not needed."""

    def build(self, *, body: Any, extra_fields: Any = None) -> kopf.BodyEssence:
        """Return the same value for every object."""
        return kopf.BodyEssence()

    def fetch(self, *, body: Any) -> kopf.BodyEssence | None:
        """Return None: nothing is stored."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoEssence()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None  # this timeout would kill the whole process
    settings.networking.error_backoffs = Backoffs()
    settings.queueing.idle_timeout = 1.0
    watching = settings.watching
    watching.chunk_size = MOST_OBJECTS
    watching.inactivity_timeout = INACTIVITY_SECONDS
    watching.label_selectors[_selector(Kind.JOB)] = names.LABEL_SPOKEJOB
    watching.label_selectors[_selector(Kind.POD)] = names.LABEL_SPOKEJOB
    watching.field_selectors[_selector(Kind.WARNING)] = _EVENTS
    return settings


def _selector(kind: Kind) -> tuple[str, str, str]:
    """Return group, version and plural, by which kopf selects a kind."""
    return kind.group, kind.value.version, kind.plural


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks, and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _resolve(future: asyncio.Future[str], reason: str) -> None:
    if not future.done():
        future.set_result(reason)
