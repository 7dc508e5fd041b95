"""Measure, show, write: what `run` starts. Each measurement prints a line; the last line is for programs."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from tests.bench.lib.conditions import facts
from tests.bench.lib.place import Place
from tests.bench.lib.processes import answer_of
from tests.bench.lib.report import Section, conditions, kind_name, last_line, number
from tests.bench.lib.rounds import samples_of
from tests.bench.lib.run import place_for, show
from tests.bench.lib.settings import REPOSITORY
from tests.bench.lib.system import System
from tests.bench.tasks.catalogue import catalogue, durability
from tests.bench.tasks.figures import Sample, figures, rows, table
from tests.bench.tasks.measure import latencies, throughput
from tests.bench.tasks.settings import Settings

DATABASE = "spoke_bench_tasks"
SECTION = Section("tasks", "make bench-tasks")
TASKS_MS = (0, 5)
_REDIS = "appendonly=no; AOF always: appendonly=yes, appendfsync=always"


def main() -> None:
    """The whole run."""
    settings = Settings.read()
    with place_for(settings, DATABASE, partial(catalogue, settings)) as (place, systems):
        asked = f"{settings.concurrency} tasks at once, latency at {settings.rate:g} tasks a second"
        known = facts(place, systems, _REDIS, asked)
        print(conditions(known), flush=True)
        calls = _calls(settings)
        print(", ".join(f"{name} {value:g}" for name, value in calls.items()), flush=True)
        for system in systems:
            place.install(system)
        samples = samples_of(settings, systems, partial(_measured, place, settings), _shown)
    known |= {"rounds": str(max(sample.round for sample in samples))}
    found = rows(samples)
    text = table(found)
    print(f"\nin parentheses: against the fastest of its group\n\n{text}\n")

    def draw(path: Path) -> None:
        from tests.bench.tasks.plot import draw

        draw(found, path, f"{known['machine']}; {known['run']}")

    said = ", ".join(f"{name.replace('_', ' ')}: {value:g}" for name, value in calls.items())
    show(settings, SECTION, samples, f"{conditions(known)}\n- one call: {said}", text, draw)
    print(last_line("tasks", {"rows": figures(found), **calls}))


def _calls(settings: Settings) -> dict[str, float]:
    """What one call costs."""
    command = [str(settings.ours / "python"), "-m", "tests.bench.tasks.dispatch", str(settings.call_seconds)]
    found: dict[str, float] = json.loads(answer_of(command, os.environ | {"PYTHONPATH": str(REPOSITORY)}))
    return found


def _measured(place: Place, settings: Settings, system: System, round_number: int) -> list[Sample]:
    waited = latencies(place, settings, system, TASKS_MS, round_number)
    samples = []
    for task_ms in TASKS_MS:
        found = throughput(place, settings, system, task_ms)
        samples.append(
            Sample(
                system=system.name,
                durability=durability(system).value,
                task_ms=task_ms,
                round=round_number,
                dispatched_per_s=found.dispatched_per_s,
                executed_per_s=found.executed_per_s,
                cpu_s_per_10k=found.cpu_s_per_10k,
                latencies_ms=tuple(waited[task_ms]),
            )
        )
    return samples


def _shown(sample: Sample) -> str:
    row = rows([sample])[0]
    return (
        f"{sample.system:28} {kind_name(sample.task_ms):6}"
        f"{number(sample.dispatched_per_s):>8} dispatched/s {number(sample.executed_per_s):>8} executed/s "
        f"  p50 {number(row.p50_ms):>6} ms  p99 {number(row.p99_ms):>6} ms "
        f"  {number(sample.cpu_s_per_10k):>6} s of processor for 10,000"
    )


if __name__ == "__main__":
    main()
