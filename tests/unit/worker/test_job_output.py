"""What the `def` jobs of a child print, from the file to the worker's log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.waiting import patient

from spoke_jobs.worker.job_output import OutputFile, write_lines
from spoke_jobs.worker.shared_state import SharedState

_BEGIN = """
import os, sys
from uuid import uuid4
from spoke_jobs.worker.job_output import JobOutput, OutputFile
from spoke_jobs.worker.shared_state import SharedState
shared, _ = SharedState.make()
file, answer = OutputFile(), os.dup(1)
def begin():
    output = JobOutput(file.fileno(), shared, lambda *_: None)
    output.begin(17, uuid4())
    return output
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, since it replaces the standard output."""
    return subprocess.run(
        [sys.executable, "-c", _BEGIN + script], capture_output=True, text=True, timeout=patient(60), check=True
    )


@pytest.fixture
def file() -> Iterator[OutputFile]:
    made = OutputFile()
    yield made
    made.close()


def test_a_log_that_takes_nothing_for_a_moment_gets_all_lines() -> None:
    """Another process that has the same pipe may make it non-blocking."""
    reads, log = os.pipe()
    os.set_blocking(log, False)
    lines = b"".join(b"line %d\n" % number for number in range(100_000))

    def write() -> None:
        write_lines(log, lines)
        os.close(log)

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.1)  # the pipe is full now
    with os.fdopen(reads, "rb") as reader:
        assert reader.read() == lines
    writer.join()


def test_the_tail_is_there_although_nobody_reads_the_log() -> None:
    """A failure is recorded with it, before the attempt's lease lapses."""
    script = """
reads, log = os.pipe()
os.dup2(log, 2)
output = begin()
for number in range(200_000):
    print("line", number)
print("the last line")
os.write(answer, output.tail().encode())
os._exit(0)
"""
    assert run(script).stdout.splitlines()[-1] == "the last line"


def test_a_process_that_empties_the_file_hides_nothing_that_follows() -> None:
    """`echo > /dev/stderr` opens the file itself, and truncates it."""
    script = """
output = begin()
print("one, which is longer than the next")
output.copy()
os.system("echo two > /dev/stderr")
output.copy()
print("three")
output.end()
"""
    assert run(script).stderr.splitlines() == [
        "job 17: one, which is longer than the next",
        "job 17: two",
        "job 17: three",
    ]


def test_of_a_job_that_prints_faster_than_its_log_is_read_a_part_is_left_out() -> None:
    script = """
output = begin()
with output._lock:  # as if it still wrote what was there before
    os.write(1, b"".join(b"line %0100d\\n" % number for number in range(60_000)))
output.end()
"""
    note, *rest = run(script).stderr.splitlines()
    assert re.fullmatch(r"job 17: \(\d+ bytes of output are left out here\)", note)
    assert rest == [f"job 17: line {number:0100}" for number in range(60_000 - len(rest), 60_000)]
    assert 1000 < len(rest) < 50_000


@pytest.mark.parametrize("copied", [-1, -(2**63), 2**63 - 1])
def test_whatever_a_job_has_written_to_the_shared_memory_its_output_is_copied(
    file: OutputFile, capfd: pytest.CaptureFixture[str], copied: int
) -> None:
    """The supervisor reads it. An error there would end the worker, with all jobs."""
    shared, descriptor = SharedState.make()
    os.close(descriptor)
    shared.output_copied = copied
    os.write(file.fileno(), b"one\n")
    file.copy_left(shared, 17)
    assert capfd.readouterr().err == "job 17: one\n"


def test_the_rest_of_a_killed_child_s_output_is_copied(file: OutputFile, capfd: pytest.CaptureFixture[str]) -> None:
    """Only the last of it if it is much, and from its begin if its file was emptied."""
    shared, descriptor = SharedState.make()
    os.close(descriptor)
    shared.output_copied = 100
    os.write(file.fileno(), b"two\n")
    file.copy_left(shared, 17)
    assert capfd.readouterr().err == "job 17: two\n"
    lines = [b"line %0100d\n" % number for number in range(20_000)]
    os.write(file.fileno(), b"".join(lines))
    shared.output_copied = 4
    file.copy_left(shared, 17)
    note, *rest = capfd.readouterr().err.splitlines()
    left_out = re.fullmatch(r"job 17: \((\d+) bytes of output are left out here\)", note)
    assert left_out
    assert 1000 < len(rest) < 15_000
    assert rest[-1] == f"job 17: line {19_999:0100}"
    assert int(left_out[1]) == sum(map(len, lines[: -len(rest)]))
