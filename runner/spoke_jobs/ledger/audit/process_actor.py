"""Who changes something, for the events: the name that somebody gives, or that of the process.

Nobody verifies it. It tells colleagues apart, and stops nobody who writes to the database from giving another name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from spoke_jobs.shared.clean_text import storable
from spoke_jobs.shared.token_body import read_token_body

ACTOR_LIMIT = 200
_ACCOUNT = "system:serviceaccount:"
_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def actor_name(given: str | None = None) -> str:
    """Return the name that was given or, without one, that of the process."""
    return storable(given, ACTOR_LIMIT) if given else process_actor()


def process_actor(environment: Mapping[str, str] = os.environ, folder: Path = _FOLDER) -> str:
    """Return the name of the process.

    In a pod, it is its service account and the pod's name: ``system:serviceaccount:shop:web@web-7f9c``. Elsewhere, it
    is the system's user and the host: ``ada@laptop``.
    """
    name = service_account(environment, folder) or _user()
    return storable(f"{name}@{socket.gethostname()}", ACTOR_LIMIT)


def service_account(environment: Mapping[str, str], folder: Path) -> str:
    """Return the service account that the pod's token names, else the one of SPOKE_SERVICE_ACCOUNT; empty without.

    Without a namespace, the latter is only its name: ``worker``. A name with an empty namespace would be none.
    """
    claims = read_token_body(_text(folder / "token").strip()) or {}
    subject = claims.get("sub")
    if isinstance(subject, str) and subject.startswith(_ACCOUNT):
        return subject
    account = environment.get("SPOKE_SERVICE_ACCOUNT", "")
    namespace = _text(folder / "namespace").strip() or environment.get("SPOKE_NAMESPACE", "")
    return f"{_ACCOUNT}{namespace}:{account}" if account and namespace else account


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _user() -> str:
    import getpass  # few processes need it

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have no name
        return f"uid-{os.getuid()}"
