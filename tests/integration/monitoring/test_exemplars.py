"""The exemplars of all processes, by a real Prometheus that stores them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.metric_scenes import OperatorScene, Scene, SyncScene, TasksScene, WorkerScene
from tests.prometheus import EXEMPLAR_STORAGE, Target, scraping
from tests.waiting import eventually

from spoke_jobs.shared import probe_server

TRACES: dict[str, tuple[Callable[[str], Scene], tuple[str, ...]]] = {
    "a" * 32: (
        lambda trace_id: OperatorScene(trace_id=trace_id),
        ("operator_job_creation_seconds", "operator_job_start_seconds", "operator_attempt_run_seconds"),
    ),
    "b" * 32: (
        SyncScene,
        ("sync_job_wait_seconds", "sync_attempt_run_seconds", "sync_attempt_peak_memory_bytes"),
    ),
    "c" * 32: (WorkerScene, ("worker_job_wait_seconds", "worker_attempt_run_seconds")),
    "d" * 32: (TasksScene, ("tasks_wait_seconds", "tasks_run_seconds")),
}
"""By trace: the process that ran a part of it, and the histograms that show it."""


def test_prometheus_stores_the_trace_of_each_wait_and_run(tmp_path: Path) -> None:
    with ExitStack() as stack:
        targets = []
        for trace_id, (make, _) in TRACES.items():
            scene = make(trace_id)
            scene.work()
            server = probe_server.serve({"/metrics": scene.answer}, 0, "127.0.0.1")
            stack.callback(probe_server.close, server)
            targets.append(Target(server.server_port, scene.source.value))
        prometheus = stack.enter_context(scraping(tmp_path, targets, options=[EXEMPLAR_STORAGE]))
        for trace_id, (_, names) in TRACES.items():
            for name in names:
                selector = f"spoke_{name}_bucket"
                found = eventually(lambda selector=selector: prometheus.exemplars(selector), f"exemplars of {name}")
                assert {exemplar["trace_id"] for exemplar in found} == {trace_id}, name
        up = prometheus.query("up")
        assert up == [1.0] * len(TRACES)
