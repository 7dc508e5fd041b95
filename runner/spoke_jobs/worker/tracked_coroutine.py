"""Coroutines of jobs that share an event loop: note whose code runs, and keep ``sys.exit()`` from ending the loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator
from typing import Any
from uuid import UUID

from spoke_jobs.worker.shared_state import SharedState


class JobExit(BaseException):
    """Stands for a ``sys.exit()`` in an asyncio task, which would end the event loop and all its jobs."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.exit = error


class TrackedCoroutine(Coroutine[Any, Any, Any]):
    """Wraps an asyncio task's coroutine, and notes in the shared state when its code runs."""

    def __init__(self, inner: Coroutine[Any, Any, Any], token: UUID, shared: SharedState) -> None:
        self._inner = inner
        self._token = token
        self._shared = shared
        self._pid = os.getpid()

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # attributes that asyncio shows in debug output

    def _step(self, step: Callable[..., Any], *values: Any) -> Any:
        self._shared.enter(self._token)
        try:
            return step(*values)
        except (SystemExit, KeyboardInterrupt) as error:
            raise JobExit(error) from error
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # a child that the job forked must not use the parent's event loop
            self._shared.leave()
