"""What an attempt used, from what the kernel says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import patient

from spoke_jobs.execution import usage_meter
from spoke_jobs.execution.usage_meter import NEW_PROCESS, NO_CGROUP, CgroupReading, ProcessReading, read_cgroup, used
from spoke_jobs.model import AttemptUsage

MIB = 2**20
V2 = {
    "/sys/fs/cgroup/memory.peak": b"209715200\n",
    "/sys/fs/cgroup/memory.stat": b"anon 1\nfile 9\nactive_file 1048576\ninactive_file 2097152\nshmem 5\n",
    "/sys/fs/cgroup/cpu.stat": b"usage_usec 2500000\nuser_usec 2000000\n",
}
V1 = {
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes": b"209715200\n",
    "/sys/fs/cgroup/memory/memory.stat": b"active_file 9\ntotal_active_file 1048576\ntotal_inactive_file 2097152\n",
    "/sys/fs/cgroup/cpuacct/cpuacct.usage": b"2500000000\n",
}


def files(contents: dict[str, bytes]) -> Callable[[str], bytes]:
    return lambda path: contents.get(path, b"")


@pytest.mark.parametrize("contents", [V2, V1], ids=["version 2", "version 1"])
def test_a_containers_peak_is_read_without_the_page_cache(contents: dict[str, bytes]) -> None:
    assert read_cgroup(files(contents)) == CgroupReading(197 * MIB, 2.5)


def test_what_the_whole_machine_used_is_not_a_jobs() -> None:
    """Outside of a container, there is the root cgroup."""
    assert read_cgroup(files(V1 | {"/sys/fs/cgroup/memory/release_agent": b"\n"})) == NO_CGROUP
    assert read_cgroup(files({"/sys/fs/cgroup/cpu.stat": V2["/sys/fs/cgroup/cpu.stat"]})) == NO_CGROUP
    assert read_cgroup(files({"/sys/fs/cgroup/memory.peak": b"max\n"})) == NO_CGROUP
    assert read_cgroup(files({"/sys/fs/cgroup/memory.peak": b"7"})) == CgroupReading(7, None)


@given(st.dictionaries(st.sampled_from(sorted({*V1, *V2})), st.binary() | st.from_regex(rb"(usage_usec )?[0-9]+\n")))
def test_a_cgroup_of_any_bytes_gives_numbers_or_nothing(contents: dict[str, bytes]) -> None:
    found = read_cgroup(files(contents))
    assert found.peak_bytes is None or 0 <= found.peak_bytes < 2**63
    assert found.cpu_seconds is None or 0 <= found.cpu_seconds < 2**63


@given(st.binary(), st.floats(0, 1e9), st.integers(0, 1000))
def test_how_long_a_process_has_run_is_never_negative(stat: bytes, since_boot: float, ticks: int) -> None:
    found = usage_meter.seconds_since_start(stat, since_boot, ticks)
    assert found is None or 0 <= found <= since_boot


def test_a_programs_name_may_contain_anything() -> None:
    stat = b"7 (a) b (c) S " + b"0 " * 18 + b"12050 0 0\n"
    assert usage_meter.seconds_since_start(stat, 130.5, 100) == 10.0


def reading(**values: Any) -> ProcessReading:
    return ProcessReading(**values)


class TestWhatAnAttemptUsed:
    """Of a process that has run others before: 3 s of CPU time, 300 MiB, and a child process of 50 MiB."""

    BEFORE = ProcessReading(3.0, 300 * MIB, 1.0, 50 * MIB)

    def peak(self, *, was_reset: bool, **now: Any) -> int | None:
        values = {"cpu_seconds": 3.0, "children_cpu_seconds": 1.0, "children_peak_bytes": 50 * MIB} | now
        return used(self.BEFORE, reading(**values), 1.0, was_reset=was_reset).peak_memory_bytes

    def test_cpu_time_is_that_since_the_start_of_the_process_and_its_children(self) -> None:
        now = ProcessReading(3.5, 300 * MIB, 1.25, 50 * MIB)
        assert used(self.BEFORE, now, 2.0, was_reset=True) == AttemptUsage(300 * MIB, 750, 2000)

    def test_a_peak_that_may_be_an_earlier_attempts_is_not_recorded(self) -> None:
        assert self.peak(was_reset=False, peak_bytes=300 * MIB) is None
        assert self.peak(was_reset=False, peak_bytes=301 * MIB) == 301 * MIB
        assert self.peak(was_reset=True, peak_bytes=20 * MIB) == 20 * MIB

    def test_a_larger_child_process_counts(self) -> None:
        now = {"peak_bytes": 20 * MIB, "children_cpu_seconds": 1.5, "children_peak_bytes": 90 * MIB}
        assert self.peak(was_reset=True, **now) == 90 * MIB

    def test_child_processes_that_may_have_used_more_than_the_process_leave_the_peak_unknown(self) -> None:
        now = {"children_cpu_seconds": 1.5}
        assert self.peak(was_reset=True, peak_bytes=20 * MIB, **now) is None
        assert self.peak(was_reset=True, peak_bytes=60 * MIB, **now) == 60 * MIB

    def test_a_containers_figures_count_if_they_are_larger(self) -> None:
        now = ProcessReading(1.0, 40 * MIB)
        cgroup = CgroupReading(70 * MIB, 1.5)
        assert used(NEW_PROCESS, now, 4.0, was_reset=True, cgroup=cgroup) == AttemptUsage(70 * MIB, 1500, 4000)
        assert used(NEW_PROCESS, now, 4.0, was_reset=True, cgroup=CgroupReading(7, None)) == AttemptUsage(
            40 * MIB, 1000, 4000
        )


IN_ONE_PROCESS = """
import json, subprocess, sys
from spoke_jobs.execution.usage_meter import of_own_process, of_pod, of_shared_process

whole = of_pod()
found = []
for size in (100, 0):
    measure = of_own_process()
    data = b"x" * (size * 2**20)
    del data
    found.append(measure())
measure = of_own_process()
subprocess.run([sys.executable, "-c", "data = b'x' * (200 * 2**20); sum(range(3_000_000))"], check=True)
found.append(measure())
found += [whole(), of_shared_process()()]
print(json.dumps([[one.peak_memory_bytes, one.cpu_milliseconds, one.wall_milliseconds] for one in found]))
"""


def test_a_real_process() -> None:
    """Attempts of 100 MiB, of nothing, and of a child process with 200 MiB; then the whole process."""
    printed = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS], capture_output=True, text=True, timeout=patient(60), check=True
    ).stdout
    large, small, of_child, whole, shared = json.loads(printed)
    assert 100 * MIB <= large[0] < 200 * MIB
    assert small[0] < 100 * MIB, "memory that was freed before is not its own"
    assert 200 * MIB <= of_child[0] < 300 * MIB
    assert of_child[1] > 0
    assert whole[0] >= of_child[0]
    assert whole[1] >= of_child[1]
    assert whole[2] >= large[2] + small[2] + of_child[2]
    assert shared[:2] == [None, None], "others may use the same process"
