"""Load the runner that ``JOB_RUNNER`` names, or refuse to start."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoints, entry_points
from typing import Any

import spoke_jobs.registry as registry_module
from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.errors import ConfigurationError, MissingSettings
from spoke_jobs.registry import Registry, add_tracing
from spoke_jobs.runners.runner import Runner, adapted
from spoke_jobs.settings import Settings, load_settings
from spoke_jobs.shared.import_path import BadImportPath, imported

BUILT_IN = {
    "legacy": ("spoke_jobs.runners.legacy_runner", "LegacyRunner"),
    "memory": ("spoke_jobs.runners.memory_runner", "MemoryRunner"),
    CLUSTER_RUNNER: ("spoke_jobs.runners.kubernetes_runner", "KubernetesRunner"),
}
"""Module and class by name. A runner's module is imported only if the runner is chosen."""
ENTRY_POINTS = "spoke_jobs.runners"


def check_runner(settings: Settings) -> None:
    """Check that ``JOB_RUNNER`` names a runner, without the imports that a pod would pay for.

    :raises ConfigurationError: if there is no such runner, or more than one.
    """
    if (name := settings.job_runner.strip()) not in BUILT_IN:
        _check_name(name)


def _check_name(name: str) -> EntryPoints:
    """Return the entry points of that name.

    :raises ConfigurationError: see :func:`check_runner`.
    """
    if "," in name or " " in name:
        raise ConfigurationError(f"JOB_RUNNER={name!r}: name exactly one runner")
    registered = entry_points(group=ENTRY_POINTS, name=name)
    if len(registered) + (name in BUILT_IN) > 1:
        raise ConfigurationError(
            f"JOB_RUNNER={name!r} names more than one runner: uninstall or rename the packages' entry points "
            f"({', '.join(point.value for point in registered)})"
        )
    if name not in BUILT_IN and not registered and not {".", ":"} & set(name):
        known = ", ".join(sorted({*BUILT_IN, *entry_points(group=ENTRY_POINTS).names}))
        raise ConfigurationError(
            f"JOB_RUNNER={name!r}: there is no such runner; name one of {known}, or a dotted path to your own"
        )
    return registered


def load_runner(settings: Settings | None = None, registry: Registry | None = None) -> Runner:
    """Load the runner that ``JOB_RUNNER`` names: a built-in one, an entry point, or a dotted path.

    :raises ConfigurationError: if there is no such runner, or more than one.
    :raises MissingSettings: naming every setting that the runner lacks.
    """
    settings = settings or load_settings()
    registry = registry or registry_module.default
    name = settings.job_runner.strip()
    registered = _check_name(name)
    add_tracing(registry, settings.traces)
    if name in BUILT_IN:
        runner = _built_in(name, settings, registry)
    elif registered:
        (point,) = registered
        runner = _as_runner(point.load(), f"the entry point {name!r} ({point.value})")
    else:
        runner = _as_runner(_own(name), f"JOB_RUNNER={name}")
    _refuse_if_half_configured(runner, name)
    return runner


def _built_in(name: str, settings: Settings, registry: Registry) -> Runner:
    module_name, class_name = BUILT_IN[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"JOB_RUNNER={name} needs the Python package {error.name!r}: pip install 'spoke-jobs[{name}]'"
        ) from None
    runner: Runner = getattr(module, class_name)(settings, registry)
    return runner


def _own(path: str) -> Any:
    try:
        return imported("JOB_RUNNER", path, "myapp.runners:Own")
    except BadImportPath as error:
        raise ConfigurationError(str(error)) from None


def _as_runner(found: Any, where: str) -> Runner:
    return adapted(found() if isinstance(found, type) else found, where)


def _refuse_if_half_configured(runner: Runner, name: str) -> None:
    if missing := runner.missing_settings():
        raise MissingSettings(f"the runner {name!r} is not fully configured; set {'; '.join(missing)}")
    if not runner.fully_configured():
        raise ConfigurationError(f"the runner {name!r} says that it is not fully configured: see its documentation")
