"""A whole run: its systems, the place where they are measured, and what is shown of them in the end."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.lib.place import Place
from tests.bench.lib.processes import BenchError
from tests.bench.lib.report import PAGE, Section
from tests.bench.lib.services import Postgres, Redis
from tests.bench.lib.settings import Settings
from tests.bench.lib.system import System


def chosen(systems: Sequence[System], settings: Settings) -> list[System]:
    """Those that the run is to measure."""
    return [system for system in systems if not settings.only or system.name.lower().startswith(settings.only)]


@contextmanager
def place_for(
    settings: Settings, database: str, catalogue: Callable[[str], Sequence[System]]
) -> Iterator[tuple[Place, list[System]]]:
    """The place and the systems; all that they leave is removed. Ends the program if the benchmark can't go on.

    :param catalogue: makes the systems, given the URL of the database that they work in.
    """
    postgres, redis = Postgres(settings.postgres), Redis(settings.redis)
    systems = chosen(catalogue(postgres.url(database)), settings)
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="spoke-bench-") as folder:
        place = Place(settings, postgres, redis, Path(folder), database)
        try:
            yield place, systems
        except BenchError as error:
            sys.exit(f"error: {error}")
        finally:
            place.clear(systems)


def show(
    settings: Settings,
    section: Section,
    samples: Sequence[Any],
    text: str,
    table: str,
    draw: Callable[[Path], None],
) -> None:
    """Keep the samples, and if all systems were measured: put text, table and picture into the docs.

    :param samples: dataclasses.
    """
    settings.raw.write_text(json.dumps([asdict(sample) for sample in samples]))
    if settings.only:
        print("some systems only: docs/benchmarks.md stays as it is")
        return
    picture = f"benchmarks/{section.suite}.svg"
    draw(PAGE.parent / picture)
    section.write(f"{text}\n\n{table}\n\n![The same figures as bars]({picture})")
    print(f"written: docs/benchmarks.md, docs/{picture}")


def _memory() -> str | None:
    """A folder in memory, so that marks wait for no disk that they don't need."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
