"""The functions of jobs and tasks, with the hooks of the application's middleware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spoke_jobs.execution.context import JobContext, TaskContext
from spoke_jobs.middleware.hook_calls import HookCalls, hooked
from spoke_jobs.middleware.hooks import ATTEMPT, TASK, AttemptCall, TaskCall
from spoke_jobs.model import Claim
from spoke_jobs.registry import Definition
from spoke_jobs.type_names import SUFFIX


def with_attempt_hooks(
    definition: Definition, claim: Claim, context: JobContext, payload: Any, asked_at: float | None = None
) -> tuple[Definition, HookCalls]:
    """Return the definition of a job with a function that also calls the hooks, and the hooks of this attempt.

    :param asked_at: when the claim was requested, on the monotonic clock; None if unknown.
    """
    call = AttemptCall(claim.job, claim.number, payload, context, pattern=_pattern(definition), asked_at=asked_at)
    calls = HookCalls(definition.middleware, ATTEMPT, call)
    return _with_hooks(definition, calls), calls


def with_task_hooks(
    definition: Definition, context: TaskContext, payload: Any, name: str
) -> tuple[Definition, HookCalls | None]:
    """Return the definition of a task with a function that also calls the hooks, and the hooks; None if there are none.

    :param name: the task's name, as it was dispatched.
    """
    if not definition.middleware:
        return definition, None
    call = TaskCall(
        context.id,
        name,
        context.attempt,
        payload,
        context,
        pattern=_pattern(definition),
        traceparent=context.traceparent,
    )
    calls = HookCalls(definition.middleware, TASK, call)
    return _with_hooks(definition, calls), calls


def _with_hooks(definition: Definition, calls: HookCalls) -> Definition:
    if not definition.middleware:
        return definition
    return replace(definition, function=hooked(definition.function, calls, is_async=definition.is_async))


def _pattern(definition: Definition) -> str:
    return definition.name if definition.name.endswith(SUFFIX) else ""
