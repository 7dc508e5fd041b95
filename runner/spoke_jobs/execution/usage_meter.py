"""Measure what an attempt uses: peak memory, CPU time and wall time.

What is recorded is true of the attempt alone. So a process that others use at the same time measures only wall time. A
process that runs one attempt after the other resets the kernel's record of its peak memory before each. A pod belongs
to one attempt, so its whole process counts, and its container's cgroup, which knows all its processes.

The functions that read the kernel's files take any bytes, and return None for what they do not understand.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from spoke_jobs.model import AttemptUsage

Meter = Callable[[], AttemptUsage]
"""Returns what the attempt has used until now."""
Read = Callable[[str], bytes]
"""Returns a file's content; empty if it can't be read."""

CGROUPS = "/sys/fs/cgroup"
_DIGITS = 18
"""The most digits of a number that a 64-bit column can hold, whatever they are."""
_LIMIT_BYTES = 65_536
"""How much is read of a file."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """What the kernel knows of a process now."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """The most memory that it had, since the last reset."""
    children_cpu_seconds: float = 0.0
    """Of the child processes that have ended and were waited for."""
    children_peak_bytes: int = 0
    """The most memory that one of them had. It can't be reset."""


NEW_PROCESS = ProcessReading()
"""The reading of a process that has done nothing."""


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """What the kernel knows of a container. None: unknown."""

    peak_bytes: int | None = None
    """The most memory that its processes had, without the page cache, which the kernel can reclaim."""
    cpu_seconds: float | None = None


NO_CGROUP = CgroupReading()


def used(
    before: ProcessReading,
    now: ProcessReading,
    wall_seconds: float,
    *,
    was_reset: bool,
    cgroup: CgroupReading = NO_CGROUP,
) -> AttemptUsage:
    """What an attempt has used.

    :param before: the reading at its start.
    :param was_reset: whether the peak of the process was reset then.
    :param cgroup: the reading of the attempt's own container.
    """
    peak = _peak(before, now, was_reset=was_reset)
    if cgroup.peak_bytes is not None:
        peak = max(peak or 0, cgroup.peak_bytes)
    cpu = now.cpu_seconds - before.cpu_seconds + now.children_cpu_seconds - before.children_cpu_seconds
    return AttemptUsage(peak, _milliseconds(max(cpu, cgroup.cpu_seconds or 0.0)), _milliseconds(wall_seconds))


def _peak(before: ProcessReading, now: ProcessReading, *, was_reset: bool) -> int | None:
    """Return the attempt's peak memory; None if it may belong to an earlier attempt of the process."""
    own = now.peak_bytes if was_reset or now.peak_bytes > before.peak_bytes else None
    if now.children_peak_bytes > before.children_peak_bytes:
        return None if own is None else max(own, now.children_peak_bytes)
    no_children = now.children_cpu_seconds == before.children_cpu_seconds
    return own if own is not None and (no_children or own >= now.children_peak_bytes) else None


def _milliseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)


def number(data: bytes) -> int | None:
    """Read a file that holds one whole number."""
    text = data.strip()
    return int(text) if text.isdigit() and len(text) <= _DIGITS else None


def value_of(data: bytes, name: bytes) -> int | None:
    """Read a number from lines such as ``name 17`` or ``Name: 17 kB``."""
    for line in data.splitlines():
        if not line.lstrip().startswith(name):
            continue
        words = line.split()
        if len(words) > 1 and words[0].removesuffix(b":") == name:
            return number(words[1])
    return None


def seconds_since_start(stat: bytes, since_boot: float, ticks_per_second: int) -> float | None:
    """How long a process has run, from its ``/proc/PID/stat``; None if that can't be true."""
    # The second field is the program's name in parentheses, which may contain anything.
    fields = stat.rpartition(b")")[2].split()
    ticks = number(fields[19]) if len(fields) > 19 else None
    if ticks is None or ticks_per_second <= 0:
        return None
    seconds = since_boot - ticks / ticks_per_second
    return seconds if seconds >= 0 else None


def read_cgroup(read: Read) -> CgroupReading:
    """Read the cgroup of this container, of version 2 or 1.

    Not that of the whole machine: with version 2 it has no peak, and with version 1 it alone has a `release_agent`.
    """
    if (peak := number(read(f"{CGROUPS}/memory.peak"))) is not None:
        microseconds = value_of(read(f"{CGROUPS}/cpu.stat"), b"usage_usec")
        cpu = None if microseconds is None else microseconds / 1e6
        return CgroupReading(_without_cache(peak, read(f"{CGROUPS}/memory.stat"), b""), cpu)
    if read(f"{CGROUPS}/memory/release_agent"):
        return NO_CGROUP
    if (peak := number(read(f"{CGROUPS}/memory/memory.max_usage_in_bytes"))) is not None:
        nanoseconds = number(read(f"{CGROUPS}/cpuacct/cpuacct.usage"))
        cpu = None if nanoseconds is None else nanoseconds / 1e9
        return CgroupReading(_without_cache(peak, read(f"{CGROUPS}/memory/memory.stat"), b"total_"), cpu)
    return NO_CGROUP


def _without_cache(peak: int, stat: bytes, prefix: bytes) -> int:
    cache = sum(value_of(stat, prefix + name) or 0 for name in (b"active_file", b"inactive_file"))
    return max(peak - cache, 0)


def of_shared_process() -> Meter:
    """Begin to measure an attempt whose process others use at the same time: only its wall time."""
    started = time.monotonic()
    return lambda: AttemptUsage(wall_milliseconds=_milliseconds(time.monotonic() - started))


def of_own_process() -> Meter:
    """Begin to measure an attempt that has the process for itself, after earlier ones."""
    was_reset = _reset_peak()
    before, started = read_process(with_peak=not was_reset), time.monotonic()
    return lambda: used(before, read_process(), time.monotonic() - started, was_reset=was_reset)


def of_pod() -> Meter:
    """Begin to measure the attempt of this pod: its whole process, and its container."""
    started = time.monotonic()

    def measure() -> AttemptUsage:
        seconds = _since_start() or time.monotonic() - started
        return used(NEW_PROCESS, read_process(), seconds, was_reset=True, cgroup=read_cgroup(read_file))

    return measure


def read_process(*, with_peak: bool = True) -> ProcessReading:
    """Read what the kernel knows of this process.

    :param with_peak: whether to read its peak memory, which takes longer than the rest.
    """
    import resource  # only where attempts are measured

    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    # On Linux, `ru_maxrss` includes the memory of the process that started this one.
    kibibytes = value_of(read_file("/proc/self/status"), b"VmHWM") if with_peak else 0
    return ProcessReading(
        own.ru_utime + own.ru_stime,
        own.ru_maxrss * unit if kibibytes is None else kibibytes * 1024,
        children.ru_utime + children.ru_stime,
        children.ru_maxrss * unit,
    )


def read_file(path: str) -> bytes:
    """Read the beginning of a file; empty if that fails."""
    # Without a file object, which takes several times as long: each attempt of a worker reads a file.
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        data = b""
        while len(data) < _LIMIT_BYTES and (more := os.read(file, _LIMIT_BYTES - len(data))):
            data += more
    except OSError:
        return b""
    else:
        return data
    finally:
        os.close(file)


def _reset_peak() -> bool:
    """Reset the peak memory of this process (Linux). Return whether that has succeeded."""
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        return os.write(file, b"5") == 1
    except OSError:
        return False
    finally:
        os.close(file)


def _since_start() -> float | None:
    try:
        since_boot, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None
    return seconds_since_start(read_file("/proc/self/stat"), since_boot, ticks)
