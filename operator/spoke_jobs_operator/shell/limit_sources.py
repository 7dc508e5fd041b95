"""List SpokeLimits and read Namespaces. An older chart lacks the definition and the rights: then work without them.

An operator that serves a list of namespaces has only a Role in each, and may not watch Namespaces. It reads each served
Namespace every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from spoke_jobs.contract import names
from spoke_jobs.shared.api_errors import ApiError, Forbidden, NotFound
from spoke_jobs.shared.object_fields import digits, uid_of
from spoke_jobs_operator.core.api_objects import Key

from .operator_client import Client, Kind
from .store import Listed, Store

NAMESPACE_SECONDS = 5.0
"""How often each Namespace is read, if Namespaces are not watched."""
READS_PER_SECOND = 5.0
"""The most of these reads per second. With more than 25 namespaces, each one is read less often."""
SPOKELIMITS = (names.GROUP, names.VERSION, names.LIMIT_PLURAL)
NAMESPACES = ("", "v1", "namespaces")
_LACK = {
    Kind.SPOKELIMIT: f"SpokeLimits are not obeyed: apply crds/{names.LIMIT_PLURAL}.yaml and this release's chart",
    Kind.NAMESPACE: f"the annotation {names.ANNOTATION_PAUSED} of Namespaces is not obeyed: install this release's "
    "chart, whose roles include the right to read Namespaces",
}
logger = logging.getLogger(__name__)


class LimitSources:
    """Read SpokeLimits and Namespaces into the store.

    :param namespaces: the namespaces that the operator serves; empty for all.
    """

    def __init__(self, client: Client, store: Store, namespaces: Sequence[str]) -> None:
        self._client = client
        self._store = store
        self._namespaces = tuple(namespaces)
        self._lacking: set[tuple[Kind, str | None]] = set()

    async def compare(self, namespace: str | None) -> None:
        """Compare the store with the SpokeLimits and Namespaces of one namespace, or of all.

        :raises ApiError: if they could not be read for a reason other than a missing definition or missing rights.
        """
        await self._compare_spokelimits(namespace)
        await (self._compare_namespaces() if namespace is None else self._read_namespace(namespace))

    async def watchable(self) -> tuple[tuple[str, str, str], ...]:
        """Return the kinds that can be watched: the ones that can be listed in all served namespaces.

        :raises ApiError: if that could not be found out.
        """
        kinds = [(SPOKELIMITS, Kind.SPOKELIMIT)] + ([] if self._namespaces else [(NAMESPACES, Kind.NAMESPACE)])
        found = []
        for kind, of_client in kinds:
            try:
                for namespace in self._namespaces or (None,):
                    await anext(self._client.listing(of_client, namespace).pages)
            except (NotFound, Forbidden):
                continue
            found.append(kind)
        return tuple(found)

    async def poll(self) -> None:
        """Read each served Namespace every few seconds, until cancelled. If all are served, watches report them."""
        while self._namespaces:
            await asyncio.sleep(max(NAMESPACE_SECONDS, len(self._namespaces) / READS_PER_SECOND))
            for namespace in self._namespaces:
                try:
                    await self._read_namespace(namespace)
                except ApiError as error:  # the comparison reports it
                    logger.debug("could not read the Namespace: %s", error, extra={"namespace": namespace})

    async def _compare_spokelimits(self, namespace: str | None) -> None:
        listing = self._client.listing(Kind.SPOKELIMIT, namespace)
        uids: set[str] = set()
        version = 0
        try:
            async for page in listing.pages:
                version = digits(page.resource_version)
                for item in page.items:
                    uids.add(uid_of(item))
                    self._store.spokelimit_seen(item)
        except Forbidden as error:  # the known objects still apply
            self._lacks(Kind.SPOKELIMIT, namespace, error)
            return
        except NotFound as error:  # there is no definition, so there are no objects
            self._lacks(Kind.SPOKELIMIT, namespace, error)
            known = [item for item in self._store.spokelimits if namespace in (None, item.key.namespace)]
            self._store.remove_spokelimits(known)
            return
        self._lacking.discard((Kind.SPOKELIMIT, namespace))
        absent = self._store.spokelimits.absent(Listed(namespace, frozenset(uids), version))
        self._store.remove_spokelimits(absent, version)

    async def _compare_namespaces(self) -> None:
        uids: set[str] = set()
        version = 0
        try:
            async for page in self._client.listing(Kind.NAMESPACE, None).pages:
                version = digits(page.resource_version)
                for item in page.items:
                    uids.add(uid_of(item))
                    self._store.namespace_seen(item)
        except (Forbidden, NotFound) as error:
            self._lacks(Kind.NAMESPACE, None, error)
            return
        self._lacking.discard((Kind.NAMESPACE, None))
        self._store.remove_namespaces(self._store.namespaces.absent(Listed(None, frozenset(uids), version)), version)

    async def _read_namespace(self, namespace: str) -> None:
        try:
            body = await self._client.read(Kind.NAMESPACE, Key("", namespace))
        except Forbidden as error:
            self._lacks(Kind.NAMESPACE, namespace, error)
            return
        self._lacking.discard((Kind.NAMESPACE, namespace))
        if body is not None:
            self._store.namespace_seen(body)
        elif known := self._store.namespaces.get(Key("", namespace)):
            self._store.remove_namespaces([known])

    def _lacks(self, kind: Kind, namespace: str | None, error: ApiError) -> None:
        """Log the first time that the definition or the rights are missing."""
        if (kind, namespace) not in self._lacking:
            self._lacking.add((kind, namespace))
            logger.warning("%s (%s)", _LACK[kind], error, extra={"namespace": namespace or "*"})
