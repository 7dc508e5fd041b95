"""A fingerprint names the exception's type and its place in the application's code, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.execution.attempt_decisions import LIMIT, describe, fingerprint

HERE = __name__


class OwnError(Exception):
    """An error of the application."""


def load_rows() -> None:
    raise OwnError("row 7 of +15550100 is wrong")


def load_again() -> None:
    raise OwnError("another text")


def parse() -> Any:
    return json.loads("{")


async def aload() -> None:
    await asyncio.sleep(0)
    load_rows()


def chained() -> None:
    try:
        parse()
    except ValueError as error:
        raise OwnError("no JSON") from error


def raised(function: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def test_it_is_the_type_and_the_function_that_raised() -> None:
    assert fingerprint(raised(load_rows)) == f"{HERE}.OwnError@{HERE}.load_rows"
    assert fingerprint(raised(lambda: asyncio.run(aload()))) == f"{HERE}.OwnError@{HERE}.load_rows"
    assert fingerprint(raised(chained)) == f"{HERE}.OwnError@{HERE}.chained"


def test_of_what_a_library_raises_it_is_the_application_s_function_that_called_it() -> None:
    assert fingerprint(raised(parse)) == f"json.decoder.JSONDecodeError@{HERE}.parse"


def test_the_text_makes_no_difference_and_the_place_does() -> None:
    assert fingerprint(raised(load_rows)) == fingerprint(raised(load_rows))
    assert fingerprint(raised(load_rows)) != fingerprint(raised(load_again))
    assert "555" not in fingerprint(raised(load_rows))


def test_a_shell_takes_it_as_it_is() -> None:
    found = fingerprint(raised(lambda: {}["x"]))  # type: ignore[index]
    assert found == f"KeyError@{HERE}.test_a_shell_takes_it_as_it_is.lambda"


def test_it_is_short_and_an_error_without_a_traceback_has_its_type() -> None:
    assert fingerprint(ValueError("x")) == "ValueError"
    assert len(fingerprint(type("Long" * 100, (Exception,), {})())) == LIMIT


def test_every_exception_of_a_job_has_one() -> None:
    found = describe(raised(load_rows), RetryPolicy(), cancelled=False)
    assert found.fingerprint == f"{HERE}.OwnError@{HERE}.load_rows"
