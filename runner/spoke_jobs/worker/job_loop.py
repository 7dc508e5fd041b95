"""The event loop that `async def` jobs share, and its tasks: no job's code ends the loop or another job's attempt.

Code such as ``for task in asyncio.all_tasks(): task.cancel()`` or ``loop.stop()`` is common in programs that have the
event loop for themselves. Here it raises an error in the job that does this, and the other jobs go on.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import traceback
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.tracked_coroutine import TrackedCoroutine

logger = logging.getLogger(__name__)

ATTEMPT: contextvars.ContextVar[UUID | None] = contextvars.ContextVar("spoke_attempt", default=None)
"""The attempt whose code runs; None: the worker's own. The tasks, callbacks and threads of a job inherit it."""


class JobTasks:
    """Makes the tasks of an event loop, and notes which attempts cancel tasks of other attempts."""

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._attempts: set[UUID] = set()
        self._cancelled: set[UUID] = set()
        """The running attempts that had a task cancelled by another attempt."""
        self._cancelling: set[UUID] = set()
        """The running attempts that cancelled a task of another one."""

    def make(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task, as the event loop's task factory."""
        context = options.get("context")
        token = ATTEMPT.get() if context is None else context.get(ATTEMPT)
        if token is not None and asyncio.iscoroutine(coroutine):
            coroutine = TrackedCoroutine(coroutine, token, self._shared)
        return JobTask(self, token, token is None, coroutine, loop=loop, **options)

    def begin(
        self, loop: asyncio.AbstractEventLoop, token: UUID, coroutine: Coroutine[Any, Any, Any]
    ) -> asyncio.Task[Any]:
        """Make the task that runs an attempt."""
        self._attempts.add(token)
        context = contextvars.copy_context()
        context.run(ATTEMPT.set, token)
        return JobTask(self, token, True, TrackedCoroutine(coroutine, token, self._shared), loop=loop, context=context)

    def stop(self, token: UUID, task: asyncio.Task[Any]) -> None:
        """Cancel an attempt's task. If it waits for tasks of others, these are not cancelled with it."""
        context = contextvars.copy_context()
        context.run(ATTEMPT.set, token)
        context.run(task.cancel)

    def end(self, token: UUID) -> None:
        """Forget an attempt that has ended."""
        for tokens in (self._attempts, self._cancelled, self._cancelling):
            tokens.discard(token)

    def foreign_cancel(self, owner: UUID | None, asker: UUID) -> None:
        """Note that an attempt cancels a task of another one."""
        if owner in self._attempts:
            self._cancelled.add(owner)
        if asker in self._attempts:
            self._cancelling.add(asker)

    def is_bystander(self, token: UUID) -> bool:
        """Whether an attempt had a task cancelled by another one, and did not itself do this to others."""
        return token in self._cancelled and token not in self._cancelling


class JobTask(asyncio.Task[Any]):
    """A task that knows whose it is.

    :param guarded: whether no other job may cancel it, because it runs a whole attempt or is the worker's own. Other
        tasks of a job may be cancelled, because jobs may share them: the reader of a client's connection, for example.
    """

    def __init__(self, tasks: JobTasks, owner: UUID | None, guarded: bool, *arguments: Any, **options: Any) -> None:
        self._tasks = tasks
        self._owner = owner
        self._guarded = guarded
        super().__init__(*arguments, **options)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task, unless it is guarded and the caller belongs to another attempt.

        :raises RuntimeError: if a job's code itself calls this for such a task. If asyncio does, for example because
            the job awaits the task when its own timeout expires, nothing happens.
        """
        asker = ATTEMPT.get()
        if asker is not None and asker != self._owner:
            if self._guarded:
                caller = asyncio.current_task(self.get_loop()) if _runs(self.get_loop()) else None
                if isinstance(caller, JobTask) and caller._owner != asker:
                    return False
                raise RuntimeError("a job cannot cancel the tasks of other jobs or of the worker, which share its loop")
            self._tasks.foreign_cancel(self._owner, asker)
        return super().cancel(msg)


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class _Unstoppable:
    """Mixed into an event loop: no job stops it."""

    def stop(self) -> None:
        """Stop the loop.

        :raises RuntimeError: if a job calls this.
        """
        if ATTEMPT.get() is not None:
            raise RuntimeError("a job cannot stop the event loop, which other jobs share")
        super().stop()  # type: ignore[misc]


def _loop(tasks: JobTasks) -> asyncio.AbstractEventLoop:
    """Make an event loop of the class that the application has chosen, or asyncio's own, that no job can stop."""
    plain = asyncio.new_event_loop()
    plain.close()
    loop: asyncio.AbstractEventLoop = type("JobLoop", (_Unstoppable, type(plain)), {})()
    loop.set_task_factory(tasks.make)
    return loop


def run(main: Coroutine[Any, Any, None], tasks: JobTasks, shared: SharedState) -> None:
    """Run the event loop until ``main`` has ended.

    If something else ends it, such as ``sys.exit()`` in a callback, exit the process. Cancelling the attempts instead
    would let them record ends of which they are not the cause. The shared state names the attempt whose code it was.
    """
    with asyncio.Runner(loop_factory=lambda: _loop(tasks)) as runner:
        try:
            runner.run(main)
        except BaseException as error:
            if (token := attempt_of(error)) is not None:
                shared.enter(token)
            logger.exception("the event loop ended")
            os._exit(1)


def attempt_of(error: BaseException) -> UUID | None:
    """Return the attempt whose callback raised an error that ended the event loop; None if it is unknown."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        handle = frame.f_locals.get("self")
        if isinstance(handle, asyncio.Handle):
            return handle._context.get(ATTEMPT)  # type: ignore[attr-defined, no-any-return]
    return None
