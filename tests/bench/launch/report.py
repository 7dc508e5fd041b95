"""Pure but for the last function: the figures as a summary, a table and a section of docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.launch.paired import OURS, PLAIN, SHELL

PAGE = Path(__file__).parents[3] / "docs/benchmarks.md"
BEGIN, END = "<!-- launch: made by `make bench-launch` -->", "<!-- launch: end -->"
Figures = Mapping[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so great a share is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(figures: Figures) -> dict[str, float]:
    """The line for programs."""
    line, bursts, idle = figures["to_first_line"], figures["bursts"], figures["idle"]

    def ratio(measure: str) -> float:
        pairs = zip(bursts["plain"], bursts["spoke-jobs"], strict=True)
        return statistics.median(plain[measure] / ours[measure] for plain, ours in pairs)

    count = figures["settings"]["burst"]
    return {
        "launch_p50_ratio": round(percentile(line[OURS], 0.5) / percentile(line[PLAIN], 0.5), 3),
        "launch_p99_ratio": round(percentile(line[OURS], 0.99) / percentile(line[PLAIN], 0.99), 3),
        "shell_floor_p50_s": round(percentile(line[SHELL], 0.5), 3),
        "burst_created_ratio": round(ratio("created"), 3),
        "burst_finished_ratio": round(ratio("finished"), 3),
        "textbook_per_s": round(count / statistics.median(item["created"] for item in bursts["textbook"]), 1),
        "operator_mb": round(idle["megabytes"], 1),
        "idle_cpu_percent": round(idle["cpu_percent"], 2),
        "restart_s": round(idle["restart_seconds"], 2),
        "startup_s": round(statistics.median(figures["startup"]), 3),
        "writes_per_attempt": round(figures["writes_per_attempt"], 2),
    }


def table(figures: Figures, line: Mapping[str, float]) -> str:
    """For people."""
    seconds, bursts, idle = figures["to_first_line"], figures["bursts"], figures["idle"]
    rows = ["| from commit, or creation, to the first line | p50 s | p99 s |", "| --- | ---: | ---: |"]
    rows += [
        f"| {kind} | {percentile(values, 0.5):.2f} | {percentile(values, 0.99):.2f} |"
        for kind, values in seconds.items()
    ]
    burst = f"a burst of {figures['settings']['burst']:,}"
    rows += ["", f"| {burst} | submitted s | last Job created s | last finished s |", "| --- | ---: | ---: | ---: |"]
    for kind, found in bursts.items():
        middle = {name: statistics.median(item[name] for item in found) for name in found[0]}
        rows.append(f"| {kind} | {middle['submitted']:.1f} | {middle['created']:.1f} | {middle['finished']:.1f} |")
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
        f"| its writes for an attempt (Job created and deleted, status) | {line['writes_per_attempt']:.1f} | 5 |",
    ]
    return "\n".join(rows)


def write(figures: Figures, line: Mapping[str, float]) -> None:
    """Put it into the page, between its markers."""
    page = PAGE.read_text()
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the line {BEGIN if not begin else END}")
    facts = f"- load average before: {figures['load']:.1f}; {figures['settings']['launches']} launches of each kind\n\n"
    PAGE.write_text(f"{head}{BEGIN}\n\n{facts}{table(figures, line)}\n\n{END}{tail}")
