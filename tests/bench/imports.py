"""What importing the library costs on top of what it stands on: paired, interleaved, whole processes.

    python -m tests.bench.imports [RUNS]

Ends with one line `BENCH {...}`: medians in milliseconds, and the median of the paired differences.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.bench.lib.report import last_line

FLOOR = "import sqlalchemy.orm, pydantic_settings"
OURS = f"{FLOOR}; from spoke_jobs import dispatch_job, job"


def process_ms(code: str) -> float:
    """How long a Python process with that code takes, in milliseconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    for code in (FLOOR, OURS):
        process_ms(code)  # the first run compiles
    pairs = [(process_ms(FLOOR), process_ms(OURS)) for _ in range(runs)]
    floor, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    extra = statistics.median(ours - floor for floor, ours in pairs)
    print(f"{'SQLAlchemy ORM and pydantic-settings':40} {floor:7.1f} ms")
    print(f"{'with spoke_jobs':40} {ours:7.1f} ms")
    print(f"{'the difference, paired':40} {extra:7.1f} ms (at most 60)")
    figures = {"floor_ms": floor, "ours_ms": ours, "extra_ms": extra, "runs": runs}
    print(last_line("imports", figures))


if __name__ == "__main__":
    main()
