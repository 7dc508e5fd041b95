"""Garbage collection: off at the start and the end of a process, and where it must not come in between.

While modules are imported, it takes a fifth of the time that a short process needs, and frees nothing, because modules
stay in memory. At the exit, it takes as long again, for memory that the system frees anyway.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


def pause() -> None:
    """Turn garbage collection off until :func:`resume`. Call it before the imports of a program."""
    gc.disable()
    atexit.register(gc.freeze)  # the interpreter's last collection then has nothing to look at


def resume() -> None:
    """Turn garbage collection on again after :func:`pause`, without what was imported. Otherwise do nothing."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextmanager
def paused() -> Iterator[None]:
    """Turn garbage collection off meanwhile, for imports of a program that runs already, for example."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
