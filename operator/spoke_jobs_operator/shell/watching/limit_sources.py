"""List SpokeLimits, and list or read Namespaces.

An older chart lacks definitions and rights: then work without them.

An operator that serves a list of namespaces has only a Role in each, and may not watch Namespaces. It reads each served
Namespace every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Kind
from spoke_jobs.shared.api_errors import ApiError, Forbidden, NotFound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.store.store import Listed, ObjectIndex, Store

V = TypeVar("V")
NAMESPACE_SECONDS = 5.0
"""How often each Namespace is read, if Namespaces are not watched."""
READS_PER_SECOND = 5.0
"""The most of these reads per second. With more than 25 namespaces, each one is read less often."""
OPTIONAL = tuple(kind for kind in CUSTOM if not kind.value.required)
"""Our kinds without which the operator works on."""
_LACK = {
    kind: f"{kind.kind}s are not obeyed: apply crds/{kind.plural}.yaml and this release's chart" for kind in OPTIONAL
} | {
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
        await self._compare_kind(Kind.SPOKELIMIT, namespace, self._store.spokelimits)
        if namespace is None:
            await self._compare_kind(Kind.NAMESPACE, None, self._store.namespaces)
        else:
            await self._read_namespace(namespace)

    async def watchable(self) -> tuple[Kind, ...]:
        """Return the kinds that can be watched: the ones that can be listed in all served namespaces.

        :raises ApiError: if that could not be found out.
        """
        found = []
        for kind in (*OPTIONAL, *(() if self._namespaces else (Kind.NAMESPACE,))):
            try:
                for namespace in self._namespaces or (None,):
                    await anext(self._client.listing(kind, namespace).pages)
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

    async def _compare_kind(self, kind: Kind, namespace: str | None, index: ObjectIndex[V]) -> None:
        """Compare the objects of a kind. They belong to no SpokeJob."""
        pages = self._client.listing(kind, namespace).pages
        try:
            listed = await Listed.seen(namespace, pages, partial(self._store.see, kind.plural, gone=False))
        except Forbidden as error:  # the known objects still apply
            self._lacks(kind, namespace, error)
            return
        except NotFound as error:  # there is no definition, so there are no objects
            self._lacks(kind, namespace, error)
            listed = Listed(namespace, frozenset(), math.inf)
        else:
            self._lacking.discard((kind, namespace))
        self._store.remove_settings(index, index.absent(listed), listed.version)

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
            self._store.remove_settings(self._store.namespaces, [known])

    def _lacks(self, kind: Kind, namespace: str | None, error: ApiError) -> None:
        """Log the first time that the definition or the rights are missing."""
        if (kind, namespace) not in self._lacking:
            self._lacking.add((kind, namespace))
            logger.warning("%s (%s)", _LACK[kind], error, extra={"namespace": namespace or "*"})
