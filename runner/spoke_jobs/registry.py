"""Declare jobs and tasks: a name, a function, the model of its payload, and options.

``@job`` and ``@task`` put the function into the process's default registry and return it unchanged. ``SPOKE_APP`` names
the module that declares them, so that workers and pods find them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError, InvalidLimit, RegistrationError, UnknownName
from spoke_jobs.job_options import (
    OPTION_NAMES,
    RETENTION_SECONDS,
    JobOptions,
    Labels,
    Resources,
    TaskOptions,
    check_declaration,
)
from spoke_jobs.limits.job_limit import KEEP, NO_BOUNDS, Bounds, Rate, changed_bounds, parse_scope
from spoke_jobs.middleware.hooks import DispatchCall, Middleware
from spoke_jobs.model import declared
from spoke_jobs.payloads import PayloadType
from spoke_jobs.schedules.declared_schedules import ScheduleDeclarations
from spoke_jobs.schedules.timing import Cron, Every
from spoke_jobs.settings import traces_of_environment
from spoke_jobs.shared.import_path import BadImportPath, imported
from spoke_jobs.type_names import SUFFIX, TypeName, closest, plain_name

_TASK = TaskOptions()
Upgrade = Callable[[Any, int], Any]
"""``upgrade(payload, version)``: converts a payload of an older version to the current one. Both are plain JSON."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Definition:
    """A declared job or task."""

    name: str
    function: Callable[..., Any]
    payload: PayloadType
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
    middleware: Sequence[Middleware] = field(default=(), compare=False, repr=False)
    """The registry's middleware."""


def own_name(name: TypeName, definition: Definition) -> str:
    """Return the name that was dispatched: the definition's own name, unless that is a pattern."""
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
        try:
            text = plain_name(name)
        except RegistrationError as error:  # other code wrote it into a row
            raise UnknownName(str(error)) from None
        if (found := closest(text, self._definitions)) is not None:
            return self._definitions[found]
        known = ", ".join(sorted(self._definitions)) or "none"
        raise UnknownName(
            f"no {self._word} is registered as {text!r} (registered: {known}); declare it with @{self._word}, "
            "and import the module that does (SPOKE_APP names it for workers)"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._definitions))

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def __len__(self) -> int:
        return len(self._definitions)


class Registry(ScheduleDeclarations):
    """The jobs and tasks of an application. Most applications use the default registry; tests make their own."""

    def __init__(self) -> None:
        self.jobs = _Kind("job")
        super().__init__(self.jobs.get)
        self.tasks = _Kind("task")
        self.limits: dict[Scope, Bounds] = {}
        self.middleware: list[Middleware] = []
        """What :meth:`add_middleware` has added, in this order."""

    def add_middleware(self, middleware: Middleware) -> None:
        """Call the hooks of an object around dispatches, attempts and tasks. docs/how-to/middleware.md explains them.

        :param middleware: one object for all threads of the process.
        :raises RegistrationError: if it is no object of a subclass of :class:`Middleware`.
        """
        given: object = middleware
        if not isinstance(given, Middleware):
            raise RegistrationError(
                f"add_middleware({middleware!r}): give an object of a class that inherits from spoke_jobs.Middleware"
            )
        self.middleware.append(middleware)

    def limit(
        self, scope: str, *, max_running: int | None = None, rate: Rate | str | None = None, burst: int = 1
    ) -> None:
        """Declare a limit as a default. What people set at run time replaces it until they reset it.

        Workers store the defaults when they start. docs/how-to/limits.md explains scopes and rates.

        :param scope: the jobs that it limits: ``all``, ``type:export``, ``queue:slow``, ``each-organization``, ...
        :param max_running: the most attempts of the scope at a time; with ``each-queue`` and the like, of each.
        :param rate: how many attempts may start: ``5/s``, ``100/min``, ``10/30s``; also of each.
        :param burst: how many may start at once after a quiet time.
        :raises RegistrationError: if the scope is unknown or declared twice, or a value can't be honored.
        """
        try:
            key = parse_scope(scope)
            bounds = changed_bounds(NO_BOUNDS, max_running, rate, KEEP if rate is None and burst == 1 else burst)
        except InvalidLimit as error:
            raise RegistrationError(f"limit({scope!r}): {error}") from None
        if key in self.limits:
            raise RegistrationError(f"limit({scope!r}): the scope has a limit already; declare both bounds in one call")
        if bounds == NO_BOUNDS:
            raise RegistrationError(f"limit({scope!r}) limits nothing: give max_running, rate or both")
        self.limits[key] = bounds

    def job(
        self,
        name: TypeName,
        *,
        payload: PayloadType = None,
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
        lane: str = "pod",
        worker_seconds: float | None = None,
        overflow_seconds: float | None = None,
        pod_template: str = "default",
        resources: Resources | None = None,
        labels: Labels | None = None,
        schedule: Cron | Every | None = None,
    ) -> Callable[[_Function], _Function]:
        """Declare a job: ``function(ctx: JobContext, payload) -> result``, ``def`` or ``async def``.

        A function without the second parameter is a job without a payload.

        ``ingest.*`` declares every name that begins with ``ingest.`` and has no declaration of its own. The options
        are the job's defaults, and a dispatch may give others. :data:`spoke_jobs.job_options.OPTIONS` and
        docs/reference/options.md say what each of them means.

        :param payload: the pydantic model of the payloads; without one they are plain JSON. With ``str``, the text is
            stored as it is, and need not be JSON.
        :param schedule: also dispatch the job at these times, with the payload model's defaults. The schedule has the
            job's name. :meth:`schedule` gives it another name, a payload or options.
        :raises RegistrationError: if the name is taken, or an option or the function can't be used.
        """
        _check_is_a_name(name, "job")
        policy = RetryPolicy() if retry is None else retry
        options = JobOptions(
            retry=policy,
            timeout_seconds=timeout_seconds,
            start_timeout_seconds=start_timeout_seconds,
            retention_seconds=retention_seconds,
            lane=lane,
            worker_seconds=worker_seconds,
            overflow_seconds=overflow_seconds,
            pod_template=pod_template,
            resources=resources,
            labels=labels,
            payload_version=version,
            on_failure=plain_name(on_failure) if on_failure != "" else "",
        )
        columns = {"queue_name": queue_name, "locks_queue": locks_queue, "priority": priority}
        try:
            check_declaration(columns | {option: getattr(options, option) for option in OPTION_NAMES})
        except ValueError as error:
            raise RegistrationError(f"job {plain_name(name)!r}: {error}") from None
        if schedule is not None:
            self.schedule(plain_name(name), name, schedule)
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
        _check_is_a_name(name, "task")
        options = TaskOptions(timeout_seconds, attempts, backoff_seconds, backoff_max_seconds)
        try:
            options.check()
        except ValueError as error:
            raise RegistrationError(f"task {plain_name(name)!r}: {error}") from None
        return self._decorator(self.tasks, name, payload, {"task": options})

    def _decorator(
        self, kind: _Kind, name: TypeName, payload: PayloadType, more: Mapping[str, Any]
    ) -> Callable[[_Function], _Function]:
        candidate: Any = payload
        text_is_stored = candidate is str and "options" in more  # a task's payload travels as JSON
        if candidate is not None and not text_is_stored and not _is_model(candidate):
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
                    middleware=self.middleware,
                    **more,
                )
            )
            return function

        return declare


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _check_is_a_name(name: Any, word: str) -> None:
    """Check the argument of ``@job`` or ``@task``.

    :raises RegistrationError: if it is not a name, for example the function of a decorator without parentheses.
    """
    if callable(name) and not isinstance(name, Enum):
        text = getattr(name, "__name__", "name")
        raise RegistrationError(f'@{word} above {_where(name)} names no {word}: write @{word}("{text}")')
    plain_name(name)


default = Registry()
"""The registry that ``@job``, ``@task``, ``limit``, ``schedule`` and ``add_middleware`` fill."""
job = default.job
limit = default.limit
schedule = default.schedule
task = default.task
add_middleware = default.add_middleware


def load_app(path: str, registry: Registry | None = None) -> Registry:
    """Import what ``SPOKE_APP`` names: ``module``, which fills the default registry, or ``module:registry``.

    :raises ConfigurationError: if it can't be imported, or declares nothing.
    """
    if not path:
        raise ConfigurationError(
            "SPOKE_APP is not set: name the module that declares your jobs, SPOKE_APP=myapp.jobs for example"
        )
    try:
        found = imported("SPOKE_APP", path, "myapp.jobs")
    except BadImportPath as error:
        raise ConfigurationError(str(error)) from None
    module_name, _, attribute = path.partition(":")
    if not attribute:
        found = registry or default
    if not isinstance(found, Registry):
        raise ConfigurationError(f"SPOKE_APP={path}: {attribute!r} in {module_name} isn't a spoke_jobs.Registry")
    if not len(found.jobs) and not len(found.tasks):
        raise ConfigurationError(f"SPOKE_APP={path}: no job or task is declared there")
    found.schedules()  # once all jobs are declared; a wrong schedule ends the process at its start
    add_tracing(found, traces_of_environment())
    declare_check(found)
    return found


def add_tracing(registry: Registry, mode: str) -> None:
    """Add the spans of OpenTelemetry to the middleware of a registry, as SPOKE_TRACES says.

    :raises ConfigurationError: if OpenTelemetry isn't installed, or can't be set up.
    """
    if mode == "none":
        return

    def pattern(call: DispatchCall) -> str:
        try:
            declared = registry.tasks.get(call.task) if call.task else registry.jobs.get(call.jobs[0].job_type)
        except (UnknownName, IndexError):  # the dispatch is refused, or there is none
            return ""
        return declared.name if declared.name.endswith(SUFFIX) else ""

    try:
        from spoke_jobs.tracing import tracing_middleware

        tracing_middleware.add_tracing(registry.middleware, pattern, joined=mode == "joined")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"SPOKE_TRACES={mode} needs the Python package {error.name!r}: pip install 'spoke-jobs[otel]'"
        ) from None
    except LookupError as error:
        raise ConfigurationError(f"SPOKE_TRACES={mode}: {error}") from None


CHECK = "spoke_jobs.check"
"""The type of a job that every application has without declaring it. It does nothing, and serves to test an
installation."""


def declare_check(registry: Registry) -> None:
    """Declare :data:`CHECK` in an application's registry, unless it is declared."""
    if CHECK not in registry.jobs:
        registry.job(CHECK, retention_seconds=3600)(_check)


def _check(ctx: _HasProgress, payload: Any) -> dict[str, Any]:
    """Report progress, and return the payload."""
    ctx.progress(50, "it runs")
    return {"checked": payload}


def with_follower(options: JobOptions, registry: Registry) -> JobOptions:
    """Fill in how the job of ``on_failure`` is declared. The process that records a failure may not know its type.

    :raises UnknownName: if it is not declared.
    """
    if not options.on_failure:
        return options
    follower = registry.jobs.get(options.on_failure)
    declaration = declared(
        follower.options,
        queue_name=follower.queue_name,
        locks_queue=follower.locks_queue and bool(follower.queue_name),
        priority=follower.priority,
    )
    return replace(options, on_failure_as=declaration)


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
    """Return whether ``kind`` is true of the function inside partials, or of an object's ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(type(function).__call__)


def _where(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
