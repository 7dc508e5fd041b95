"""What a dashboard is: rows of panels with queries.

In queries, `@SYNC@`, `@WORKERS@`, `@TASKS@` and `@OPERATOR@` stand for the labels that select a release's processes,
and `@JOBS@` for those of an operator's metrics about jobs. The charts fill them in, as in alerts. The variables that
begin with `$` are Grafana's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.contract.metrics.metric_catalogue import CATALOGUE


class Unit(StrEnum):
    """A unit, as Grafana calls it."""

    COUNT = "short"
    PER_SECOND = "cps"
    SECONDS = "s"
    BYTES = "bytes"
    SHARE = "percentunit"


class Shape(StrEnum):
    """How a panel shows its values."""

    LINES = "timeseries"
    NUMBER = "stat"


@dataclass(frozen=True, slots=True)
class Query:
    """A query of Prometheus, and the name of each of its series."""

    expression: str
    legend: str = ""
    """With labels in double braces."""
    exemplars: bool = False
    """Whether to show the exemplars of the histogram, too."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel."""

    title: str
    text: str
    """What it shows, and what it means if it looks bad."""
    unit: Unit
    queries: tuple[Query, ...]
    shape: Shape = Shape.LINES


@dataclass(frozen=True, slots=True)
class Row:
    """A row with a heading. Its panels share the width; at most three are beside each other, of numbers six."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: values of a label."""

    name: str
    label: str
    query: str
    """As Grafana's Prometheus source has it: ``label_values(METRIC, LABEL)``."""


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    name: str
    """The name of its file, and a part of its uid."""
    title: str
    text: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def queries(self) -> tuple[Query, ...]:
        """All queries."""
        return tuple(query for row in self.rows for panel in row.panels for query in panel.queries)


def lines(title: str, text: str, unit: Unit, *queries: Query) -> Panel:
    """Return a panel with lines."""
    return Panel(title, text, unit, queries)


def number(title: str, text: str, unit: Unit, *queries: Query) -> Panel:
    """Return a panel with the present value of each series."""
    return Panel(title, text, unit, queries, Shape.NUMBER)


def quantiles(
    series: str, selectors: tuple[tuple[str, str], ...], by: str = "", *, of: tuple[float, ...]
) -> tuple[Query, ...]:
    """Return a query for each quantile of a histogram. The first one also shows the exemplars, if there are any.

    :param series: the name of the histogram, with ``{}`` for the process.
    :param selectors: the processes, each with its labels.
    :param by: a label to tell apart.
    """
    rates = " or ".join(
        f"rate({series.format(process)}_bucket{{{selector}}}[$__rate_interval])" for process, selector in selectors
    )
    group = ", ".join(filter(None, (by, "le")))
    legend = f" {{{{{by}}}}}" if by else ""
    has_exemplars = any(CATALOGUE[series.format(process)].has_exemplars for process, _ in selectors)
    return tuple(
        Query(
            f"histogram_quantile({each}, sum by ({group}) ({rates}))",
            f"p{each * 100:g}{legend}",
            exemplars=has_exemplars and each == of[0],
        )
        for each in of
    )
