"""The operator, with something done to it. Tests run it as a script, told by ``FAILPOINT`` what:

- ``die-before``, ``die-after``: the process ends right before its first write, or right after that was answered;
- ``freeze KIND=NAME ...``: once a write of each kind to do with the SpokeJob of that name is about to be sent, guards
  passed, the process stops as by SIGSTOP. When it goes on, those writes are what was in flight: they are sent before
  anything else in it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs_operator.__main__ import main
from spoke_jobs_operator.shell.api.operator_client import Client

KINDS = {
    ("POST", "jobs"): "job_create",
    ("DELETE", "jobs"): "job_delete",
    ("PATCH", "status"): "status",
    ("DELETE", "spokejobs"): "spokejob_delete",
}
send = Client._send
logger = logging.getLogger("spoke_jobs_operator.failpoint")


def kind_of(method: str, path: str) -> str:
    """The kind of write; empty for reads, and for writes that tell nothing of a SpokeJob."""
    parts = path.split("/")
    return next((KINDS[method, part] for part in parts[-2:] if (method, part) in KINDS), "")


def die(*, before: bool) -> None:
    async def dying(self: Client, method: str, path: str, **rest: Any) -> dict[str, Any]:
        if not kind_of(method, path):
            return await send(self, method, path, **rest)
        if not before:
            try:
                await send(self, method, path, **rest)
            except ApiError as error:  # it was refused, so it was no write
                if error.status == 409:
                    raise
        os._exit(9)

    Client._send = dying  # type: ignore[method-assign]


def freeze(wanted: dict[str, str]) -> None:
    held: dict[str, asyncio.Future[Any]] = {}

    async def freezing(self: Client, method: str, path: str, **rest: Any) -> dict[str, Any]:
        kind = kind_of(method, path)
        subject = path + str((rest.get("body") or {}).get("metadata", {}).get("name", ""))
        if kind not in wanted or kind in held or wanted[kind] not in subject:
            return await send(self, method, path, **rest)
        held[kind] = asyncio.get_running_loop().create_future()
        waiting.append((kind, method, path, rest))
        if len(held) == len(wanted):
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            with ThreadPoolExecutor(1) as pool:
                for name, answer in pool.submit(asyncio.run, in_flight(waiting)).result():
                    status = answer.status if isinstance(answer, ApiError) else 200
                    logger.info("in flight", extra={"write": name, "answer": status})
                    held[name].set_result(answer)
        answer = await held[kind]
        if isinstance(answer, ApiError):
            raise answer
        return dict(answer)

    waiting: list[tuple[str, str, str, dict[str, Any]]] = []
    Client._send = freezing  # type: ignore[method-assign]


async def in_flight(writes: list[tuple[str, str, str, dict[str, Any]]]) -> list[tuple[str, Any]]:
    client = await Client.connect(10)
    answers: list[tuple[str, Any]] = []
    try:
        for kind, method, path, rest in writes:
            try:
                answers.append((kind, await send(client, method, path, **rest)))
            except ApiError as error:
                answers.append((kind, error))
    finally:
        await client.close()
    return answers


if __name__ == "__main__":
    what, *more = os.environ["FAILPOINT"].split()
    if what == "freeze":
        freeze(dict(item.split("=", 1) for item in more))
    else:
        die(before=what == "die-before")
    main()
