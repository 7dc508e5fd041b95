"""The metrics of a process, in the formats in which Prometheus reads them.

The default is the text format 0.0.4. Who asks for OpenMetrics gets that: it alone has exemplars.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_OPENMETRICS_TYPE = "application/openmetrics-text"


@dataclass(frozen=True, slots=True)
class MetricFormat:
    """A format."""

    content_type: str
    encode: Callable[[Collector], bytes]

    @classmethod
    def of(cls, accept: str) -> MetricFormat:
        """Return the format that prometheus-client chooses for the header ``Accept``."""
        encode, content_type = choose_encoder(accept)
        return cls(content_type, encode)


TEXT = MetricFormat.of("")
OPENMETRICS = MetricFormat.of(_OPENMETRICS_TYPE)


def wanted_format(accept: str) -> MetricFormat:
    """Return one of the two formats, by a request's header ``Accept``."""
    try:
        chosen = MetricFormat.of(accept)
    except (TypeError, ValueError):  # the version is no number
        return TEXT
    return OPENMETRICS if chosen.content_type.startswith(_OPENMETRICS_TYPE) else TEXT


class Exposition:
    """Metrics, preceded by those that every process has. Each format is made once, when it is asked for.

    :param component: the process: operator, sync, worker or tasks.
    """

    def __init__(self, component: str, families: Iterable[Metric]) -> None:
        self._families = _Families([*_of_process(component), *families])
        self._lock = threading.Lock()
        self._made: dict[MetricFormat, bytes] = {}

    def body(self, wanted: MetricFormat) -> bytes:
        """Return the metrics in a format."""
        with self._lock:
            if wanted not in self._made:
                self._made[wanted] = wanted.encode(self._families)
            return self._made[wanted]

    @property
    def text(self) -> str:
        """The metrics in the text format."""
        return self.body(TEXT).decode()


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_process(component: str) -> Iterator[Metric]:
    build = {"component": component, "version": _version(), "python": platform.python_version()}
    yield InfoMetricFamily("spoke_build", "The release of spoke-jobs and of Python.", build)
    yield from _PROCESS.collect()


@cache
def _version() -> str:
    try:
        return version("spoke-jobs")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


_PROCESS = ProcessCollector(registry=None)
"""CPU, memory, open files and start of this process; without values where there is no /proc."""
