"""docs/reference/options.md: each option of a job, and which runner honors it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Iterator

from pydantic import SecretStr

from spoke_jobs.cli.reference.docstrings import banner, of_attributes, of_parameters, sentence, table
from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.retry import DEFAULT_BUDGET, RetryPolicy
from spoke_jobs.model import JobData, JobOptions
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.runners.prepare import ALL_CAPABILITIES, Capability
from spoke_jobs.settings import Settings

_PLACEMENT = ("pod_template", "resources")
_NOT_OPTIONS = ("name", "job_type", "payload")
_SAID_HERE = {
    "organization_id": "whose job it is: recorded, given to the job, and to the cluster for fair turns",
    "campaign_id": "which campaign it belongs to: recorded, and given to the job",
}
"""What has no docstring of its own: columns of the reference's table that mean what they are called."""


def page() -> str:
    """The page."""
    runners = dict(_runners())
    rows = [(f"`{name}`", _where(name), _default(name), sentence(_meaning(name))) for name in _names()]
    support = [(f"`{name}`", *(_by(name, has) for has in runners.values())) for name in _names()]
    return f"""{banner("JobData, Registry.job and Capability")}
# Options of a job

`@job(name, ...)` declares the options of a job type. `JobData(name, payload, ...)` overrides them for one dispatch. An
option that a dispatch leaves out, or passes as None, is as declared. Options are checked when they are declared or
dispatched. A dispatch fixes them: they are stored in the job's row.

{table(("option", "given to", "default", "meaning"), rows)}

## Runners

A runner *honors*, *refuses* or *ignores* an option. A dispatch with a refused option raises `InvalidJobData`. Options
that say where a pod runs are ignored outside a cluster. `legacy` has two further modes, with `JOBS_SAME_PROCESS` and
with `JOBS_SYNC` as well.

{table(("option", *runners), support)}

## RetryPolicy

{table(("field", "default", "meaning"), _policy_rows())}

The cause of a failed attempt belongs to a class. A job fails for good once a class has as many failed attempts as its
budget says: with 3, the third is final. An attempt that found its queue held, or that raised `RetryLater`, is not
counted. `Discard` ends the job immediately.

{table(("class", "budget", "meaning", "causes"), _class_rows())}
"""


def _runners() -> Iterator[tuple[str, Collection[str]]]:
    def legacy(*, same_process: bool = False, wait: bool = False) -> Collection[str]:
        settings = Settings.model_construct(jobs_same_process=same_process, jobs_sync=wait)
        return LegacyRunner(settings, Registry()).capabilities

    yield "legacy", legacy()
    yield "`JOBS_SAME_PROCESS`", legacy(same_process=True)
    yield "`JOBS_SYNC`", legacy(same_process=True, wait=True)
    yield "memory", getattr(MemoryRunner(Settings.model_construct(), Registry()), "capabilities", ALL_CAPABILITIES)
    url = SecretStr("postgresql+psycopg://host/name")
    cluster = KubernetesRunner(Settings.model_construct(submit="sync", database_url=url), Registry())
    yield "kubernetes", {*cluster.capabilities, *_PLACEMENT}


def _by(name: str, has: Collection[str]) -> str:
    if name in _PLACEMENT:
        return "honored" if name in has else "ignored"
    return "refused" if name in list(Capability) and name not in has else "honored"


def _names() -> list[str]:
    at_dispatch = [field.name for field in dataclasses.fields(JobData)]
    declared = [name for name in inspect.signature(Registry.job).parameters if name != "self"]
    return [name for name in dict.fromkeys(at_dispatch + declared) if name not in _NOT_OPTIONS]


def _where(name: str) -> str:
    places = []
    if name in inspect.signature(Registry.job).parameters:
        places.append("`@job`")
    if name in {field.name for field in dataclasses.fields(JobData)}:
        places.append("`JobData`")
    return ", ".join(places)


def _default(name: str) -> str:
    parameter = inspect.signature(Registry.job).parameters.get(name)
    value = None if parameter is None else parameter.default
    if name == "retry":
        return "`RetryPolicy()`"
    if value is None or value == "":
        return ""
    return f"`{value:.0f}`" if isinstance(value, float) and value == int(value) else f"`{value}`"


def _meaning(name: str) -> str:
    for said in (of_parameters(Registry.job), of_attributes(JobData), of_attributes(JobOptions), _SAID_HERE):
        if name in said:
            return said[name]
    raise LookupError(f"nothing says what the option {name} means: give it a docstring")


def _policy_rows() -> Iterator[tuple[str, ...]]:
    said, default = of_attributes(RetryPolicy), RetryPolicy()
    said |= {
        "budget": "how many failed attempts of a class of cause end the job; a class left out has its default",
        "backoff_max_seconds": "no wait is longer",
    }
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
