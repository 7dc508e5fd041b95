"""Pure: the figures as tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.lib.report import number
from tests.bench.web.figures import (
    AIM_MS,
    ALL,
    CLAIMS_AIM,
    FILTER,
    ONE,
    PAGE,
    SMALL,
    STREAM_AIM_PERCENT,
    Timed,
    claims_ratio,
    slowest,
    times_of,
)

_VIEWERS = {ALL: "all", ONE: "one, of medium size", SMALL: "one, with 20 jobs"}
"""The organizations that a viewer sees."""
_KINDS = {PAGE: "pages", FILTER: "filters"}


def for_docs(figures: Mapping[str, Any]) -> str:
    """Return all pages, and of the filters those that miss the aim."""
    times = times_of(figures)
    filters = [each for each in times if each.kind == FILTER]
    over = [each for each in filters if each.is_over]
    within = slowest((each for each in filters if not each.is_over), FILTER)
    parts = [aims(figures)]
    if times:
        rest = f"The other {len(filters) - len(over)} filters are within the aim"
        parts += [
            times_table(each for each in times if each.kind == PAGE),
            f"Of {len(filters)} filters, these miss the aim of {AIM_MS:g} ms:" if over else "",
            times_table(over) if over else "",
            f"{rest}; the slowest takes {within.p95:.0f} ms ({within.name})." if within is not None else "",
        ]
    return "\n\n".join(part for part in parts if part)


def for_people(figures: Mapping[str, Any]) -> str:
    """Return all that was measured."""
    times = times_of(figures)
    return "\n\n".join([aims(figures), *([times_table(times)] if times else [])])


def times_table(times: Iterable[Timed]) -> str:
    """Return a table with a row for each address."""
    rows = [
        "| organizations | page | p50 ms | p95 ms | max ms | kB | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    rows += [
        f"| {_VIEWERS[each.viewer]} | {_cell(each.name)} | {number(each.p50)} | {number(each.p95)} | "
        f"{number(each.worst)} | {number(each.bytes / 1000)} | {_remark(each)} |"
        for each in times
    ]
    return "\n".join(rows)


def aims(figures: Mapping[str, Any]) -> str:
    """Return the figures that have an aim."""
    times = times_of(figures)
    rows = ["| figure | here | aim |", "| --- | ---: | ---: |"]
    for kind, name in _KINDS.items():
        of_kind = [each for each in times if each.kind == kind]
        if (found := slowest(of_kind, kind)) is not None:
            over = sum(each.is_over for each in of_kind)
            rows += [
                f"| {name}, the slowest at p95 | {number(found.p95)} ms | at most {AIM_MS:g} ms |",
                f"| {name} that miss it | {over} of {len(of_kind)} | 0 |",
            ]
    if "stream" in figures:
        stream = figures["stream"]
        cost = f"live updates of {stream['viewers']} viewers, {stream['changes_per_second']:.0f} changes a second"
        told = f"{stream['told_p50']:.1f} and {stream['told_p95']:.1f} s"
        rows += [
            f"| {cost} | {stream['cpu_percent']:.1f} % of a core | at most {STREAM_AIM_PERCENT:g} % |",
            f"| from a commit to a viewer's event, p50 and p95 | {told} | stated |",
        ]
    if "claims" in figures:
        claims = figures["claims"]
        load = f"claims beside {claims['pages_per_second']:.1f} pages a second ({claims['readers']} readers)"
        rows.append(f"| {load} | {claims_ratio(claims['pairs']):.3f}x | at least {CLAIMS_AIM:g}x |")
    if "timeout" in figures:
        timeout = figures["timeout"]
        said = "it says so" if timeout["said"] else "it does not say so"
        rows += [
            f"| a page that waits for a lock | {said}, after {timeout['seconds']:.1f} s | it says so |",
            f"| another page meanwhile | {number(timeout['other_ms'])} ms | at most {AIM_MS:g} ms |",
        ]
    return "\n".join(rows)


def _remark(timed: Timed) -> str:
    if timed.wrong:
        return f"{timed.wrong} of {len(timed.milliseconds)} not answered"
    return f"over {AIM_MS:g}" if timed.is_over else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
