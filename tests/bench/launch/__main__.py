"""`make bench-launch`: measure, write the table, print the last line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.launch import burst, history, lanes, paired, report, usage
from tests.bench.launch.figures import summary
from tests.bench.launch.place import (
    HISTORY,
    LAUNCH,
    application,
    cluster_of,
    fake_nodes,
    fresh_namespace,
    installed_operator,
    operator,
    running,
    until,
)
from tests.bench.launch.settings import Settings
from tests.bench.lib.report import last_line
from tests.e2e.conftest import Cluster


def main() -> None:
    """Run it."""
    settings = Settings.of(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="bench-launch-"))
    say(f"logs are in {folder}")
    cluster = cluster_of(settings.cluster)
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "settings": asdict(settings) | {"raw": "", "tools": ""}}
    if len(settings.parts) < len(PARTS):
        if not settings.raw.exists():
            raise SystemExit("this machine has no figures of an earlier run for the other parts: run all of them once")
        figures = json.loads(settings.raw.read_text()) | figures
    for name in settings.parts:
        figures |= PARTS[name](cluster, settings, folder)
    settings.raw.write_text(json.dumps(figures, indent=1))
    line = summary(figures)
    print(report.table(figures, line))
    if settings.full:
        report.write(figures, line)
        report.draw(settings.tools, settings.raw)
    print(last_line("launch", line))


def say(words: str) -> None:
    """Progress, on a line of its own that the next one replaces where there is a terminal."""
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words:<60}{end}")


def launches(cluster: Cluster, settings: Settings, folder: Path) -> dict[str, Any]:
    """One at a time."""
    with application(cluster, settings.cluster) as product, operator(folder, LAUNCH) as process:
        measured = paired.measure(product, settings.launches, say)
        # Each attempt's last writes come after its retention.
        until("its Jobs are deleted", lambda: not product.get("jobs", "--selector=jobs.spoke.dev/spokejob"), 180)
        attempts = len(measured.startup) + 1
        writes = process.metric("spoke_operator_writes_total") / attempts
    return {"to_first_line": measured.to_first_line, "startup": measured.startup, "writes_per_attempt": writes}


def of_lanes(cluster: Cluster, settings: Settings, folder: Path) -> dict[str, Any]:
    """One at a time, and many short ones, in each lane. The operator is in the cluster: it has to reach pods."""
    values = {
        "workers": {"small": {"lane": "worker", "processes": 2}},
        "podTemplates": {"default": {"standby": f"{lanes.KEPT}-{lanes.KEPT}"}},
    }
    with (
        application(cluster, settings.cluster, values) as product,
        installed_operator(cluster, settings.cluster) as metrics,
    ):
        measured = lanes.measure(product, metrics, settings.launches, settings.short, say)
    # Without an operator, standby pods and workers would wait on beside what is measured next.
    cluster.kubectl("delete", "namespace", LAUNCH, "--wait=true", "--timeout=600s")
    return {"lanes": asdict(measured)}


def bursts(cluster: Cluster, settings: Settings, folder: Path) -> dict[str, Any]:
    """Many at once."""
    found: dict[str, list[dict[str, Any]]] = {"spoke-jobs": [], "plain": [], "textbook": []}
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(burst.textbook_definition()))
    with fake_nodes(cluster, folder):
        for number in range(settings.rounds):
            kinds = list(found)[number % 3 :] + list(found)[: number % 3]
            for kind in kinds:
                say(f"burst of {settings.burst}, {kind}, round {number + 1} of {settings.rounds}")
                namespace = f"bench-burst-{kind}"
                fresh_namespace(cluster, namespace)
                found[kind].append(asdict(one_burst(kind, namespace, settings.burst, folder)))
                cluster.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=600s")
        say(f"burst of {settings.burst}, spoke-jobs, once more with a profiler at the operator")
        namespace, stacks = "bench-burst-profile", folder / "stacks"
        fresh_namespace(cluster, namespace)
        profiler = str(settings.tools / "py-spy")
        with operator(folder, namespace) as process, usage.sampled(profiler, process.process.pid, stacks):
            burst.measure("spoke-jobs", namespace, settings.burst)
        cluster.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=600s")
    return {"bursts": found, "operator": usage.shares(stacks.read_text().splitlines())}


def one_burst(kind: str, namespace: str, count: int, folder: Path) -> burst.Burst:
    """With the operator that it needs."""
    if kind == "spoke-jobs":
        with operator(folder, namespace) as process:
            return burst.measure(kind, namespace, count, process.process.pid)
    if kind == "textbook":
        textbook = Path(__file__).with_name("textbook.py")
        command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={namespace}", str(textbook)]
        with running(command, folder / "textbook.log") as process:
            until("the textbook's operator listens", lambda: "Starting the watch" in process.log.read_text() or
                  process.log.stat().st_size > 0, 60)  # fmt: skip
            return burst.measure(kind, namespace, count, process.process.pid)
    return burst.measure(kind, namespace, count)


def idle(cluster: Cluster, settings: Settings, folder: Path) -> dict[str, Any]:
    """Nothing to do."""
    say(f"making {settings.history} finished SpokeJobs")
    fresh_namespace(cluster, HISTORY)
    history.fill(settings.history)
    say("watching the operator beside them")
    measured = history.measure(folder, settings.history, settings.idle_seconds)
    cluster.kubectl("delete", "namespace", HISTORY, "--wait=false")
    return {"idle": asdict(measured)}


PARTS = {"launches": launches, "lanes": of_lanes, "bursts": bursts, "idle": idle}

if __name__ == "__main__":
    main()
