"""The memory of a process and its descendants, from the kernel's files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import eventually

from spoke_jobs.execution.process_memory import ProcessMemory

PAGE = 4096
FAMILY = {
    "/proc/1/task/1/children": b"2 ",
    "/proc/1/task/9/children": b"3 4 ",
    "/proc/4/task/4/children": b"5",
    "/proc/7/task/7/children": b"8",
} | {f"/proc/{pid}/statm": f"900 {pages} 30 1 0 5 0\n".encode() for pid, pages in enumerate((10, 20, 30, 40, 50), 1)}


def memory(files: Mapping[str, bytes]) -> ProcessMemory:
    return ProcessMemory(lambda path: files.get(path, b""), lambda pid: ["1", "9"] if pid == 1 else [str(pid)], PAGE)


def test_all_descendants_count_whichever_thread_has_started_them() -> None:
    assert memory(FAMILY).of(1, 1_000_000) == 150 * PAGE


def test_above_the_bound_pages_that_processes_share_count_once() -> None:
    shared = {f"/proc/{pid}/smaps_rollup": b"Rss:  99 kB\nPss:      12 kB\nPss_Anon: 3 kB\n" for pid in (1, 2, 3, 4)}
    files = FAMILY | shared
    assert memory(files).of(1, 150 * PAGE) == 150 * PAGE, "it is not above the bound"
    assert memory(files).of(1, 150 * PAGE - 1) == 4 * 12 * 1024 + 50 * PAGE, "one of them does not say"


@given(st.dictionaries(st.sampled_from([*FAMILY, "/proc/1/smaps_rollup"]), st.binary(max_size=40)), st.integers(0, 99))
def test_whatever_the_files_hold_there_is_a_number(files: dict[str, bytes], bound: int) -> None:
    assert memory(files).of(1, bound) >= 0


def test_processes_that_are_each_others_children_count_once() -> None:
    circle = {"/proc/1/task/1/children": b"2", "/proc/2/task/2/children": b"1"} | {
        f"/proc/{pid}/statm": b"9 10" for pid in (1, 2)
    }
    assert memory(circle).of(1) == 20 * PAGE


GRANDCHILD = "x = b'x' * 60_000_000; import time; time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}])"


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", PARENT], process_group=0) as process:
        yield process
        subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)


def test_a_real_process_counts_with_its_child(parent: subprocess.Popen[bytes]) -> None:
    eventually(lambda: 60_000_000 < ProcessMemory().of(parent.pid) < 200_000_000, "the child's memory counts")
