"""Generate docs/reference/options.md: each option of a job, and which runner honors it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Iterator

from pydantic import SecretStr

from spoke_jobs.cli.reference.docstrings import banner, sentence, table
from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.executors import CLUSTER_RUNNER, Executor, executor_of, lane_of
from spoke_jobs.contract.retry import DEFAULT_BUDGET, RetryPolicy
from spoke_jobs.job_options import OPTIONS, Capability, JobData, Option
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings
from spoke_jobs.shared.attribute_docs import of_attributes

_DECLARED = inspect.signature(Registry.job).parameters
_DISPATCHED = {field.name for field in dataclasses.fields(JobData)}


def page() -> str:
    """Generate the page."""
    runners = dict(_runners())
    shown = {
        name: option
        for option in OPTIONS.values()
        if (name := option.keyword or option.name) in _DISPATCHED or name in _DECLARED
    }
    rows = [(f"`{name}`", _where(name), _default(name), option.doc) for name, option in shown.items()]
    support = [(f"`{name}`", *(_by(option, *item) for item in runners.items())) for name, option in shown.items()]
    return f"""{banner("spoke_jobs.job_options.OPTIONS")}
# Options of a job

`@job(name, ...)` declares the options of a job type. `JobData(name, payload, ...)` overrides them for one dispatch. An
option that a dispatch leaves out, or passes as None, has its declared value. Options are checked when they are declared
or dispatched. A dispatch stores them in the job's row, and later declarations do not change them.

{table(("option", "given to", "default", "meaning"), rows)}

## Runners

A runner *honors*, *refuses* or *ignores* an option. A dispatch with a refused option raises `InvalidJobData`. Options
that say where a pod runs are ignored outside a cluster. `legacy` has two more modes: with `JOBS_SAME_PROCESS`, and
with both `JOBS_SAME_PROCESS` and `JOBS_SYNC`.

{table(("option", *runners), support)}

## RetryPolicy

{table(("field", "default", "meaning"), _policy_rows())}

The cause of a failed attempt belongs to a class. A job fails for good once a class has as many failed attempts as its
budget says: with 3, the third is final. An attempt that found its queue held, or that raised `RetryLater`, is not
counted. `Discard` ends the job immediately.

{table(("class", "budget", "meaning", "causes"), _class_rows())}
"""


def _runners() -> Iterator[tuple[str, Collection[Capability]]]:
    def legacy(*, same_process: bool = False, wait: bool = False) -> Collection[Capability]:
        settings = Settings.model_construct(jobs_same_process=same_process, jobs_sync=wait)
        return LegacyRunner(settings, Registry()).capabilities

    yield "legacy", legacy()
    yield "`JOBS_SAME_PROCESS`", legacy(same_process=True)
    yield "`JOBS_SYNC`", legacy(same_process=True, wait=True)
    yield "memory", MemoryRunner(Settings.model_construct(), Registry()).capabilities
    url = SecretStr("postgresql+psycopg://host/name")
    cluster = KubernetesRunner(Settings.model_construct(submit="sync", database_url=url), Registry())
    yield CLUSTER_RUNNER, cluster.capabilities


def _by(option: Option, runner: str, has: Collection[Capability]) -> str:
    if option.placement and executor_of(runner) is not Executor.CLUSTER:
        return "ignored"
    if option.of_lanes and lane_of(runner) is None:
        return "ignored"
    return "refused" if option.capability is not None and option.capability not in has else "honored"


def _where(name: str) -> str:
    places = {"`@job`": name in _DECLARED, "`JobData`": name in _DISPATCHED}
    return ", ".join(place for place, there in places.items() if there)


def _default(name: str) -> str:
    value = _DECLARED[name].default if name in _DECLARED else None
    if name == "retry":
        return "`RetryPolicy()`"
    if value is None or value == "":
        return ""
    return f"`{value:.0f}`" if isinstance(value, float) and value == int(value) else f"`{value}`"


def _policy_rows() -> Iterator[tuple[str, ...]]:
    said, default = of_attributes(RetryPolicy), RetryPolicy()
    for field in dataclasses.fields(RetryPolicy):
        value = getattr(default, field.name)
        shown = (
            "see below"
            if field.name == "budget"
            else f"`{value:g}`"
            if isinstance(value, float)
            else f"`{value}`"
            if value != ""
            else ""
        )
        yield f"`{field.name}`", shown, sentence(said[field.name])


def _class_rows() -> Iterator[tuple[str, ...]]:
    said = of_attributes(CauseClass)
    for kind in CauseClass:
        causes = ", ".join(f"`{cause}`" for cause in Cause if cause.cause_class is kind)
        budget = str(DEFAULT_BUDGET[kind]) if kind in DEFAULT_BUDGET else "not counted"
        yield f"`{kind.value}`", budget, sentence(said[kind.name]), causes
