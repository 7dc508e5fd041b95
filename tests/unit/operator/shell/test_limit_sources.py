"""SpokeLimits and Namespaces are read, with an older chart and without rights too."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from spoke_jobs.shared.api_errors import ApiError, api_error
from spoke_jobs.shared.object_fields import Page
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Client, Kind, Listing
from spoke_jobs_operator.shell.store.store import Store
from spoke_jobs_operator.shell.watching import limit_sources
from spoke_jobs_operator.shell.watching.limit_sources import LimitSources


class Server:
    """An API server with objects, and the errors that it answers."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[Kind, list[dict[str, Any]]] = {}
        self.errors: dict[tuple[Kind, str | None], ApiError] = {}

    def put(self, kind: Kind, name: str, ns: str = "", **rest: Any) -> None:
        self.version += 1
        metadata = {"name": name, "namespace": ns, "uid": f"{ns}-{name}", "resourceVersion": str(self.version)}
        others = [item for item in self.objects.get(kind, []) if item["metadata"]["uid"] != metadata["uid"]]
        self.objects[kind] = [*others, {"metadata": metadata | rest.pop("metadata", {})} | rest]

    def listing(self, kind: Kind, namespace: str | None) -> Listing:
        async def pages() -> AsyncIterator[Page]:
            if error := self.errors.get((kind, namespace)):
                raise error
            items = [item for item in self.objects.get(kind, []) if namespace in (None, item["metadata"]["namespace"])]
            yield Page(items, str(self.version))

        return Listing(namespace, pages())

    async def read(self, kind: Kind, key: Key) -> dict[str, Any] | None:
        if error := self.errors.get((kind, key.name)):
            raise error
        return next((item for item in self.objects.get(kind, []) if item["metadata"]["name"] == key.name), None)


class Scene:
    def __init__(self, *namespaces: str) -> None:
        self.server, self.store = Server(), Store()
        self.changes = 0
        self.store.on_limits = self.changed
        self.sources = LimitSources(cast(Client, self.server), self.store, namespaces)

    def changed(self) -> None:
        self.changes += 1

    def known(self) -> list[str]:
        limits = [str(item.key) for item in self.store.spokelimits]
        return sorted(limits + [item.meta.key.name for item in self.store.namespaces if item.paused])


FORBIDDEN, NOT_FOUND = api_error(403, "Forbidden", "no"), api_error(404, "NotFound", "unknown")
PAUSED = {"annotations": {"jobs.spoke.dev/paused": "x"}}


async def test_all_namespaces_are_listed_and_what_is_gone_is_forgotten() -> None:
    s = Scene()
    s.server.put(Kind.SPOKELIMIT, "a", "one", spec={"scope": "all"})
    s.server.put(Kind.NAMESPACE, "two", metadata=PAUSED)
    await s.sources.compare(None)
    assert s.known() == ["one/a", "two"]
    assert await s.sources.watchable() == (*limit_sources.OPTIONAL, Kind.NAMESPACE)
    s.server.objects = {}
    s.server.version += 1
    before = s.changes
    await s.sources.compare(None)
    assert s.known() == []
    assert s.changes > before, "or nothing would be admitted again"


async def test_of_given_namespaces_each_is_read_by_its_name() -> None:
    s = Scene("one", "two")
    s.server.put(Kind.SPOKELIMIT, "a", "one", spec={"scope": "all"})
    s.server.put(Kind.SPOKELIMIT, "a", "other", spec={"scope": "all"})
    s.server.put(Kind.NAMESPACE, "two", metadata=PAUSED)
    s.server.errors[Kind.NAMESPACE, None] = FORBIDDEN
    for name in ("one", "two"):
        await s.sources.compare(name)
    assert s.known() == ["one/a", "two"]
    assert await s.sources.watchable() == limit_sources.OPTIONAL, "a Role allows no watch of Namespaces"
    s.server.put(Kind.NAMESPACE, "two")
    await s.sources.compare("two")
    assert s.known() == ["one/a"]


async def test_without_definition_or_rights_it_works_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    s = Scene()
    s.server.put(Kind.SPOKELIMIT, "a", "one", spec={"scope": "all"})
    await s.sources.compare(None)
    s.server.errors = {(Kind.SPOKELIMIT, None): FORBIDDEN, (Kind.NAMESPACE, None): FORBIDDEN}
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await s.sources.compare(None)
    assert s.known() == ["one/a"], "without the right to read it, it still holds"
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("SpokeLimits are not obeyed: apply crds/spokelimits.yaml")
    assert "jobs.spoke.dev/paused" in second
    assert not {Kind.SPOKELIMIT, Kind.NAMESPACE} & {*await s.sources.watchable()}
    s.server.errors[Kind.SPOKELIMIT, None] = NOT_FOUND
    await s.sources.compare(None)
    assert s.known() == [], "the definition is gone, and all objects with it"


async def test_an_api_server_that_fails_is_another_matter() -> None:
    s = Scene()
    s.server.errors[Kind.SPOKELIMIT, None] = api_error(500, "InternalError", "oops")
    with pytest.raises(ApiError):
        await s.sources.compare(None)
    with pytest.raises(ApiError):
        await s.sources.watchable()


async def test_given_namespaces_are_read_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise Enough

    monkeypatch.setattr(limit_sources.asyncio, "sleep", sleep)
    s = Scene("one", "two")
    s.server.errors[Kind.NAMESPACE, "one"] = api_error(500, "InternalError", "oops")
    s.server.put(Kind.NAMESPACE, "two", metadata=PAUSED)
    with pytest.raises(Enough):
        await s.sources.poll()
    assert s.known() == ["two"]
    many = Scene(*(f"ns-{number}" for number in range(500)))
    slept.clear()
    with pytest.raises(Enough):
        await many.sources.poll()
    assert min(slept) == 100, "the reads leave the rate of calls to the jobs"
    await Scene().sources.poll()  # with all namespaces, they are watched
