"""Run something in forked processes, a few at a time."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.breaks import notes


@dataclass(frozen=True, slots=True)
class Task:
    """What a process does. It takes notes."""

    name: str
    action: Callable[[], None]


def forked(tasks: Iterable[Task], processes: int, folder: Path) -> Iterator[tuple[Task, notes.Run]]:
    """Run each task in a process of its own. Yield each one that has ended, with its notes.

    :param folder: for the notes, and for the temporary files of the processes.
    :raises RuntimeError: if a task has raised an error.
    """
    left, running, number = iter(tasks), dict[int, tuple[Task, Path]](), 0
    while True:
        while len(running) < processes and (task := next(left, None)) is not None:
            place = folder / str(number)
            place.mkdir()
            (place / "notes").touch()
            running[_fork(task, place)] = (task, place)
            number += 1
        if not running:
            return
        pid, _ = os.wait()
        task, place = running.pop(pid)
        run = notes.read((place / "notes").read_text().splitlines())
        if run.errors:
            raise RuntimeError(run.errors[0])
        yield task, run


def _fork(task: Task, place: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        output = os.open(place / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ |= {notes.FILE: str(place / "notes"), "PYTEST_DEBUG_TEMPROOT": str(place)}
        task.action()
    except BaseException:
        traceback.print_exc()
        notes.note(**{"is": "error", "test": f"{task.name}: {traceback.format_exc()}"})
    finally:
        os._exit(0)
