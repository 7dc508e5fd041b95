"""Measure, show, write: what `run` starts. Each measurement prints a line; the last line is for programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.bench.ledger.catalogue import BASELINE, catalogue, label
from tests.bench.ledger.figures import Sample, rows
from tests.bench.ledger.measure import latencies, throughput
from tests.bench.ledger.report import figures, table
from tests.bench.ledger.settings import Settings
from tests.bench.lib.conditions import facts
from tests.bench.lib.place import Place
from tests.bench.lib.report import Section, conditions, kind_name, last_line, number
from tests.bench.lib.rounds import samples_of
from tests.bench.lib.run import place_for, show
from tests.bench.lib.system import System

DATABASE = "spoke_bench"
SECTION = Section("ledger", "make bench")
JOBS_MS = (0, 10)
_REDIS = "AOF always: appendonly=yes, appendfsync=always; no AOF: appendonly=no, nothing is on disk"


def main() -> None:
    """The whole run."""
    settings = Settings.read()
    with place_for(settings, DATABASE, partial(catalogue, settings)) as (place, systems):
        at_once = settings.concurrency
        asked = f"{at_once} jobs at once, {at_once} dispatchers, latency at {settings.rate:g} jobs a second"
        known = facts(place, systems, _REDIS, asked)
        print(conditions(known), flush=True)
        for system in systems:
            place.install(system)
        samples = samples_of(settings, systems, partial(_measured, place, settings), _shown)
    known |= {"rounds": str(max(sample.round for sample in samples))}
    found = rows(samples, BASELINE)
    text = table(found)
    print(f"\nin parentheses: against {BASELINE}, the median of the rounds' own ratios\n\n{text}\n")

    def draw(path: Path) -> None:
        from tests.bench.ledger.plot import draw

        draw(found, path, f"{known['machine']}; {known['run']}")

    show(settings, SECTION, samples, conditions(known), text, draw)
    print(last_line("ledger", {"rows": figures(found)}))


def _measured(place: Place, settings: Settings, system: System, round_number: int) -> list[Sample]:
    waited = latencies(place, settings, system, JOBS_MS, round_number)
    assert system.store
    samples = []
    for job_ms in JOBS_MS:
        enqueued, executed = throughput(place, settings, system, job_ms)
        samples.append(
            Sample(
                label=label(system),
                system=system.name,
                durability=system.store.value,
                job_ms=job_ms,
                round=round_number,
                enqueue_per_s=enqueued,
                execute_per_s=executed,
                latencies_ms=tuple(waited[job_ms]),
            )
        )
    return samples


def _shown(sample: Sample) -> str:
    return (
        f"{sample.label:28} {kind_name(sample.job_ms):6}"
        f"{number(sample.enqueue_per_s):>8} enqueued/s {number(sample.execute_per_s):>8} executed/s "
        f"  p50 {number(sample.p50_ms):>6} ms  p99 {number(sample.p99_ms):>6} ms"
    )


if __name__ == "__main__":
    main()
