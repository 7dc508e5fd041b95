"""The routines of a loop fail alone."""

from __future__ import annotations

import logging

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.contained_routines import ContainedRoutines


class Routine:
    """Raise the errors it is given, one at each call."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_routine_that_fails_is_repeated_ever_later_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    counted: list[int] = []
    routines = ContainedRoutines(logging.getLogger("loop"), (), lambda: counted.append(1), lambda: now[0])
    routine = Routine(*(ValueError("row 7") for _ in range(8)), KeyError("row 8"))
    waits: list[float] = []
    with caplog.at_level(logging.INFO):
        while routine.errors:
            assert routines.call("prunes", routine, "not done") == "not done"
            calls = routine.calls
            assert routines.call("prunes", routine, "not done") == "not done"
            assert routine.calls == calls, "it waits"
            assert routines.call("claims", lambda: "done", "not done") == "done", "the others do not"
            assert routines.failing
            waits.append(routines.due_in("prunes"))
            now[0] += waits[-1]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    assert routines.call("prunes", routine, "not done") == "done"
    assert (routines.failing, routines.due_in("prunes"), len(counted)) == (False, 0.0, 9)
    kinds = [(record.levelname, record.exc_info[0]) for record in caplog.records if record.exc_info]
    assert kinds == [("ERROR", ValueError), ("ERROR", KeyError)], "each kind once, with its traceback"
    now[0] += 600
    routine.errors.append(ValueError("row 7"))
    routines.call("prunes", routine, "not done")
    assert len(caplog.records) == 3, "it is not forgotten"


@pytest.mark.parametrize("error", [ConfigurationError(), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_what_must_end_the_loop_ends_it(error: BaseException) -> None:
    routines = ContainedRoutines(logging.getLogger("loop"), (ConfigurationError,))
    with pytest.raises(type(error)):
        routines.call("prunes", Routine(error), "")
    assert not routines.failing
