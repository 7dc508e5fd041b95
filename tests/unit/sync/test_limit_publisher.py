"""Sync publishes the ledger's limits, touches no others, and writes no more than it has to."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError
from tests.unit.limits.test_operator_limits import merged
from tests.unit.sync.making import NOW
from urllib3 import HTTPResponse

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient, Timeouts
from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.limit_scopes import Scope, ScopeKind
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, Rate, parse_scope
from spoke_jobs.limits.operator_limits import ledger_digest
from spoke_jobs.limits.published_limits import labels_of, spokelimit_name
from spoke_jobs.shared.api_errors import ApiError, api_error
from spoke_jobs.sync import limit_publisher
from spoke_jobs.sync.limit_publisher import LIST_SECONDS, MOST_AT_ONCE, LimitPublisher

SLOW = parse_scope("queue:slow")
LEDGER = ledger_digest("shop")
NAME = spokelimit_name(SLOW, LEDGER)


class Limits:
    """An API server that stores SpokeLimits, and the ledger's limits beside it."""

    def __init__(self, *ledger: JobLimit) -> None:
        self.now = 100.0
        self.ledger = list(ledger)
        self.objects: dict[str, Body] = {}
        self.writes: list[str] = []
        self.error: ApiError | None = None
        self.unread: Exception | None = None
        self.refuses_lists = False
        self._version = 0
        self.publisher = self.publisher_of(LEDGER)

    def publisher_of(self, ledger: str) -> LimitPublisher:
        return LimitPublisher(self.read, lambda: ledger, cast(SpokeJobClient, self), lambda: self.now)

    def read(self) -> list[JobLimit]:
        if self.unread is not None:
            raise self.unread
        return self.ledger

    def turn(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.publisher.publish()

    def put(self, name: str, spec: Body, labels: dict[str, str] | None = None) -> Body:
        self._version += 1
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self._version), "labels": labels or {}}
        self.objects[name] = {"metadata": metadata, "spec": spec}
        return self.objects[name]

    def specs(self) -> dict[str, Body]:
        return {body["spec"]["scope"]: body["spec"] for body in self.objects.values()}

    def list_objects(self, kind: Kind, labels: Mapping[str, str]) -> Iterator[Body]:
        if self.refuses_lists:
            raise self.error or api_error(403, "Forbidden", "may not list")
        return (item for item in self.objects.values() if labels.items() <= item["metadata"]["labels"].items())

    def _write(self, name: str) -> None:
        self.writes.append(name)
        if self.error is not None:
            raise self.error

    def create_object(self, kind: Kind, name: str, labels: Mapping[str, str], spec: Body) -> Body:
        self._write(name)
        if name in self.objects:
            raise api_error(409, "AlreadyExists", f"{name} exists", name)
        return self.put(name, spec, dict(labels))

    def patch_object(self, kind: Kind, name: str, uid: str, spec: Body) -> Body:
        self._write(name)
        self._check(name, uid)
        return self.put(name, merged(self.objects[name]["spec"], spec), self.objects[name]["metadata"]["labels"])

    def delete_object(self, kind: Kind, name: str, uid: str) -> None:
        self._write(name)
        self._check(name, uid)
        del self.objects[name]

    def _check(self, name: str, uid: str) -> None:
        if name not in self.objects:
            raise api_error(404, "NotFound", f"no {name}", name)
        if self.objects[name]["metadata"]["uid"] != uid:
            raise api_error(409, "Conflict", f"{name} was replaced", name)


def limit(scope: str = "queue:slow", most: int | None = 2, **fields: Any) -> JobLimit:
    return JobLimit(parse_scope(scope), Bounds(most), **fields)


def test_a_limit_is_published_changed_and_removed_with_one_write_each() -> None:
    cluster = Limits(limit())
    cluster.turn()
    assert cluster.specs() == {"queue:slow": {"scope": "queue:slow", "maxRunning": 2}}
    for _ in range(3):
        cluster.turn(LIST_SECONDS)
    assert cluster.writes == [NAME]
    cluster.ledger = [limit(most=None, pause=LimitPause("upgrade", "ada", NOW))]
    cluster.turn()
    assert cluster.specs() == {"queue:slow": {"scope": "queue:slow", "paused": {"reason": "upgrade", "by": "ada"}}}
    cluster.ledger = []
    cluster.turn()
    assert (cluster.objects, cluster.writes) == ({}, [NAME] * 3)


def test_the_limits_of_people_are_never_touched_not_even_one_of_the_same_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Limits(limit())
    theirs = cluster.put(NAME, {"scope": "queue:slow", "maxRunning": 9})
    other = cluster.put("few", {"scope": "all", "maxRunning": 1}, {names.LABEL_MANAGED_BY: "Helm"})
    for _ in range(5):
        cluster.turn(LIST_SECONDS)
    cluster.ledger = []
    cluster.turn(LIST_SECONDS)
    assert cluster.objects == {NAME: theirs, "few": other}
    assert caplog.text.count("another SpokeLimit has its name") == 1


def test_two_ledgers_in_one_namespace_do_not_touch_each_other_s_limits() -> None:
    cluster = Limits(limit())
    other = cluster.publisher_of(ledger_digest("texting"))
    cluster.turn()
    cluster.ledger = [limit(most=7)]
    other.publish()
    assert sorted(body["spec"]["maxRunning"] for body in cluster.objects.values()) == [2, 7]
    writes = len(cluster.writes)
    cluster.ledger = [limit()]
    cluster.turn(LIST_SECONDS)
    assert len(cluster.writes) == writes
    cluster.ledger = []
    cluster.turn(LIST_SECONDS)
    (left,) = cluster.objects.values()
    assert left["spec"]["maxRunning"] == 7


def test_what_somebody_changes_or_deletes_is_repaired_at_the_next_listing() -> None:
    cluster = Limits(limit())
    cluster.turn()
    cluster.put(NAME, {"scope": "all", "maxRunning": 9}, labels_of(LEDGER))
    cluster.turn(LIST_SECONDS)
    assert cluster.specs() == {"queue:slow": {"scope": "queue:slow", "maxRunning": 2}}
    del cluster.objects[NAME]
    cluster.turn(LIST_SECONDS)
    assert list(cluster.specs()) == ["queue:slow"]


@pytest.mark.parametrize(("deleted", "most"), [(False, 3), (True, 3), (True, None)])
def test_of_an_object_that_was_replaced_or_deleted_a_change_is_made_in_the_same_turn(
    caplog: pytest.LogCaptureFixture, most: int | None, *, deleted: bool
) -> None:
    cluster = Limits(limit())
    cluster.turn()
    if deleted:
        del cluster.objects[NAME]
    else:
        cluster.put(NAME, {"scope": "queue:slow", "maxRunning": 9}, labels_of(LEDGER))["metadata"]["uid"] = "another"
    cluster.ledger = [] if most is None else [limit(most=most)]
    cluster.turn()
    assert [spec["maxRunning"] for spec in cluster.specs().values()] == ([] if most is None else [most])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Transport:
    """Records what the client sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Body]] = []

    def param_serialize(self, method: str, path: str, **_: Any) -> tuple[Any, ...]:
        return method, path, {}, None, None

    def call_api(self, method: str, _url: str, _headers: Any, body: Body, **_: Any) -> Any:
        self.sent.append((method, body))
        return SimpleNamespace(response=HTTPResponse(BytesIO(b"{}"), status=200, preload_content=False))


def test_a_write_requires_the_uid_and_not_the_version_that_status_writes_change() -> None:
    transport = Transport()
    api = SpokeJobClient(cast(Any, transport), "shop", Timeouts())
    api.patch_object(Kind.SPOKELIMIT, NAME, "u", {"maxRunning": 3})
    api.delete_object(Kind.SPOKELIMIT, NAME, "u")
    assert transport.sent == [
        ("PATCH", {"metadata": {"uid": "u"}, "spec": {"maxRunning": 3}}),
        ("DELETE", {"preconditions": {"uid": "u"}}),
    ]


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (503, "Away")])
def test_a_refusal_is_logged_once_and_tried_less_and_less_often(
    caplog: pytest.LogCaptureFixture, status: int, reason: str
) -> None:
    cluster = Limits(limit())
    cluster.error = api_error(status, reason, "not now")
    for _ in range(300):
        cluster.turn(1.0)
    assert len(cluster.writes) < 15
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        f"the limit of queue:slow is not published; retrying: {status} {reason}: not now"
    ]
    cluster.error = None
    cluster.ledger = [limit(most=3)]  # somebody has corrected it
    cluster.turn()
    assert cluster.specs()["queue:slow"]["maxRunning"] == 3


def test_without_the_right_to_list_nothing_is_written_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Limits()
    cluster.refuses_lists = True
    for _ in range(5):
        cluster.turn(LIST_SECONDS)
    assert not caplog.records, "without limits nobody misses the right"
    cluster.ledger = [limit()]
    for _ in range(5):
        cluster.turn(LIST_SECONDS)
    assert (cluster.writes, caplog.text.count("SpokeLimits can't be listed: 403")) == ([], 1)
    cluster.refuses_lists = False
    cluster.turn(LIST_SECONDS)
    assert list(cluster.specs()) == ["queue:slow"]


def test_a_lasting_failure_to_read_the_ledger_is_logged_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cluster = Limits(limit())
    cluster.unread = OperationalError("SELECT", {}, Exception("away"))
    for _ in range(30):
        cluster.turn()
    cluster.unread = None
    cluster.turn()
    began, ended, _published = [record.message for record in caplog.records]
    assert began == "could not read the ledger's limits (OperationalError); retrying"
    assert ended == "the table of limits answers again after 30 s"


def test_an_error_in_a_decision_leaves_the_published_limits_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Limits(limit())
    cluster.turn()

    def broken(*_: object) -> None:
        raise ArithmeticError

    with monkeypatch.context() as defect:
        defect.setattr(limit_publisher, "to_publish", broken)
        cluster.ledger = [limit("queue:other")]
        for _ in range(30):
            cluster.turn()
        assert list(cluster.specs()) == ["queue:slow"]
        assert caplog.text.count("the published limits stay as they are") == 1
    cluster.turn()
    assert list(cluster.specs()) == ["queue:other"]


def test_many_limits_are_written_a_few_at_a_time_and_pauses_first() -> None:
    many = [limit(f"organization:{number}") for number in range(2 * MOST_AT_ONCE)]
    cluster = Limits(*many, limit("queue:stop", pause=LimitPause("upgrade", "", NOW)))
    cluster.turn()
    assert len(cluster.writes) == MOST_AT_ONCE
    assert "queue:stop" in cluster.specs()
    cluster.turn()
    cluster.turn()
    assert len(cluster.specs()) == len(cluster.ledger)


def test_a_rate_is_published_beside_a_pause_and_changed_with_one_write_each() -> None:
    cluster = Limits(JobLimit(SLOW, Bounds(2, Rate(5, burst=3)), LimitPause("upgrade", "ada", NOW)))
    cluster.turn()
    paused = {"paused": {"reason": "upgrade", "by": "ada"}}
    assert cluster.specs()["queue:slow"] == {"scope": "queue:slow", "maxRunning": 2, "rate": "5/s", "burst": 3} | paused
    cluster.ledger = [JobLimit(SLOW, Bounds(2, Rate(100, 60)), full_at=NOW)]
    for _ in range(3):
        cluster.turn(LIST_SECONDS)
    assert cluster.specs()["queue:slow"] == {"scope": "queue:slow", "maxRunning": 2, "rate": "100/min"}
    assert len(cluster.writes) == 2


def test_what_the_operator_does_not_obey_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Limits(limit(), JobLimit(Scope(ScopeKind.QUEUE, "a\nb"), Bounds(2)))
    for _ in range(3):
        cluster.turn()
    assert caplog.text.count("no SpokeLimit can have this scope") == 1
    assert list(cluster.specs()) == ["queue:slow"]
