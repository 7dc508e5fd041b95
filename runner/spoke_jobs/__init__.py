"""Background jobs that an application can trust: recorded in SQL, run on a laptop or on Kubernetes by the same code.

Declare functions with :func:`job` and :func:`task`; dispatch with :func:`dispatch_job` and :func:`dispatch_task`;
``JOB_RUNNER`` says who runs them. :mod:`spoke_jobs.api` lists the public names.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spoke_jobs.api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the library at the first access to one of its names.

    Wherever this library is installed, pytest imports the library's plugin at the start of every run. Importing the
    plugin must not load SQLAlchemy or the rest of the library.
    """
    if name == "__all__" or not name.startswith("__"):
        api = _api()
        if name == "__all__":
            return api.__all__
        if name in api.__all__:
            globals().update({known: getattr(api, known) for known in api.__all__})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_api().__all__})


def _api() -> ModuleType:
    return import_module("spoke_jobs.api")  # `from spoke_jobs import api` would call __getattr__ for "api"
