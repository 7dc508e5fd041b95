from __future__ import annotations

import logging

from spoke_jobs_operator.shell.process.operator_logs import Repeats


def test_a_request_that_kopf_tries_for_ever_is_told_of_once_in_a_while() -> None:
    clock = [0.0]
    repeats = Repeats(every_seconds=600, clock=lambda: clock[0])

    def passes(attempt: int, path: str, name: str = "kopf._cogs.clients.api") -> bool:
        text = f"Request attempt #{attempt} failed; will retry: GET https://k/{path} -> APIForbiddenError()"
        return repeats.filter(logging.getLogger(name).makeRecord(name, logging.ERROR, "f", 1, text, (), None))

    assert passes(1, "a?watch=true&resourceVersion=1")
    assert not passes(2, "a?watch=true&resourceVersion=2")
    assert passes(1, "b")
    assert passes(2, "b", name="spoke_jobs_operator")
    clock[0] = 601
    assert passes(99, "a")
