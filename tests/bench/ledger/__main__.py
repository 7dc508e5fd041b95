"""Measure, show, write: what `run` starts. Each measurement prints a line; the last line is for programs."""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from tests.bench.ledger.catalogue import BASELINE, Store, System, catalogue
from tests.bench.ledger.figures import Sample, rows
from tests.bench.ledger.measure import DATABASE, Bench, templates
from tests.bench.ledger.processes import BenchError
from tests.bench.ledger.report import conditions, job_name, last_line, number, spliced, table
from tests.bench.ledger.services import Postgres, Redis
from tests.bench.ledger.settings import Settings

JOBS_MS = (0, 10)


def main() -> None:
    """The whole run."""
    settings = Settings.read()
    postgres, redis = Postgres(settings.postgres), Redis(settings.redis)
    systems = [
        system
        for system in catalogue(settings, postgres.url(DATABASE))
        if not settings.only or system.name.lower().startswith(settings.only)
    ]
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="spoke-bench-") as folder:
        bench = Bench(settings, postgres, redis, Path(folder))
        try:
            facts = _facts(settings, postgres, redis, systems)
            print(conditions(facts), flush=True)
            samples = _rounds(bench, systems)
        except BenchError as error:
            sys.exit(f"error: {error}")
        finally:
            postgres.drop(DATABASE, *templates(systems))
            redis.prepare(Store.REDIS_OFF)
    rounds = max(sample.round for sample in samples)
    _show(settings, samples, facts | {"rounds": str(rounds)})


def _memory() -> str | None:
    """A folder in memory, so that marks wait for no disk that they don't need."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _rounds(bench: Bench, systems: Sequence[System]) -> list[Sample]:
    begin = time.monotonic()
    order = random.Random(bench.settings.seed)
    for system in systems:
        bench.install(system)
    samples = []
    longest = 0.0
    for round_number in range(1, bench.settings.rounds + 1):
        began = time.monotonic()
        if began + longest > begin + 60 * bench.settings.minutes:
            print(f"no time for round {round_number}: MINUTES={bench.settings.minutes:g}", flush=True)
            break
        for system in order.sample(systems, len(systems)):
            for sample in _measured(bench, system, round_number):
                samples.append(sample)
                print(
                    f"[{time.monotonic() - begin:4.0f} s] round {round_number}/{bench.settings.rounds}  "
                    f"{sample.label:28} {job_name(sample.job_ms):6}"
                    f"{number(sample.enqueue_per_s):>8} enqueued/s {number(sample.execute_per_s):>8} executed/s "
                    f"  p50 {number(sample.p50_ms):>6} ms  p99 {number(sample.p99_ms):>6} ms",
                    flush=True,
                )
        longest = max(longest, time.monotonic() - began)
    place = {system.label: index for index, system in enumerate(systems)}
    return sorted(samples, key=lambda sample: (place[sample.label], sample.job_ms, sample.round))


def _measured(bench: Bench, system: System, round_number: int) -> list[Sample]:
    latencies = bench.latencies(system, JOBS_MS, round_number)
    samples = []
    for job_ms in JOBS_MS:
        enqueued, executed = bench.throughput(system, job_ms)
        samples.append(
            Sample(
                label=system.label,
                system=system.name,
                durability=system.store.value,
                job_ms=job_ms,
                round=round_number,
                enqueue_per_s=enqueued,
                execute_per_s=executed,
                latencies_ms=tuple(latencies[job_ms]),
            )
        )
    return samples


def _facts(settings: Settings, postgres: Postgres, redis: Redis, systems: Sequence[System]) -> dict[str, str]:
    values = postgres.settings()
    postgres.create(DATABASE)
    commits = postgres.commits_per_second(DATABASE)
    ours = tomllib.loads((settings.repository / "pyproject.toml").read_text())["project"]["version"]
    versions = {
        system.name.partition(" ")[0]: ours if system.package == "spoke-jobs" else metadata.version(system.package)
        for system in systems
    }
    version = values.pop("server_version").partition(" ")[0]
    return {
        "machine": f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}; "
        "dispatchers, workers and servers share it",
        f"PostgreSQL {version}": ", ".join(f"{name}={value}" for name, value in values.items())
        + f"; one connection commits {number(commits)} times a second here",
        f"Redis {redis.version()}": "AOF always: appendonly=yes, appendfsync=always; no AOF: appendonly=no, "
        "nothing is on disk",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "run": f"{time.strftime('%Y-%m-%d')}, commit {_commit(settings)}, "
        f"{settings.concurrency} jobs at once, {settings.concurrency} dispatchers, "
        f"latency at {settings.rate:g} jobs a second; load average before: {os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit(settings: Settings) -> str:
    asked = subprocess.run(
        ["git", "-C", str(settings.repository), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _show(settings: Settings, samples: Sequence[Sample], facts: dict[str, str]) -> None:
    from tests.bench.ledger.plot import draw

    found = rows(samples, BASELINE)
    text = table(found)
    print(f"\nin parentheses: against {BASELINE}, the median of the rounds' own ratios\n\n{text}\n")
    raw = Path(os.environ["BENCH_RAW"])
    raw.write_text(json.dumps([asdict(sample) for sample in samples]))
    if settings.only:
        print("some systems only: docs/benchmarks.md stays as it is")
    else:
        docs = settings.repository / "docs"
        draw(found, docs / "benchmarks" / "ledger.svg", f"{facts['machine']}; {facts['run']}")
        page = docs / "benchmarks.md"
        page.write_text(
            spliced(
                page.read_text(),
                f"{conditions(facts)}\n\n{text}\n\n![The same figures as bars](benchmarks/ledger.svg)",
            )
        )
        print("written: docs/benchmarks.md, docs/benchmarks/ledger.svg")
    print(last_line(found))


if __name__ == "__main__":
    main()
