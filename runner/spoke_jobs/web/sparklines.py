"""Small charts of jobs by time, as bars of an SVG image, each with a text that says the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spoke_jobs.explain.words import count, seconds
from spoke_jobs.ledger.reading.chart_periods import HOUR, Period
from spoke_jobs.ledger.reading.ended_counts import EARLIER, EXAMINED, FAILED_COUNTED, EndedJobs, Measured

HEIGHT = 40
STEP = 4
"""The distance between two bars. A bar is one unit narrower."""
_SHORT = 0.1


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands at a part of the period."""

    kind: str
    """For the style sheet."""
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A chart of a period."""

    name: str
    """For ids."""
    text: str
    """What the chart shows, in words."""
    bars: tuple[Bar, ...]
    """Of the parts that are not empty."""
    width: int
    height: int = HEIGHT
    bar_width: int = STEP - 1


def ended_charts(ended: EndedJobs) -> Iterator[Sparkline]:
    """Draw how many jobs ended, how many failed, and how long they waited and ran."""
    each = [sum(numbers) for numbers in zip(ended.succeeded, ended.failed, ended.cancelled, strict=True)]
    period, all_read = ended.period, not (ended.jobs_each or ended.left_out)
    failed_about = ended.failures_estimated
    about = ended.estimated or failed_about
    complete = all_read and not about and not ended.long_left_out
    yield sparkline("ended", each, "ended", period, complete=complete, about=about)
    yield sparkline(
        "failed",
        ended.failed,
        "failed for good",
        period,
        complete=all_read and not failed_about,
        about=failed_about,
    )
    yield durations_chart("wait", "Wait until the first start", ended.wait, period)
    yield durations_chart("run", "Time from the first start to the end", ended.run, period)


def ended_notes(ended: EndedJobs) -> Iterator[str]:
    """Say what the charts of ended jobs were not made of."""
    if ended.estimated:
        yield (
            f"The charts are estimates: of the attempts that may have ended in the last {ended.period.text}, only "
            f"{EXAMINED:,} were read, evenly spread."
        )
    if ended.long_left_out:
        longer = seconds(ended.period.seconds * EARLIER)
        yield f"The attempts before were not read: jobs that took longer than {longer} may be missing in the charts."
    if ended.failures_estimated:
        yield (
            f"Of the failed and the cancelled jobs, only the {FAILED_COUNTED:,} that ended last were counted. The bars "
            "before show those that were found among the attempts: jobs that never started are missing there."
        )
    if ended.jobs_each:
        yield (
            f"The charts show, of each organization, only the {ended.jobs_each:,} newest jobs that succeeded and the "
            f"{ended.jobs_each:,} newest that failed: jobs that were dispatched before them may be missing."
        )
    if ended.left_out:
        yield f"The charts show no jobs of {count(ended.left_out, 'further organization')}: there are too many."


def sparkline(
    name: str, numbers: Sequence[int], what: str, period: Period = HOUR, *, complete: bool = True, about: bool = False
) -> Sparkline:
    """Draw numbers by time, the oldest first.

    :param what: what the jobs did, as in ``ended``.
    :param complete: whether there are no others.
    :param about: whether the numbers are estimates.
    """
    total = sum(numbers)
    if not total:
        found = "No job" if complete else "No job was found that"
        text = f"{found} {what} in the last {period.text}."
    else:
        often = f", {_rate(total, period)} an hour" if period.minutes > HOUR.minutes and _rate(total, period) else ""
        number = f"About {count(_rounded(total), 'job')}" if about else count(total, "job")
        text = " ".join([f"{number} {what} in the last {period.text}{often}.", *_busiest(numbers, period, about=about)])
    return Sparkline(name, text, tuple(_bars(name, numbers, max(numbers, default=0))), STEP * len(numbers))


def group_sparkline(name: str, numbers: Sequence[int], period: Period) -> Sparkline:
    """Draw when the jobs of a group failed, the oldest first. How many they are stands beside it."""
    said = " ".join(_busiest(numbers, period)) or f"In no {period.bar_text} more than one."
    bars = tuple(_bars("failed", numbers, max(numbers, default=0)))
    return Sparkline(name, f"When they failed in the last {period.text}: {said}", bars, STEP * len(numbers))


def durations_chart(name: str, what: str, measured: Measured, period: Period) -> Sparkline:
    """Draw the 95th percentiles by time, the oldest first, and before them the medians."""
    each, whole = measured.each, measured.whole
    width = STEP * len(each)
    if whole is None:
        return Sparkline(name, f"{what}: not known of any job of the last {period.text}.", (), width)
    slow = [0.0 if one is None else one.p95 for one in each]
    half = [0.0 if one is None else one.p50 for one in each]
    most = max(slow)
    text = f"{what}: {_at_most(whole.p50)} for half of the jobs (p50), {_at_most(whole.p95)} for 95 % (p95)."
    if most >= _SHORT and sum(one is not None for one in each) > 1:
        text += f" p95 was highest in the {period.bar_text} that began {_began(slow, period)} ago: {seconds(most)}."
    return Sparkline(name, text, (*_bars("p95", slow, most), *_bars("p50", half, most)), width)


def _bars(kind: str, values: Sequence[float], most: float) -> Iterable[Bar]:
    for index, value in enumerate(values):
        if value > 0:
            height = max(round(HEIGHT * value / most), 1)
            yield Bar(kind, index * STEP, HEIGHT - height, height)


def _busiest(numbers: Sequence[int], period: Period, *, about: bool = False) -> Iterator[str]:
    most = max(numbers, default=0)
    if most > 1:
        number = f"about {_rounded(most):,}" if about else f"{most:,}"
        if period.bar_minutes == 1:
            ago = _ago(numbers)
            yield f"The busiest minute was {f'{ago} min ago' if ago else 'the current one'}, with {number}."
        else:
            yield f"The busiest {period.bar_text} began {_began(numbers, period)} ago, with {number}."


def _at_most(duration: float) -> str:
    return f"at most {seconds(duration)}" if duration >= _SHORT else f"less than {_SHORT} s"


def _began(values: Sequence[float], period: Period) -> str:
    return seconds(60.0 * period.bar_minutes * (_ago(values) + 1))


def _ago(values: Sequence[float]) -> int:
    """Return how many bars before the last one the newest of the highest is."""
    most = max(values)
    return len(values) - 1 - max(index for index, value in enumerate(values) if value == most)


def _rate(total: int, period: Period) -> str:
    """Return how many jobs that is in an hour; empty if less than one."""
    rate = total * HOUR.minutes // period.minutes
    return f"{_rounded(rate):,}" if rate else ""


def _rounded(number: int) -> int:
    """Round an estimate to three digits."""
    return round(number, 3 - len(str(number))) if number >= 1_000 else number
