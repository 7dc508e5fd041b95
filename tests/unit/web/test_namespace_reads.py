"""What the dashboard reads of a namespace, from an API server that the test makes up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest

from spoke_jobs.cluster import installed_reads, namespace_reads, pod_logs
from spoke_jobs.cluster.cluster_view import PodTail
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.shared.api_errors import ApiError, Forbidden, NotFound, ServerError
from spoke_jobs.shared.object_fields import Body

DATA = {"operator": "op-1", "time": "2026-01-01T00:00:00+00:00", "state": '{"waiting": 3}'}
REFUSED = Forbidden(403, "Forbidden", "no")


class Api:
    """A namespace."""

    namespace = "shop"
    closed = False

    def __init__(self, data: Mapping[str, str] | ApiError | None, templates: list[str] | ApiError) -> None:
        self._data = data
        self._templates = templates

    def config_map(self, name: str) -> Mapping[str, str] | None:
        assert name == STATE_CONFIGMAP
        if isinstance(self._data, ApiError):
            raise self._data
        return self._data

    def list_objects(self, kind: Kind, labels: Mapping[str, str]) -> Iterator[Body]:
        assert (kind, labels) == (Kind.TEMPLATE, {})
        if isinstance(self._templates, ApiError):
            raise self._templates
        for name in self._templates:
            yield {"metadata": {"name": name}}

    def close(self) -> None:
        self.closed = True


def read(data: Mapping[str, str] | ApiError | None, templates: list[str] | ApiError) -> NamespaceView:
    api = Api(data, templates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespace_reads.SpokeJobClient, "connect", lambda *_: api)
        found = namespace_reads.read_namespace_view("shop")
    assert api.closed
    return found


def test_the_state_and_the_templates_by_name() -> None:
    found = read(DATA, ["large", "default"])
    assert found.publication is not None
    assert (found.publication.operator, found.publication.state.waiting) == ("op-1", 3)
    assert [each.name for each in found.templates] == ["default", "large"]
    assert (found.namespace, found.problem, found.more_templates) == ("shop", "", False)


def test_what_may_not_be_read_hides_nothing_else() -> None:
    found = read(REFUSED, ["default"])
    assert "no" in found.state_problem
    assert [each.name for each in found.templates] == ["default"]
    found = read(DATA, REFUSED)
    assert found.publication is not None
    assert (found.templates, found.templates_problem) == ((), str(REFUSED))


def test_a_cluster_that_is_away_is_one_problem() -> None:
    found = read(ServerError(503, "ServiceUnavailable", "no"), ["default"])
    assert found.problem == "503 ServiceUnavailable: no"
    assert found.state_problem == found.templates_problem == ""


def test_a_state_that_cannot_be_understood_is_none() -> None:
    assert read({"time": "yesterday"}, []).publication is None
    assert read(None, []).publication is None


def test_a_bounded_number_of_templates_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_reads, "TEMPLATES", 2)
    found = read(None, ["c", "a", "b"])
    assert [each.name for each in found.templates] == ["a", "c"]
    assert found.more_templates
    assert not read(None, ["c", "a"]).more_templates


def test_without_a_namespace_nothing_is_read_and_no_client_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import alone takes longer than a page waits, which then said that a cluster did not answer."""
    looked_for: list[str] = []
    monkeypatch.setattr(installed_reads.importlib.util, "find_spec", looked_for.append)
    monkeypatch.setattr(installed_reads.kube_environment, "namespace", lambda _configured: "")
    found = installed_reads.namespace_in("")
    assert (found.problem, found.is_configured) == ("SPOKE_NAMESPACE is not set", False)
    assert installed_reads.waits_in("").problem == "SPOKE_NAMESPACE is not set"
    assert installed_reads.tail_in("report-1-x", "").problem == "SPOKE_NAMESPACE is not set"
    assert installed_reads.pulled_in("report-1-x", "") is None
    assert looked_for == []


def test_without_the_client_it_is_still_known_that_a_namespace_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed_reads.importlib.util, "find_spec", lambda _name: None)
    found = installed_reads.namespace_in("shop")
    assert (found.namespace, found.problem, found.is_configured) == (
        "shop",
        "the Kubernetes client is not installed",
        True,
    )


def event(container: str = "job", at: str = "2026-01-01T00:00:05Z", **fields: str) -> Body:
    about = {"fieldPath": f"spec.containers{{{container}}}"}
    return {"involvedObject": about, "lastTimestamp": at} | fields


class Events:
    """A namespace whose pods have these events."""

    def __init__(self, answer: list[Body] | ApiError) -> None:
        self._answer = answer
        self.asked: list[tuple[str, Mapping[str, str] | None]] = []

    def ask(self, path: str, query: Mapping[str, str] | None = None) -> Body:
        self.asked.append((path, query))
        if isinstance(self._answer, ApiError):
            raise self._answer
        return {"items": self._answer}

    def close(self) -> None:
        pass


def pulled(answer: list[Body] | ApiError, monkeypatch: pytest.MonkeyPatch) -> datetime | None:
    api = Events(answer)
    monkeypatch.setattr(namespace_reads.SpokeJobClient, "connect", lambda *_: api)
    at = installed_reads.pulled_in("report-1-x", "shop")
    about = "involvedObject.kind=Pod,involvedObject.name=report-1-x,reason=Pulled"
    assert api.asked == [("/api/v1/namespaces/shop/events", {"fieldSelector": about, "limit": "500"})]
    return at


def test_when_the_image_of_a_job_was_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    second = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    of_others = [event("proxy", "2026-01-01T00:00:09Z"), {"involvedObject": {"fieldPath": "spec.initContainers{job}"}}]
    assert pulled([*of_others, event(), event(at="2026-01-01T00:00:01Z")], monkeypatch) == second
    assert pulled([event(at="", eventTime="2026-01-01T00:00:05.000000Z")], monkeypatch) == second
    assert pulled(of_others, monkeypatch) is None
    assert pulled([event(at="yesterday")], monkeypatch) is None
    with pytest.raises(type(REFUSED)):
        pulled(REFUSED, monkeypatch)


class Log:
    """A namespace with one pod."""

    namespace = "shop"

    def __init__(self, answer: list[bytes] | ApiError) -> None:
        self._answer = answer
        self.closed = False

    def read_lines(self, path: str, query: Mapping[str, str], _silent_seconds: float) -> Iterator[bytes]:
        assert path == "/api/v1/namespaces/shop/pods/report-1-x/log"
        assert query == {"container": "job", "tailLines": "200", "limitBytes": str(4 * 2**20)}
        if isinstance(self._answer, ApiError):
            raise self._answer
        yield from self._answer

    def close(self) -> None:
        self.closed = True


def printed(answer: list[bytes] | ApiError, monkeypatch: pytest.MonkeyPatch) -> PodTail:
    api = Log(answer)
    monkeypatch.setattr(pod_logs.SpokeJobClient, "connect", lambda *_: api)
    found = installed_reads.tail_in("report-1-x", "shop")
    assert api.closed
    return found


def test_what_a_pod_has_printed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed([b"one", b"", b"\xff"], monkeypatch) == PodTail(("one", "", "\ufffd"))
    (end,) = printed([b"x" * 10_000_000 + b"end"], monkeypatch).lines
    assert end.endswith("xend")
    assert len(end) == 8_192, "as little as possible is kept"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (NotFound(404, "NotFound", "no"), "the pod is gone"),
        (Forbidden(403, "Forbidden", 'User "web" cannot'), "web may not get pods/log in namespace shop"),
        (ServerError(503, "Unavailable", "no"), str(ServerError(503, "Unavailable", "no"))),
    ],
    ids=["gone", "forbidden", "away"],
)
def test_why_a_pod_s_output_could_not_be_read(monkeypatch: pytest.MonkeyPatch, error: ApiError, problem: str) -> None:
    assert printed(error, monkeypatch) == PodTail(problem=problem)
