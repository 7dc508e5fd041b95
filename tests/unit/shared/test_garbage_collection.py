"""Garbage collection is off while modules are imported, and as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from spoke_jobs.shared import garbage_collection


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_off_meanwhile_and_as_before_afterwards(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    with garbage_collection.paused():
        assert not gc.isenabled()
        with garbage_collection.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_it_is_on_again_after_an_import_that_fails() -> None:
    gc.enable()
    with pytest.raises(ModuleNotFoundError), garbage_collection.paused():
        raise ModuleNotFoundError("kubernetes")
    assert gc.isenabled()
