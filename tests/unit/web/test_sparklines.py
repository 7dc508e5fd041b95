"""The charts of the overview."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.ledger.reading.ended_counts import MINUTES
from spoke_jobs.web.sparklines import HEIGHT, STEP, WIDTH, sparkline

COUNTS = st.lists(st.integers(0, 10_000), min_size=MINUTES, max_size=MINUTES)


@given(COUNTS)
def test_bars_are_within_the_image_and_in_proportion(numbers: list[int]) -> None:
    chart = sparkline("ended", numbers, "ended")
    heights = {bar.x // STEP: bar.height for bar in chart.bars}
    assert heights.keys() == {minute for minute, number in enumerate(numbers) if number}, "each job is seen"
    for bar in chart.bars:
        assert 0 <= bar.x <= WIDTH - chart.bar_width
        assert bar.height >= 1
        assert bar.y + bar.height == HEIGHT
        assert bar.y >= 0
    for minute, height in heights.items():
        assert height == max(round(HEIGHT * numbers[minute] / max(numbers)), 1)


@given(COUNTS)
def test_the_text_says_how_many(numbers: list[int]) -> None:
    text = sparkline("ended", numbers, "ended").text
    total = sum(numbers)
    assert text.startswith(f"{total:,} job" if total else "No job ended")


def test_the_text_names_the_busiest_minute() -> None:
    numbers = [0] * MINUTES
    numbers[10], numbers[20], numbers[30] = 7, 1_234, 1_234
    said = sparkline("failed", numbers, "failed for good").text
    assert said == "2,475 jobs failed for good in the last hour. The busiest minute was 29 min ago, with 1,234."
    numbers[-1] = 2_000
    assert "was the current one, with 2,000." in sparkline("failed", numbers, "failed for good").text


def test_no_minute_is_busiest_if_each_has_at_most_one_job() -> None:
    numbers = [0] * MINUTES
    numbers[10] = numbers[20] = 1
    assert sparkline("failed", numbers, "failed for good").text == "2 jobs failed for good in the last hour."


def test_without_a_job_there_is_no_image() -> None:
    chart = sparkline("failed", [0] * MINUTES, "failed for good")
    assert (chart.text, chart.bars) == ("No job failed for good in the last hour.", ())


def test_that_no_job_was_found_is_not_that_there_is_none() -> None:
    text = sparkline("ended", [0] * MINUTES, "ended", complete=False).text
    assert text == "No job was found that ended in the last hour."
