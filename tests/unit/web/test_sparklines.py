"""The charts of the overview."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.ledger.reading.chart_periods import HOUR, PERIODS
from spoke_jobs.ledger.reading.ended_counts import Measured
from spoke_jobs.ledger.reading.statistics import Durations
from spoke_jobs.web.sparklines import HEIGHT, STEP, durations_chart, sparkline

MINUTES = HOUR.bars
DAY = PERIODS["1d"]
COUNTS = st.lists(st.integers(0, 10_000), min_size=MINUTES, max_size=MINUTES)


@given(COUNTS)
def test_bars_are_within_the_image_and_in_proportion(numbers: list[int]) -> None:
    chart = sparkline("ended", numbers, "ended")
    heights = {bar.x // STEP: bar.height for bar in chart.bars}
    assert heights.keys() == {minute for minute, number in enumerate(numbers) if number}, "each job is seen"
    for bar in chart.bars:
        assert 0 <= bar.x <= chart.width - chart.bar_width
        assert bar.height >= 1
        assert bar.y + bar.height == HEIGHT
        assert bar.y >= 0
    for minute, height in heights.items():
        assert height == max(round(HEIGHT * numbers[minute] / max(numbers)), 1)


def test_the_text_names_the_busiest_minute() -> None:
    numbers = [0] * MINUTES
    numbers[10], numbers[20], numbers[30] = 7, 1_234, 1_234
    said = sparkline("failed", numbers, "failed for good").text
    assert said == "2,475 jobs failed for good in the last hour. The busiest minute was 29 min ago, with 1,234."
    numbers[-1] = 2_000
    assert "was the current one, with 2,000." in sparkline("failed", numbers, "failed for good").text


def test_estimates_are_rounded_and_said_to_be_estimates() -> None:
    numbers = [0] * (DAY.bars - 2) + [1_234_567, 4]
    said = sparkline("ended", numbers, "ended", DAY, complete=False, about=True).text
    assert said == (
        "About 1,230,000 jobs ended in the last day, 51,400 an hour. "
        "The busiest hour began 2 h ago, with about 1,230,000."
    )
    assert sparkline("ended", [0, 1], "ended", complete=False, about=True).text == "About 1 job ended in the last hour."


def test_a_chart_of_durations_has_the_medians_before_the_95th_percentiles() -> None:
    each = (None, Durations(2.0, 100.0), Durations(0.0, 0.01), None)
    chart = durations_chart("wait", "Wait", Measured(each, Durations(0.04, 100.0)), HOUR)
    assert chart.text == (
        "Wait: less than 0.1 s for half of the jobs (p50), at most 1 min 40 s for 95 % (p95). "
        "p95 was highest in the minute that began 3 min ago: 1 min 40 s."
    )
    assert [(bar.kind, bar.x, bar.y, bar.height) for bar in chart.bars] == [
        *(("p95", 4, 0, 40), ("p95", 8, 39, 1), ("p50", 4, 39, 1)),
    ]


def test_without_a_measured_job_a_chart_of_durations_says_so() -> None:
    chart = durations_chart("run", "Run", Measured((None,) * MINUTES, None), HOUR)
    assert (chart.text, chart.bars) == ("Run: not known of any job of the last hour.", ())
    none = Durations(0.0, 0.0)
    instant = durations_chart("run", "Run", Measured((none,) * MINUTES, none), HOUR)
    assert instant.bars == ()
