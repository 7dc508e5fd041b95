"""Choosing the runner: exactly one, fully configured, or a refusal that names everything that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr

from spoke_jobs import loader
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.job_options import ALL_CAPABILITIES, Capability
from spoke_jobs.loader import load_runner
from spoke_jobs.registry import Registry
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.runners.runner import REQUIRED, Runner
from spoke_jobs.settings import Settings, load_settings
from spoke_jobs.shared.secret_file import value_of


class OwnRunner(Runner):
    """A runner of an application's own."""

    ready = True

    def fully_configured(self) -> bool:
        return self.ready

    def dispatch_job(self, job_data: Any, *, session: Any = None) -> Any:
        return f"{job_data} {session}"

    def dispatch_task(self, name: Any, payload: Any = None, *, session: Any = None) -> None: ...


class Duck:
    """One that has the functions, and not the base class."""

    closed = False

    fully_configured = OwnRunner.fully_configured
    dispatch_job = OwnRunner.dispatch_job
    dispatch_task = OwnRunner.dispatch_task
    ready = True

    def close(self) -> None:
        self.closed = True


class Unready(OwnRunner):
    ready = False


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load(name: str | None = None, **environment: str) -> Any:
        for key, value in ({"JOB_RUNNER": name} if name is not None else {}).items():
            monkeypatch.setenv(key, value)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        return load_runner(registry=Registry())

    return load


@pytest.mark.parametrize(
    ("name", "runner"), [(None, LegacyRunner), ("", LegacyRunner), ("legacy", LegacyRunner), ("memory", MemoryRunner)]
)
def test_built_in_runners_go_by_name_and_legacy_is_the_default(
    chosen: Any, name: str | None, runner: type[Runner]
) -> None:
    assert isinstance(chosen(name, SPOKE_DATABASE_URL="sqlite:///x.sqlite3"), runner)


def test_a_half_configured_runner_is_refused_naming_what_is_missing(chosen: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'legacy' is not fully configured; set SPOKE_DATABASE_URL"):
        chosen("legacy")


LAZY = """
from spoke_jobs import ConfigurationError, JobData, dispatch_job, job
@job("report")
def report(ctx, payload): ...
try:
    dispatch_job(JobData("report"))
except ConfigurationError as error:
    print(error)
"""


def test_a_wrong_runner_is_told_at_the_first_dispatch_and_not_at_the_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY],
        env=os.environ | {"JOB_RUNNER": "legcay"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("JOB_RUNNER='legcay': there is no such runner")


@pytest.mark.parametrize("name", ["legcay", "redis"])
def test_an_unknown_runner_is_answered_with_those_that_are(chosen: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"'{name}': there is no such runner; name one of kubernetes, legacy"):
        chosen(name)


@pytest.mark.parametrize("name", ["legacy,kubernetes", "legacy kubernetes"])
def test_two_runners_are_refused(chosen: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="exactly one"):
        chosen(name)


class TestDottedPaths:
    def test_a_class_is_made_and_an_object_taken(self, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("own_runners")
        module.Own, module.made = OwnRunner, OwnRunner()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "own_runners", module)
        assert isinstance(chosen("own_runners:Own"), OwnRunner)
        assert chosen("own_runners:made") is module.made

    async def test_an_object_without_the_base_class_has_the_defaults(
        self, chosen: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = ModuleType("own_runners")
        module.made = Duck()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "own_runners", module)
        runner = chosen("own_runners:made")
        assert runner.dispatch_jobs(["a", "b"], session=1) == ["a 1", "b 1"]
        assert await runner.adispatch_job("a") == "a None"
        runner.start()
        runner.close()
        assert module.made.closed
        with pytest.raises(ConfigurationError, match=r"the runner Duck can't read jobs: give it a function get_job\("):
            runner.get_job(1)

    def test_a_plain_module_will_do(self, chosen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "own"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "runner.py").write_text(
            "def fully_configured(): return True\n"
            "def dispatch_job(job_data, *, session=None): return 'job'\n"
            "def dispatch_task(name, payload=None, *, session=None): return None\n"
            "def get_job(job_id, *, session=None): return job_id\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        assert chosen("own.runner").dispatch_job(None) == "job"
        assert chosen("own.runner").get_job(5) == 5
        assert chosen("own.runner").capabilities == ALL_CAPABILITIES

    @pytest.mark.parametrize(
        ("own", "known"),
        [
            (["priority"], True),
            (lambda: {"priority"}, True),
            ((Capability.PRIORITY,), True),
            ("everything", False),
            (5, False),
            ([None], False),
        ],
    )
    def test_a_plain_module_s_own_capabilities_are_kept_if_they_are_known(
        self, chosen: Any, monkeypatch: pytest.MonkeyPatch, own: Any, known: bool
    ) -> None:
        module = ModuleType("own.runners")
        monkeypatch.setitem(sys.modules, "own.runners", module)
        vars(module).update({name: getattr(OwnRunner(), name) for name in REQUIRED})
        module.capabilities = own  # type: ignore[attr-defined]
        if known:
            assert chosen("own.runners").capabilities == {Capability.PRIORITY}
        else:
            with pytest.raises(ConfigurationError, match="JOB_RUNNER=own.runners: its capabilities must be"):
                chosen("own.runners")

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("no.such.module", "there is no module 'no'"),
            (".foo", "JOB_RUNNER=.foo: a path begins with a module"),
            (":foo", "JOB_RUNNER=:foo: a path begins with a module"),
            ("json:nothing", "json has no 'nothing'"),
            ("json:loads", "isn't a runner: it lacks fully_configured, dispatch_job, dispatch_task"),
        ],
    )
    def test_what_is_no_runner_is_refused(self, chosen: Any, path: str, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            chosen(path)

    def test_a_runner_that_says_no_is_refused(self, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("own_runners")
        module.Unready = Unready  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "own_runners", module)
        with pytest.raises(ConfigurationError, match="says that it is not fully configured"):
            chosen("own_runners:Unready")


class TestEntryPoints:
    def install(self, monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
        made = EntryPoints(EntryPoint(name, value, loader.ENTRY_POINTS) for name, value in points)
        monkeypatch.setattr(loader, "entry_points", lambda **wanted: made.select(**wanted))

    def test_a_package_s_runner_goes_by_its_name(self, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(monkeypatch, ("own", f"{__name__}:OwnRunner"))
        monkeypatch.setitem(sys.modules, __name__, sys.modules[OwnRunner.__module__])
        assert isinstance(chosen("own"), OwnRunner)

    def test_one_name_for_two_runners_is_refused(self, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(monkeypatch, ("own", "a:A"), ("own", "b:B"), ("legacy", "c:C"))
        for name in ("own", "legacy"):
            with pytest.raises(ConfigurationError, match="names more than one runner"):
                chosen(name, SPOKE_DATABASE_URL="sqlite:///x.sqlite3")


def test_settings_that_cannot_be_used_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_SYNC", "perhaps")
    monkeypatch.setenv("SPOKE_SUBMIT", "nobody")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "JOBS_SYNC" in str(caught.value)
    assert "SPOKE_SUBMIT" in str(caught.value)


class TestSecretsInFiles:
    """`SPOKE_DATABASE_URL_FILE` and `SPOKE_TASKS_KEY_FILE`."""

    def test_the_file_s_content_counts_as_the_setting(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("SPOKE_DATABASE_URL", "SPOKE_TASKS_KEY"):
            (tmp_path / name).write_text(f"the {name}\n")
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
        settings = load_settings()
        assert settings.database_url.get_secret_value() == value_of(settings.database) == "the SPOKE_DATABASE_URL"
        assert settings.tasks_key.get_secret_value() == value_of(settings.shared_key) == "the SPOKE_TASKS_KEY"
        (tmp_path / "SPOKE_TASKS_KEY").write_text("another")
        assert value_of(settings.shared_key) == "another"
        assert "the SPOKE" not in repr(settings)

    def test_every_secret_may_be_in_a_file(self) -> None:
        secrets = [field for field in Settings.model_fields.values() if field.annotation is SecretStr]
        files = {field.validation_alias for field in Settings.model_fields.values()}
        assert [field.validation_alias for field in secrets if f"{field.validation_alias}_FILE" not in files] == []

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, r"SPOKE_DATABASE_URL_FILE=.*/url can't be used \(No such file or directory\): name a file"),
            ("", r"can't be used \(it is empty\): name a file that contains SPOKE_DATABASE_URL"),
        ],
    )
    def test_an_unusable_file_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, said: str
    ) -> None:
        if content is not None:
            (tmp_path / "url").write_text(content)
        monkeypatch.setenv("SPOKE_DATABASE_URL_FILE", str(tmp_path / "url"))
        with pytest.raises(ConfigurationError, match=said):
            load_settings()

    def test_two_sources_are_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("sqlite:///x")
        monkeypatch.setenv("SPOKE_DATABASE_URL_FILE", str(tmp_path / "url"))
        monkeypatch.setenv("SPOKE_DATABASE_URL", "sqlite:///y")
        with pytest.raises(ConfigurationError, match="both SPOKE_DATABASE_URL and SPOKE_DATABASE_URL_FILE are set"):
            load_settings()
