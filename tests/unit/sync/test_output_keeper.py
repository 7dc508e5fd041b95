"""What the cluster says about failed attempts reaches the ledger once, whatever fails in between."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DataError
from tests.contract.ledger import new_job
from tests.unit.sync.engine_writer import EngineWriter
from tests.unit.sync.making import row, seen
from tests.waiting import eventually, patient

from spoke_jobs.ledger.cluster import reports
from spoke_jobs.ledger.cluster.reports import OUTPUT_LIMIT
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ContainerOutput
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.shared.log_setup import JsonFormatter
from spoke_jobs.sync import output_keeper
from spoke_jobs.sync.output_keeper import OutputKeeper
from spoke_jobs.sync.sync_model import AttemptView, Row, SpokeJobView
from spoke_jobs.sync.writer import Writer

FAILED = AttemptView(1, True, "InitFailed", "", "container 'migrate': it exited with 3", "pod-1")


@dataclass
class Pods:
    """What the pods have printed; errors come first."""

    outputs: dict[str, tuple[ContainerOutput, ...]] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def read(self, pod: str) -> tuple[ContainerOutput, ...]:
        self.asked.append(pod)
        if self.errors:
            raise self.errors.pop(0)
        return self.outputs.get(pod, ())


@dataclass
class Scene:
    engine: Engine
    pods: Pods
    keeper: OutputKeeper
    row: Row
    now: list[float]

    def see(self, *attempts: AttemptView) -> SpokeJobView:
        view = seen(self.row, attempts=attempts)
        self.keeper.see(self.row, view)
        return view

    def read_all(self) -> None:
        """Wait until every read that has begun has ended."""
        readings = self.keeper._readings
        eventually(lambda: all(each.future is None or each.future.done() for each in readings))

    def store(self) -> int:
        """Store what is read, once every read has ended."""
        stored = 0

        def all_are_stored() -> bool:
            nonlocal stored
            stored += self.keeper.store()
            if any(reading.future is None for reading in self.keeper._readings):
                self.now[0] += 1.0
            return not self.keeper._readings  # those that are being stopped wait for their end

        eventually(all_are_stored, every=0.001)  # the clock of the test moves with each check
        return stored

    def reports(self) -> Any:
        return Queries(self.engine).reports(self.row.job.id)


@pytest.fixture
def scene(sqlite_ledger_url: str) -> Iterator[Scene]:
    engine = create_engine(sqlite_ledger_url)
    job = SqlLedger(engine).insert(new_job())
    pods = Pods()
    now = [0.0]
    keeper = OutputKeeper(cast(Writer, EngineWriter(engine)), pods.read, lambda: now[0])
    yield Scene(engine, pods, keeper, replace(row(), job=replace(row().job, id=job.id, uid=job.uid)), now)
    keeper.close()
    engine.dispose()


def test_the_output_of_each_container_and_the_message_are_kept(scene: Scene) -> None:
    outputs = (ContainerOutput("migrate", "no database\n"), ContainerOutput("proxy", "ready\n"))
    scene.pods.outputs["pod-1"] = outputs
    scene.see(FAILED)
    scene.store()
    (report,) = scene.reports()
    assert (report.number, report.cause, report.message, report.pod) == (1, "InitFailed", FAILED.message, "pod-1")
    assert report.outputs == outputs


STOPPING = replace(FAILED, cause="Timeout", ended=False)
BEFORE, AFTER = ContainerOutput("job", "step 1"), ContainerOutput("job", "step 1\nstopped: saved at 7")


def test_what_an_attempt_prints_while_it_is_being_stopped_is_kept(scene: Scene) -> None:
    sidecar = ContainerOutput("proxy", "ready")
    scene.pods.outputs["pod-1"] = (BEFORE, sidecar)
    scene.see(STOPPING)
    scene.store()
    scene.see(STOPPING)
    scene.store()
    scene.pods.outputs["pod-1"] = (AFTER,)
    scene.see(replace(STOPPING, ended=True))
    assert scene.store() == 1
    scene.see(replace(STOPPING, ended=True))
    assert scene.store() == 0
    (report,) = scene.reports()
    assert (report.cause, report.outputs) == ("Timeout", (AFTER, sidecar)), "of a sidecar there is no more to read"
    assert len(scene.pods.asked) == 2


def test_of_an_attempt_that_is_being_stopped_remains_what_it_had_printed_before(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = (BEFORE,)
    scene.see(STOPPING)
    scene.store()
    scene.pods.outputs.clear()  # the pod is gone
    scene.see(replace(STOPPING, ended=True))
    scene.store()
    (report,) = scene.reports()
    assert report.outputs == (BEFORE,)


def test_an_attempt_that_ends_during_the_first_read_is_read_again(scene: Scene) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(pod: str) -> tuple[ContainerOutput, ...]:
        if begun.is_set():
            return (AFTER,)
        begun.set()
        assert may_end.wait(patient(30))
        return (BEFORE,)

    scene.keeper._read = slow
    scene.see(STOPPING)
    assert begun.wait(patient(30))
    scene.see(replace(STOPPING, ended=True))
    may_end.set()
    assert scene.store() == 1
    (report,) = scene.reports()
    assert report.outputs == (AFTER,)


def test_an_attempt_that_does_not_stop_is_stored_after_a_minute(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = (BEFORE,)
    scene.see(STOPPING)
    scene.store()
    scene.now[0] += 59
    assert (scene.store(), scene.reports()) == (0, ())
    scene.now[0] += 2
    assert scene.store() == 1
    scene.see(replace(STOPPING, ended=True))
    assert scene.store() == 0
    (report,) = scene.reports()
    assert report.outputs == (BEFORE,)


def test_a_sync_that_ends_stores_what_it_knows_of_attempts_that_are_being_stopped(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = (BEFORE,)
    scene.see(STOPPING)
    assert scene.store() == 0
    assert scene.keeper.store_rest() == 1
    (report,) = scene.reports()
    assert report.outputs == (BEFORE,)


def test_of_very_many_attempts_that_are_being_stopped_the_oldest_are_stored_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_keeper, "_STOPPING", 3)
    scene.see(*(replace(STOPPING, number=number) for number in range(1, 6)))
    scene.read_all()  # two threads read, and a later attempt's output may be there before an earlier one's
    assert scene.store() == 2
    assert {report.number for report in scene.reports()} == {1, 2}


def of_pods(scene: Scene, *pods: str) -> list[tuple[Row, SpokeJobView]]:
    """A SpokeJob with a failed attempt for each pod."""
    return [(scene.row, seen(scene.row, name=pod, attempts=(replace(FAILED, pod=pod),))) for pod in pods]


def test_of_very_many_attempts_each_is_read_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    many = 20_001
    monkeypatch.setattr(output_keeper, "_QUEUED", many)
    monkeypatch.setattr(output_keeper, "_STORED_AT_ONCE", many)
    monkeypatch.setattr(scene.keeper, "_record", lambda _: True)
    spokejobs = []
    for number in range(many):
        job = replace(scene.row, job=replace(scene.row.job, uid=uuid.UUID(int=number)))
        spokejobs.append((job, seen(job, name=f"pod-{number}", attempts=(FAILED,))))
    for _ in range(2):
        for item in spokejobs:
            scene.keeper.see(*item)
        scene.store()
    assert len(scene.pods.asked) == many


def test_what_finds_no_place_in_the_queue_is_read_at_a_later_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_keeper, "_QUEUED", 3)
    pods = [f"pod-{number}" for number in range(1, 8)]
    asked = []
    for _ in range(4):
        for item in of_pods(scene, *pods):
            scene.keeper.see(*item)
        assert len(scene.keeper._readings) <= 3
        scene.store()
        asked.append(len(scene.pods.asked))
    assert asked == [3, 6, 7, 7]
    assert sorted(scene.pods.asked) == pods


def test_the_attempts_of_one_spokejob_find_a_place_one_after_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_keeper, "_QUEUED", 2)
    attempts = [replace(FAILED, number=number, pod=f"pod-{number}") for number in range(1, 5)]
    for _ in range(3):
        view = scene.see(*reversed(attempts))
        postponed = scene.keeper.is_postponed(view.name)
        scene.store()
    assert not postponed
    assert [report.number for report in scene.reports()] == [1, 2, 3, 4]


def test_a_spokejob_that_is_gone_is_forgotten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_keeper, "_QUEUED", 3)
    for item in of_pods(scene, "a", "b", "c", "postponed"):
        scene.keeper.see(*item)
    scene.keeper.keep({"a", "b"})
    scene.keeper.forget("a")
    assert [name for name in ("a", "b", "c", "postponed") if scene.keeper.remembers(name)] == ["b"]
    assert len(scene.keeper._readings) == 3, "what has begun is stored"


def test_another_spokejob_of_the_same_name_is_read_from_its_first_attempt(scene: Scene) -> None:
    scene.see(FAILED, replace(FAILED, number=2, pod="pod-2"))
    scene.keeper.see(scene.row, seen(scene.row, object_uid="another", attempts=(replace(FAILED, pod="pod-3"),)))
    scene.store()
    assert sorted(scene.pods.asked) == ["pod-1", "pod-2", "pod-3"]


def test_an_attempt_is_read_once_and_stored_once(scene: Scene) -> None:
    for _ in range(3):
        scene.see(FAILED)
    assert scene.store() == 1
    again = OutputKeeper(cast(Writer, EngineWriter(scene.engine)), scene.pods.read)
    scene.pods.outputs.clear()
    scene.keeper = again
    scene.see(FAILED)
    assert scene.store() == 0, "a restarted sync changes nothing"
    again.close()
    assert len(scene.reports()) == 1


@pytest.mark.parametrize("cause", ["", "QueueHeld", "StartPaused", "RetryLater"])
def test_what_did_not_fail_is_not_read(scene: Scene, cause: str) -> None:
    scene.see(replace(FAILED, cause=cause))
    scene.store()
    assert scene.pods.asked == []
    assert scene.reports() == ()


@pytest.mark.parametrize(("errors", "kept"), [(2, True), (3, False)])
def test_a_silent_node_is_asked_again_and_then_given_up(scene: Scene, errors: int, kept: bool) -> None:
    scene.pods.outputs["pod-1"] = (ContainerOutput("job", "hello"),)
    scene.pods.errors = [api_error(502, "Bad Gateway", "no kubelet")] * errors
    scene.see(FAILED)
    scene.store()
    (report,) = scene.reports()
    assert report.message == FAILED.message, "what Kubernetes said is kept in any case"
    assert bool(report.outputs) is kept


def test_a_missing_right_is_not_asked_for_again(scene: Scene) -> None:
    scene.pods.errors = [api_error(403, "Forbidden", "pods/log")]
    scene.see(FAILED)
    scene.store()
    assert len(scene.pods.asked) == 1
    assert len(scene.reports()) == 1


def test_output_in_a_form_that_nobody_expected_stops_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.pods.errors = [KeyError("containerStatuses")]
    scene.see(FAILED)
    scene.store()
    (report,) = scene.reports()
    assert (report.message, report.outputs) == (FAILED.message, ())
    assert fields_of(caplog) == [(scene.row.job.id, FAILED.number)]


def test_a_report_that_cannot_be_stored_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def record(*_: object) -> bool:
        raise DataError("INSERT", {}, ValueError("out of range"))

    monkeypatch.setattr(reports, "record", record)
    scene.see(FAILED)
    assert scene.store() == 0
    assert fields_of(caplog) == [(scene.row.job.id, FAILED.number)]


def fields_of(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object]]:
    """The job's id and the attempt of each line in JSON."""
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [(line["request_id"], line["attempt"]) for line in lines]


def test_output_is_bounded_and_storable(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = tuple(ContainerOutput(f"c{n}", "\x00x" * OUTPUT_LIMIT + "end") for n in range(30))
    scene.see(FAILED)
    scene.store()
    (report,) = scene.reports()
    assert len(report.outputs) == 10
    assert all(len(item.text) == OUTPUT_LIMIT and item.text.endswith("end") for item in report.outputs)


def test_the_output_of_a_run_is_kept_although_somebody_has_retried_the_job(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = (ContainerOutput("job", "of the first run"),)
    first = seen(scene.row, attempts=(FAILED,))
    retried = replace(scene.row, job=replace(scene.row.job, run=2))
    scene.keeper.see(retried, first)
    scene.store()
    scene.keeper.see(retried, seen(retried, attempts=(replace(FAILED, pod="pod-2"),)))
    scene.store()
    assert [(report.run, len(report.outputs)) for report in scene.reports()] == [(1, 1), (2, 0)]


def test_a_row_that_is_gone_stops_nothing(scene: Scene) -> None:
    scene.row = replace(scene.row, job=replace(scene.row.job, id=999))
    scene.see(FAILED)
    assert scene.store() == 0


def test_the_output_is_read_once_the_api_server_answers_again(scene: Scene) -> None:
    scene.pods.outputs["pod-1"] = (ContainerOutput("job", "last words"),)
    scene.pods.errors = [api_error(0, "NoAnswer", "connection refused")] * 15
    scene.see(FAILED)
    scene.store()
    assert scene.now[0] > 120, "the API server is not asked at once, again and again"
    (report,) = scene.reports()
    assert [item.text for item in report.outputs] == ["last words"]


def test_what_nobody_can_read_for_a_long_time_is_recorded_without_its_output(scene: Scene) -> None:
    scene.pods.errors = [api_error(0, "NoAnswer", "connection refused")] * 1000
    scene.see(FAILED)
    scene.store()
    (report,) = scene.reports()
    assert (report.cause, report.outputs) == ("InitFailed", ())
    assert len(scene.pods.asked) < 50
