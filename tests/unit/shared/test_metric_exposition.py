"""The formats in which Prometheus reads the metrics of a process."""

from __future__ import annotations

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from spoke_jobs.shared.metric_exposition import OPENMETRICS, TEXT, Exposition, wanted_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3, "application/openmetrics-text"])
def test_who_asks_for_openmetrics_gets_it(accept: str) -> None:
    assert wanted_format(accept) is OPENMETRICS
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,*/*;q=0.1",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=x.y",
        "application/openmetrics-text;version=1.x",
        f"application/openmetrics-text;version={'9' * 5000}",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ";=,;;version",
        "\N{SNOWMAN}",
    ],
)
def test_all_others_get_the_text_format(accept: str) -> None:
    assert wanted_format(accept) is TEXT
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"


def families() -> list[Metric]:
    things = CounterMetricFamily("things", "Things.", labels=["kind"])
    things.add_metric(['a"b'], 2)
    seconds = HistogramMetricFamily("wait_seconds", "Waits.")
    seconds.add_metric([], [("1.0", 1, Exemplar({"trace_id": TRACE}, 0.5, 1767225600.25)), ("+Inf", 1)], 0.5)
    return [things, seconds]


def test_openmetrics_has_exemplars() -> None:
    found = {
        family.name: family
        for family in text_string_to_metric_families(Exposition("sync", families()).body(OPENMETRICS).decode())
    }
    assert found["spoke_build"].samples[0].name == "spoke_build_info"
    assert found["things"].samples[0][:3] == ("things_total", {"kind": 'a"b'}, 2)
    exemplar = found["wait_seconds"].samples[0].exemplar
    assert exemplar is not None
    assert (exemplar.labels, exemplar.value) == ({"trace_id": TRACE}, 0.5)
    assert float(exemplar.timestamp or 0) == 1767225600.25


def test_the_text_format_has_none() -> None:
    text = Exposition("sync", families()).text
    assert 'wait_seconds_bucket{le="1.0"} 1.0\n' in text
    assert TRACE not in text
