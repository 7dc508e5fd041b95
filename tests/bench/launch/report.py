"""The figures as a table, and as a section of docs/benchmarks.md."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.bench.launch.figures import Figures, middle, of_lanes, percentile
from tests.bench.launch.usage import IDLE
from tests.bench.lib.machine import machine, moment
from tests.bench.lib.report import PAGE, Section
from tests.bench.lib.settings import REPOSITORY

PICTURE = PAGE.parent / "benchmarks/launch.svg"
SECTION = Section("launch", "make bench-launch")


def table(figures: Figures, line: Mapping[str, float]) -> str:
    """For people."""
    seconds, bursts, idle = figures["to_first_line"], figures["bursts"], figures["idle"]
    rows = ["| from commit, or creation, to the first line | p50 s | p99 s |", "| --- | ---: | ---: |"]
    rows += [
        f"| {kind} | {percentile(values, 0.5):.2f} | {percentile(values, 0.99):.2f} |"
        for kind, values in seconds.items()
    ]
    if "lanes" in figures:
        rows += _lanes(figures)
    burst = f"a burst of {figures['settings']['burst']:,}"
    rows += ["", f"| {burst} | submitted s | last Job created s | last finished s |", "| --- | ---: | ---: | ---: |"]
    for kind, found in bursts.items():
        one = {name: statistics.median(item[name] for item in found) for name in ("submitted", "created", "finished")}
        rows.append(f"| {kind} | {one['submitted']:.1f} | {one['created']:.1f} | {one['finished']:.1f} |")
    history = f"{figures['settings']['history']:,}"
    rows += [
        "",
        "| figure | here | aim |",
        "| --- | ---: | ---: |",
        f"| launch, p50, beside a plain Job | {line['launch_p50_ratio']:.2f}x | at most 1.10x |",
        f"| launch, p99, beside a plain Job | {line['launch_p99_ratio']:.2f}x | at most 1.25x |",
        f"| burst, last Job created, plain Jobs' time by ours | {line['burst_created_ratio']:.2f} | at least 0.95 |",
        f"| burst, last finished, plain Jobs' time by ours | {line['burst_finished_ratio']:.2f} | at least 0.95 |",
        f"| interpreter's start to the function's first line | {line['startup_s']:.2f} s | at most 0.5 s |",
        f"| operator beside {history} finished SpokeJobs | {line['operator_mb']:.0f} MB | at most 200 MB |",
        f"| its processor time, idle | {line['idle_cpu_percent']:.1f} % of a core | at most 1 % |",
        f"| its start, to its first reconcile | {line['restart_s']:.1f} s | at most 10 s |",
        f"| its writes meanwhile | {idle['writes']:.0f} | 0 |",
        f"| its writes for an attempt (not stopped, pod not refused) | {line['writes_per_attempt']:.1f} | 5 |",
    ]
    return "\n".join([*rows, "", *_profile(figures)])


def _lanes(figures: Figures) -> list[str]:
    """The lanes beside plain Jobs of the same part of the run."""
    lanes, line = figures["lanes"], of_lanes(figures["lanes"])
    rows = ["", "| by lane, from commit, or creation, to the first line | p50 s | p99 s |", "| --- | ---: | ---: |"]
    rows += [
        f"| {kind} | {percentile(values, 0.5):.3f} | {percentile(values, 0.99):.3f} |"
        for kind, values in lanes["to_first_line"].items()
    ]
    short = f"{figures['settings']['short']:,} short jobs, the lane worker's time by plain Jobs'"
    return [
        *rows,
        "",
        "| figure of the lanes | here | aim |",
        "| --- | ---: | ---: |",
        f"| lane standby, p50, beside a plain Job | {line['standby_p50_ratio']:.3f}x | at most 0.15x |",
        f"| lane standby, p99, beside a plain Job | {line['standby_p99_ratio']:.3f}x | at most 0.30x |",
        f"| lane worker, p50, beside a plain Job | {line['worker_p50_ratio']:.3f}x | at most 0.02x |",
        f"| {short} | {line['short_jobs_ratio']:.3f} | at most 0.1 |",
        f"| memory of a standby pod that waits | {line['standby_idle_mib']:.0f} MiB | stated |",
        f"| jobs that got no standby pod although some waited | {lanes['missed']} | 0 |",
    ]


def _profile(figures: Figures) -> list[str]:
    """Who worked how long during a burst, what was called, and what the operator was at."""
    kinds = list(figures["bursts"])
    head = f"| {' | '.join(kinds)} |"
    seconds = {kind: middle([item["seconds"] for item in found]) for kind, found in figures["bursts"].items()}
    called = {kind: middle([item["calls"] for item in found]) for kind, found in figures["bursts"].items()}
    processes = sorted(
        {name for found in seconds.values() for name in found},
        key=lambda name: (name == IDLE, -max(found.get(name, 0.0) for found in seconds.values())),
    )
    count = figures["settings"]["burst"]
    often = [
        name for name in called["spoke-jobs"] if any(found.get(name, 0) >= count / 10 for found in called.values())
    ]
    often += [name for kind in kinds for name in called[kind] if called[kind][name] >= count / 10 and name not in often]
    rule = "| --- |" + " ---: |" * len(kinds)
    rows = [f"| processor seconds in a burst {head}", rule]
    rows += [
        f"| {name} | " + " | ".join(f"{seconds[kind].get(name, 0):.1f}" for kind in kinds) + " |" for name in processes
    ]
    rows += ["", f"| calls of the API server in a burst {head}", rule]
    often.sort(key=lambda name: -max(found.get(name, 0) for found in called.values()))
    rows += [
        f"| {name} | " + " | ".join(f"{called[kind].get(name, 0):,.0f}" for kind in kinds) + " |" for name in often
    ]
    rows += ["", "| of the operator's busy time in a burst | share |", "| --- | ---: |"]
    rows += [f"| {name} | {100 * share:.0f} % |" for name, share in figures["operator"].items() if share >= 0.01]
    return rows


def write(figures: Figures, line: Mapping[str, float]) -> None:
    """Put it into the page, between its marks."""
    settings = figures["settings"]
    facts = (
        f"- machine: {machine()}; cluster, callers and watchers share it; {moment()}\n"
        f"- load average before: {figures['load']:.1f}; {settings['launches']} launches of each kind, "
        f"{settings['rounds']} bursts of each\n\n"
    )
    picture = "![The same figures as a picture](benchmarks/launch.svg)"
    SECTION.write(f"{facts}{picture}\n\n{table(figures, line)}")


def draw(tools: Path, raw: Path) -> None:
    """The picture, by what has been written to the file; in the environment that can draw."""
    command = [str(tools / "python"), "-m", "tests.bench.launch.plot", str(raw), str(PICTURE)]
    subprocess.run(command, check=True, cwd=REPOSITORY)
