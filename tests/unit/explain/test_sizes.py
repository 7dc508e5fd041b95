"""The requests that would do for jobs that used so much."""

from __future__ import annotations

import re
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.retry import is_quantity
from spoke_jobs.explain.sizes import Spread, auto_requests, cpu_request, memory_request, sizes
from spoke_jobs.job_options import JobOptions
from spoke_jobs.ledger.reading.usage_queries import TypeUsage
from spoke_jobs.model import AttemptUsage

MIB = 2**20
anything = st.none() | st.integers(-(2**63), 2**63 - 1)


def test_requests_are_round_and_above_what_was_used() -> None:
    assert [memory_request(mebibytes * MIB) for mebibytes in (0, 10, 58, 200, 930, 4_000)] == [
        "1Mi",
        "11Mi",
        "64Mi",
        "224Mi",
        "1Gi",
        "4608Mi",
    ]
    assert [cpu_request(cores) for cores in (0, 0.033, 0.113, 0.29, 0.999, 1.1, 2.34)] == [
        "10m",
        "33m",
        "120m",
        "290m",
        "1",
        "1100m",
        "2400m",
    ]


@given(st.integers(16 * MIB, 2**50))
def test_a_request_for_memory_is_at_most_a_fifth_above_the_peak(peak: int) -> None:
    requested = in_bytes(memory_request(peak))
    assert requested is not None
    assert Fraction(peak) * Fraction(11, 10) <= Fraction(requested) + 1
    assert Fraction(requested) <= Fraction(peak) * Fraction(6, 5) + MIB


@given(st.floats(0.01, 1000))
def test_a_request_for_cpu_is_at_most_a_tenth_above(cores: float) -> None:
    quantity = cpu_request(cores)
    requested = Fraction(int(quantity.removesuffix("m")), 1000 if quantity.endswith("m") else 1)
    assert cores - 1e-6 <= requested <= Fraction(cores) * Fraction(11, 10) + Fraction(2, 1000)


def test_the_largest_peak_and_nearly_all_cores_count() -> None:
    usages = [AttemptUsage(number * MIB, number, 100) for number in range(1, 101)]
    (size,) = sizes([TypeUsage("report", JobOptions(), tuple(usages))], {})
    assert (size.successes, size.measured) == (100, 100)
    assert size.memory_bytes == Spread(50 * MIB, 95 * MIB, 100 * MIB)
    assert size.cores == Spread(0.5, 0.95, 1.0)
    assert size.needs == {"memory": "112Mi", "cpu": "950m"}


def test_what_was_not_measured_is_not_guessed() -> None:
    shared, killed, timed = AttemptUsage(wall_milliseconds=5), AttemptUsage(), AttemptUsage(None, 50, 100)
    (size,) = sizes([TypeUsage("report", None, (shared, killed, timed, AttemptUsage(None, 5, 0)))], {})
    assert (size.successes, size.measured, size.memory_bytes) == (4, 1, None)
    assert size.needs == {"cpu": "500m"}


def test_jobs_of_a_few_milliseconds_name_no_cpu() -> None:
    """Their times are whole milliseconds: 40 % of a core for 0.8 to 3 ms would look like a half or a whole core."""
    short = [AttemptUsage(MIB, round(0.4 * tenths / 10), round(tenths / 10)) for tenths in range(8, 31)]
    (size,) = sizes([TypeUsage("report", None, tuple(short * 5))], {})
    assert (size.cores, size.needs) == (None, {"memory": "2Mi"})
    (size,) = sizes([TypeUsage("report", None, (*short, AttemptUsage(None, 40, 100)))], {})
    assert (size.cores, size.needs["cpu"]) == (Spread(0.4, 0.4, 0.4), "400m")


def test_what_types_ask_for_is_what_they_declare_now() -> None:
    limits = {"limits": {"memory": "1Gi", "cpu": "1", "nvidia.com/gpu": "1"}}
    older = TypeUsage("report", JobOptions(resources=limits), (AttemptUsage(MIB, 1, 1),))
    elsewhere = TypeUsage("mail", JobOptions(resources=limits | {"requests": {"memory": "64Mi"}}), ())
    declared = {"report": JobOptions(resources={"requests": {"memory": "512Mi"}}), "export": JobOptions()}
    found = {size.job_type: size for size in sizes([older, elsewhere], declared)}
    assert list(found) == ["export", "mail", "report"]
    assert found["report"].asks == {"memory": "512Mi"}
    assert found["mail"].asks == {"memory": "64Mi", "cpu": "1"}, "a limit without a request is one, too"
    assert (found["export"].asks, found["export"].successes, found["export"].needs) == ({}, 0, {})


@given(st.lists(st.builds(AttemptUsage, anything, anything, anything), max_size=5))
def test_whatever_other_code_has_written_the_requests_are_quantities(usages: list[AttemptUsage]) -> None:
    (size,) = sizes([TypeUsage("report", None, tuple(usages))], {})
    assert all(is_quantity(amount) and not re.match(r"0+\D*$", amount) for amount in size.needs.values())


def test_a_job_that_leaves_its_requests_to_its_history_asks_for_nothing_else() -> None:
    few, enough = (TypeUsage("report", JobOptions(resources="auto"), (AttemptUsage(MIB, 1, 1),) * n) for n in (4, 5))
    (size,), (known,) = sizes([few], {}), sizes([enough], {})
    assert size.asks == {"memory": "auto", "cpu": "auto"}
    assert (auto_requests(size), auto_requests(known)) == ({}, known.needs)
