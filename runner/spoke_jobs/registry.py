"""Declare jobs and tasks: a name, a function, the model of its payload, and options.

``@job`` and ``@task`` put the function into the process's default registry and return it unchanged. ``SPOKE_APP`` names
the module that declares them, so that workers and pods find them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError, RegistrationError, UnknownName
from spoke_jobs.job_options import (
    OPTION_NAMES,
    RETENTION_SECONDS,
    JobOptions,
    Resources,
    TaskOptions,
    check_declaration,
)
from spoke_jobs.type_names import SUFFIX, TypeName, patterns_of, plain_name

_TASK = TaskOptions()
Upgrade = Callable[[Any, int], Any]
"""``upgrade(payload, version)``: converts a payload of an older version to the current one. Both are plain JSON."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Definition:
    """A declared job or task."""

    name: str
    function: Callable[..., Any]
    payload: type[BaseModel] | None
    """None: plain JSON, or no payload at all."""
    is_async: bool
    options: JobOptions = field(default_factory=JobOptions)
    queue_name: str = ""
    locks_queue: bool = False
    priority: int = 0
    upgrade: Upgrade | None = None
    task: TaskOptions = field(default_factory=TaskOptions)
    """A task's options; a job has ``options``."""
    takes_payload: bool = True
    """Whether the declared function has a parameter for the payload. ``function`` itself always takes one."""


def own_name(name: TypeName, definition: Definition) -> str:
    """Return the name that was dispatched. It is the definition's, unless that is a pattern."""
    return plain_name(name) if definition.name.endswith(SUFFIX) else definition.name


class _Kind:
    """The jobs, or the tasks, of a registry."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._definitions: dict[str, Definition] = {}

    def add(self, definition: Definition) -> None:
        earlier = self._definitions.get(definition.name)
        if earlier is not None:
            raise RegistrationError(
                f"{self._word} {definition.name!r} is registered twice: by {_where(earlier.function)} "
                f"and by {_where(definition.function)}; rename one of them"
            )
        self._definitions[definition.name] = definition

    def get(self, name: TypeName) -> Definition:
        """Return the definition of ``name``: its own, or that of the longest pattern (``ingest.*``) that it matches.

        :raises UnknownName: with the registered names.
        """
        if isinstance(name, str) and (exact := self._definitions.get(name)) is not None:
            return exact
        text = plain_name(name)
        try:
            return next(self._definitions[key] for key in (text, *patterns_of(text)) if key in self._definitions)
        except StopIteration:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise UnknownName(
                f"no {self._word} is registered as {text!r} (registered: {known}); declare it with @{self._word}, "
                "and import the module that does (SPOKE_APP names it for workers)"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._definitions))

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def __len__(self) -> int:
        return len(self._definitions)


class Registry:
    """The jobs and tasks of an application. Most use the default registry; tests make their own."""

    def __init__(self) -> None:
        self.jobs = _Kind("job")
        self.tasks = _Kind("task")

    def job(
        self,
        name: TypeName,
        *,
        payload: type[BaseModel] | None = None,
        queue_name: str = "",
        locks_queue: bool = False,
        priority: int = 0,
        timeout_seconds: float | None = None,
        start_timeout_seconds: float | None = None,
        retention_seconds: float = RETENTION_SECONDS,
        retry: RetryPolicy | None = None,
        on_failure: TypeName = "",
        version: int = 1,
        upgrade: Upgrade | None = None,
        pod_template: str = "default",
        resources: Resources | None = None,
    ) -> Callable[[_Function], _Function]:
        """Declare a job: ``function(ctx: JobContext, payload) -> result``, ``def`` or ``async def``.

        A function without the second parameter is a job without a payload.

        ``ingest.*`` declares every name that begins with ``ingest.`` and has no declaration of its own. The options
        are the job's defaults, and a dispatch may give others. :data:`spoke_jobs.job_options.OPTIONS` and
        docs/reference/options.md say what each of them means.

        :param payload: the pydantic model of the payloads; without one they are plain JSON.
        :raises RegistrationError: if the name is taken, or an option or the function can't be used.
        """
        policy = RetryPolicy() if retry is None else retry
        options = JobOptions(
            retry=policy,
            timeout_seconds=timeout_seconds,
            start_timeout_seconds=start_timeout_seconds,
            retention_seconds=retention_seconds,
            pod_template=pod_template,
            resources=resources,
            payload_version=version,
            on_failure=plain_name(on_failure) if on_failure != "" else "",
        )
        columns = {"queue_name": queue_name, "locks_queue": locks_queue, "priority": priority}
        try:
            check_declaration(columns | {option: getattr(options, option) for option in OPTION_NAMES})
        except ValueError as error:
            raise RegistrationError(f"job {plain_name(name)!r}: {error}") from None
        return self._decorator(self.jobs, name, payload, {"options": options, "upgrade": upgrade, **columns})

    def task(
        self,
        name: TypeName,
        *,
        payload: type[BaseModel] | None = None,
        timeout_seconds: float = _TASK.timeout_seconds,
        attempts: int = _TASK.attempts,
        backoff_seconds: float = _TASK.backoff_seconds,
        backoff_max_seconds: float = _TASK.backoff_max_seconds,
    ) -> Callable[[_Function], _Function]:
        """Declare a task: ``function(ctx: TaskContext, payload) -> None``, ``def`` or ``async def``.

        A function without the second parameter is a task without a payload.

        The task deployment (``kubernetes``) honors the options. Under other runners a task runs once.

        :param payload: the pydantic model of the payloads; without one they are plain JSON.
        :param timeout_seconds: how long one run may take, at most an hour. Longer work is a job.
        :param attempts: how many failed runs end the task. A run that exceeds its timeout has failed.
        :param backoff_seconds: the wait before the second run; it doubles with each run, up to ``backoff_max_seconds``.
        """
        options = TaskOptions(timeout_seconds, attempts, backoff_seconds, backoff_max_seconds)
        try:
            options.check()
        except ValueError as error:
            raise RegistrationError(f"task {plain_name(name)!r}: {error}") from None
        return self._decorator(self.tasks, name, payload, {"task": options})

    @staticmethod
    def _decorator(
        kind: _Kind, name: TypeName, payload: type[BaseModel] | None, more: Mapping[str, Any]
    ) -> Callable[[_Function], _Function]:
        candidate: Any = payload
        if candidate is not None and not (isinstance(candidate, type) and issubclass(candidate, BaseModel)):
            raise RegistrationError(f"payload={payload!r} of {plain_name(name)!r} isn't a pydantic model class")

        def declare(function: _Function) -> _Function:
            text = plain_name(name)
            takes_payload = _takes_payload(text, function)
            if payload is not None and not takes_payload:
                raise RegistrationError(
                    f"{_where(function)} can't be run as {text!r}: it takes no payload, and payload={payload.__name__} "
                    "is declared; give it a second parameter, or leave payload out"
                )
            kind.add(
                Definition(
                    text,
                    function if takes_payload else _without_payload(function),
                    payload,
                    _is(inspect.iscoroutinefunction, function),
                    takes_payload=takes_payload,
                    **more,
                )
            )
            return function

        return declare


default = Registry()
"""The registry that ``@job`` and ``@task`` fill."""
job = default.job
task = default.task


def load_app(path: str, registry: Registry | None = None) -> Registry:
    """Import what ``SPOKE_APP`` names: ``module``, which fills the default registry, or ``module:registry``.

    :raises ConfigurationError: if it can't be imported, or declares nothing.
    """
    if not path:
        raise ConfigurationError(
            "SPOKE_APP is not set: name the module that declares your jobs, SPOKE_APP=myapp.jobs for example"
        )
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        raise ConfigurationError(f"SPOKE_APP={path}: a path begins with a module, myapp.jobs for example")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise  # the module is there; something that it imports is not
        raise ConfigurationError(
            f"SPOKE_APP={path}: there is no module {error.name!r} on the Python path; correct the name, or install it"
        ) from None
    found = getattr(module, attribute, None) if attribute else (registry or default)
    if not isinstance(found, Registry):
        raise ConfigurationError(f"SPOKE_APP={path}: {attribute!r} in {module_name} isn't a spoke_jobs.Registry")
    if not len(found.jobs) and not len(found.tasks):
        raise ConfigurationError(f"SPOKE_APP={path}: no job or task is declared there")
    declare_check(found)
    return found


CHECK = "spoke_jobs.check"
"""The type of a job that every application has without declaring it. It does nothing, and serves to test an
installation."""


def declare_check(registry: Registry) -> None:
    """Declare :data:`CHECK` in an application's registry, unless it is declared."""
    if CHECK not in registry.jobs:
        registry.job(CHECK, retention_seconds=3600)(_check)


def _check(ctx: _HasProgress, payload: Any) -> dict[str, Any]:
    """Report that it runs, and return the payload."""
    ctx.progress(50, "it runs")
    return {"checked": payload}


class _HasProgress(Protocol):
    def progress(self, percent: int, message: str = "") -> None: ...


def _takes_payload(name: str, function: Callable[..., Any]) -> bool:
    """Return whether the function is called with (ctx, payload), rather than with (ctx) alone.

    :raises RegistrationError: if it can be called with neither.
    """
    if not (takes_payload := _accepts(function, 2)) and not _accepts(function, 1):
        raise RegistrationError(
            f"{_where(function)} can't be run as {name!r}: it must take the positional arguments (ctx, payload), "
            "or (ctx) alone"
        )
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise RegistrationError(
            f"{_where(function)} can't be run as {name!r}: it yields, so that calling it runs nothing; return instead"
        )
    return takes_payload


def _accepts(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[object()] * count)
    except TypeError:
        return False
    return True


def _without_payload(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(ctx: Any, _payload: Any) -> Any:
        return function(ctx)

    return called


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Return whether ``kind`` is true of the function that is finally called: a partial's, or ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(type(function).__call__)


def _where(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
