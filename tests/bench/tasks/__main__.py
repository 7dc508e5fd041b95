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

from tests.bench.ledger.catalogue import Store
from tests.bench.ledger.processes import BenchError, answer_of
from tests.bench.ledger.report import conditions, number
from tests.bench.ledger.services import Postgres, Redis
from tests.bench.tasks.catalogue import System, catalogue
from tests.bench.tasks.figures import BEGIN, END, Sample, last_line, rows, table, task_name
from tests.bench.tasks.measure import DATABASE, Bench, template
from tests.bench.tasks.settings import Settings

TASKS_MS = (0, 5)


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
            calls = _calls(settings)
            print(", ".join(f"{name} {value:g}" for name, value in calls.items()), flush=True)
            samples = _rounds(bench, systems)
        except BenchError as error:
            sys.exit(f"error: {error}")
        finally:
            postgres.drop(DATABASE, *{template(system) for system in systems if system.store is Store.POSTGRES})
            redis.prepare(Store.REDIS_OFF)
    rounds = max(sample.round for sample in samples)
    _show(settings, samples, calls, facts | {"rounds": str(rounds)})


def _memory() -> str | None:
    """A folder in memory, so that marks wait for no disk that they don't need."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _calls(settings: Settings) -> dict[str, float]:
    """What one call costs."""
    command = [str(settings.ours / "python"), "-m", "tests.bench.tasks.dispatch", str(settings.call_seconds)]
    found: dict[str, float] = json.loads(answer_of(command, os.environ | {"PYTHONPATH": str(settings.repository)}))
    return found


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
                shown = rows([sample])[0]
                print(
                    f"[{time.monotonic() - begin:4.0f} s] round {round_number}/{bench.settings.rounds}  "
                    f"{sample.system:28} {task_name(sample.task_ms):6}"
                    f"{number(sample.dispatched_per_s):>8} dispatched/s {number(sample.executed_per_s):>8} executed/s "
                    f"  p50 {number(shown.p50_ms):>6} ms  p99 {number(shown.p99_ms):>6} ms "
                    f"  {number(sample.cpu_s_per_10k):>6} s of processor for 10,000",
                    flush=True,
                )
        longest = max(longest, time.monotonic() - began)
    place = {system.name: index for index, system in enumerate(systems)}
    return sorted(samples, key=lambda sample: (place[sample.system], sample.task_ms, sample.round))


def _measured(bench: Bench, system: System, round_number: int) -> list[Sample]:
    latencies = bench.latencies(system, TASKS_MS, round_number)
    samples = []
    for task_ms in TASKS_MS:
        found = bench.throughput(system, task_ms)
        samples.append(
            Sample(
                system=system.name,
                durability=system.durability.value,
                task_ms=task_ms,
                round=round_number,
                dispatched_per_s=found.dispatched_per_s,
                executed_per_s=found.executed_per_s,
                cpu_s_per_10k=found.cpu_s_per_10k,
                latencies_ms=tuple(latencies[task_ms]),
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
        f"Redis {redis.version()}": "appendonly=no; AOF always: appendonly=yes, appendfsync=always",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "run": f"{time.strftime('%Y-%m-%d')}, commit {_commit(settings)}, {settings.concurrency} tasks at once, "
        f"latency at {settings.rate:g} tasks a second; load average before: {os.getloadavg()[0]:.1f}",
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


def _show(settings: Settings, samples: Sequence[Sample], calls: dict[str, float], facts: dict[str, str]) -> None:
    from tests.bench.tasks.plot import draw

    found = rows(samples)
    text = table(found)
    print(f"\nin parentheses: against the fastest of its group\n\n{text}\n")
    raw = Path(os.environ["BENCH_RAW"])
    raw.write_text(json.dumps([asdict(sample) for sample in samples]))
    if settings.only:
        print("some systems only: docs/benchmarks.md stays as it is")
    else:
        docs = settings.repository / "docs"
        draw(found, docs / "benchmarks" / "tasks.svg", f"{facts['machine']}; {facts['run']}")
        said = ", ".join(f"{name.replace('_', ' ')}: {value:g}" for name, value in calls.items())
        picture = "![The same figures as bars](benchmarks/tasks.svg)"
        page = docs / "benchmarks.md"
        page.write_text(
            _spliced(
                page.read_text(),
                f"{conditions(facts)}\n- one call: {said}\n\n{text}\n\n{picture}",
            )
        )
        print("written: docs/benchmarks.md, docs/benchmarks/tasks.svg")
    print(last_line(found, calls))


def _spliced(page: str, text: str) -> str:
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the line {BEGIN if not begin else END}")
    return f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{tail}"


if __name__ == "__main__":
    main()
