"""Declaring jobs and tasks: names are kept, and what can't work is refused where it is declared."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from enum import Enum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError, RegistrationError, UnknownName
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.type_names import plain_name


class Names(StrEnum):
    EXPORT = "export"


class OldNames(Enum):
    TAG = "action_handler:tag_update"


class Payload(BaseModel):
    n: int


def works(_ctx: Any, _payload: Any) -> str:
    return "called"


async def works_too(_ctx: Any, _payload: Any) -> None: ...


class AsyncObject:
    async def __call__(self, _ctx: Any, _payload: Any) -> None: ...

    async def method(self, _ctx: Any, _payload: Any) -> None: ...


class YieldingObject:
    def __call__(self, _ctx: Any, _payload: Any) -> Iterator[None]:
        yield


def yields(_ctx: Any, _payload: Any) -> Iterator[None]:
    yield


async def yields_too(_ctx: Any, _payload: Any) -> AsyncIterator[None]:
    yield


def test_a_decorated_function_is_still_that_function() -> None:
    registry = Registry()
    assert registry.job(Names.EXPORT)(works) is works
    assert works(None, None) == "called"


def test_enum_members_and_their_strings_are_one_name() -> None:
    registry = Registry()
    registry.job(Names.EXPORT, payload=Payload)(works)
    registry.task(OldNames.TAG)(works_too)
    assert registry.jobs.get("export") is registry.jobs.get(Names.EXPORT)
    assert registry.jobs.get("export").payload is Payload
    assert not registry.jobs.get("export").is_async
    assert registry.tasks.get("action_handler:tag_update").is_async


def test_jobs_and_tasks_are_kept_apart() -> None:
    registry = Registry()
    registry.job("send")(works)
    registry.task("send")(works)
    assert (list(registry.jobs), list(registry.tasks)) == (["send"], ["send"])


def test_a_name_is_registered_once() -> None:
    registry = Registry()
    registry.job("export")(works)
    with pytest.raises(RegistrationError, match=r"'export' is registered twice: by .*works and by .*works_too"):
        registry.job(Names.EXPORT)(works_too)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\x00b", "half \ud800", 5, None, Enum("Odd", {"N": 5}).N])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(RegistrationError, match="can't name a job"):
        Registry().job(name)(works)


@pytest.mark.parametrize("name", ["", " ", "ingest." + "x" * 200, "ingest.\x00", "ingest.\ud800"])
def test_a_name_that_other_code_wrote_and_no_job_can_have_is_unknown(name: str) -> None:
    registry = Registry()
    registry.job("ingest.*")(lambda ctx: None)
    with pytest.raises(UnknownName, match="can't name a job"):
        registry.jobs.get(name)


@pytest.mark.parametrize("word", ["job", "task"])
def test_a_decorator_without_its_name_is_refused_where_it_is_written(word: str) -> None:
    expected = re.escape(f'@{word} above {__name__}.works names no {word}: write @{word}("works")')
    with pytest.raises(RegistrationError, match=expected):
        getattr(Registry(), word)(works)


def test_a_function_that_could_not_be_called_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"the positional arguments \(ctx, payload\), or \(ctx\) alone"):
        Registry().job("export")(lambda: None)


def test_a_function_without_a_payload_is_called_with_its_context_alone() -> None:
    registry = Registry()
    assert registry.job("export")(alone) is alone
    definition = registry.jobs.get("export")
    assert (definition.takes_payload, definition.function("ctx", None)) == (False, "ctx")
    registry.job("default")(lambda ctx, payload=None: payload)
    assert registry.jobs.get("default").takes_payload


def test_a_model_for_a_function_without_a_payload_is_refused() -> None:
    with pytest.raises(
        RegistrationError, match=r"alone can't be run as 'export': it takes no payload, and payload=Mod"
    ):
        Registry().job("export", payload=Model)(alone)


def alone(ctx: Any) -> Any:
    return ctx


class Model(BaseModel):
    """A payload's."""


@pytest.mark.parametrize(
    "function",
    [
        works_too,
        AsyncObject(),
        AsyncObject().method,
        partial(works_too),
        partial(AsyncObject()),
        partial(partial(AsyncObject().method)),
    ],
)
def test_whatever_is_async_in_the_end_is_known_as_such(function: Any) -> None:
    registry = Registry()
    registry.job("export")(function)
    assert registry.jobs.get("export").is_async


@pytest.mark.parametrize("function", [yields, yields_too, partial(yields), YieldingObject(), partial(YieldingObject())])
def test_what_would_run_nothing_when_it_is_called_is_refused(function: Any) -> None:
    with pytest.raises(RegistrationError, match="can't be run as 'export': it yields"):
        Registry().job("export")(function)
    with pytest.raises(RegistrationError, match="it yields"):
        Registry().task("export")(function)


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        (0, r"job 'export': retry is 0, where a spoke_jobs.RetryPolicy is expected"),
        ({}, r"job 'export': retry is \{\}, where"),
        (RetryPolicy(budget={"eror": 1}), "'export': retry: budget has 'eror'.*error, oom"),  # type: ignore[dict-item]
        (RetryPolicy(budget={CauseClass.OOM: 0}), "budget allows 0 of oom"),
        (RetryPolicy(budget={CauseClass.OOM: True}), "budget allows True of oom"),
        (RetryPolicy(budget=3), "budget is 3"),  # type: ignore[arg-type]
        (RetryPolicy(backoff_seconds=float("nan")), "backoff_seconds is nan"),
        (RetryPolicy(backoff_seconds=-1), "backoff_seconds is -1"),
        (RetryPolicy(backoff_max_seconds="9"), "backoff_max_seconds is '9'"),  # type: ignore[arg-type]
    ],
)
def test_a_retry_policy_that_says_nothing_is_refused(retry: Any, words: str) -> None:
    with pytest.raises(RegistrationError, match=words):
        Registry().job("export", retry=retry)


def test_a_retry_policy_that_says_something_is_kept() -> None:
    registry = Registry()
    policy = RetryPolicy(budget={CauseClass.ERROR: 1}, backoff_seconds=0, backoff_max_seconds=60)
    registry.job("export", retry=policy)(works)
    assert registry.jobs.get("export").options.retry is policy


def test_a_payload_that_is_no_model_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"dict.* of 'export' isn't a pydantic model"):
        Registry().job("export", payload=dict)(works)  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_those_that_are() -> None:
    registry = Registry()
    registry.job("export")(works)
    with pytest.raises(UnknownName, match=r"no job is registered as 'exprot' \(registered: export\).*SPOKE_APP"):
        registry.jobs.get("exprot")


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.strip() and "\x00" not in text))
def test_any_other_text_is_a_name(name: str) -> None:
    assert plain_name(name) == name


class TestLoadApp:
    def test_unset(self) -> None:
        with pytest.raises(ConfigurationError, match="SPOKE_APP is not set"):
            load_app("")

    @pytest.mark.parametrize("path", [":x", ".x", ".", ":"])
    def test_a_path_without_a_module(self, path: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"SPOKE_APP={re.escape(path)}: a path begins with a module"):
            load_app(path)

    def test_a_module_that_is_not_there_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"SPOKE_APP=no_such_app.jobs: there is no module 'no_such_app'"):
            load_app("no_such_app.jobs")

    def test_a_module_that_cannot_import_something_says_that_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "app_that_breaks.py").write_text("import not_installed_anywhere")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
            load_app("app_that_breaks")

    def test_a_module_that_declares_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="no job or task is declared"):
            load_app("json", Registry())

    def test_every_application_can_be_tried(self) -> None:
        registry = load_app("tests.contract.app:registry")
        assert "spoke_jobs.check" in registry.jobs
        assert load_app("tests.contract.app:registry") is registry

    def test_a_registry_of_its_own(self) -> None:
        assert "record" in load_app("tests.contract.app:registry").jobs
        with pytest.raises(ConfigurationError, match="'Line' in tests.contract.app isn't a spoke_jobs.Registry"):
            load_app("tests.contract.app:Line")
        with pytest.raises(ConfigurationError, match="SPOKE_APP=json:nothing: json has no 'nothing'"):
            load_app("json:nothing")
