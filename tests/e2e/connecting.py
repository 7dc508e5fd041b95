"""Who can be reached from here? Run in pods, with nothing but Python: in jobs' by name, in others' from standard input.

usage: python - TARGETS EXPECTED [SECONDS], both in JSON: {"name": ["host", port]} and ["name"]
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence

PATIENCE_SECONDS = 1.5


def is_open(host: str, port: int) -> bool:
    """Whether somebody takes a connection there."""
    try:
        socket.create_connection((host, port), PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def reached(targets: Mapping[str, Sequence[object]], expected: Collection[str], seconds: float = 30.0) -> list[str]:
    """The names of those that take connections, as soon as they are the expected ones, or when the time is over.

    The network hears of a new pod a moment after its start.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = sorted(name for name, (host, port) in targets.items() if is_open(str(host), int(str(port))))
        if found == sorted(expected) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


if __name__ == "__main__":
    wanted = json.loads(sys.argv[2])
    answer = reached(json.loads(sys.argv[1]), wanted, *map(float, sys.argv[3:]))
    print(json.dumps(answer))
    sys.exit(0 if answer == sorted(wanted) else f"expected {sorted(wanted)}")
