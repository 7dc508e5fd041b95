"""`dispatch`: a job from the command line, with every option that an application's dispatch has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from spoke_jobs.cli.commands import arguments, parsing
from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.words import line
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import JobData
from spoke_jobs.settings import load_settings

_Value = TypeVar("_Value")


def _by(parse: Callable[[str], _Value]) -> Callable[[Any], _Value]:
    """A parser of ours as typer takes one: what is wrong becomes a usage error, exit code 2."""

    def parser(text: Any) -> _Value:
        try:
            return parse(text) if isinstance(text, str) else text
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def _option(name: str, help_: str, parse: Callable[[str], Any] | None = None, metavar: str | None = None) -> Any:
    parser = _by(parse) if parse else None
    return typer.Option(name, help=help_, parser=parser, metavar=metavar, show_default=False)


def _resources(text: str) -> Any:
    return parsing.json_of(text, "it")


@reports_errors
def dispatch(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job's type, as SPOKE_APP declares it.")],
    payload: Annotated[
        str | None,
        _option("--payload", "The payload: JSON, @file, or - for standard input.", metavar="JSON|@FILE|-"),
    ] = None,
    queue: Annotated[str | None, _option("--queue", "The queue that it stands in.")] = None,
    locks_queue: Annotated[
        bool | None, _option("--locks-queue/--no-locks-queue", "Of its queue's jobs that lock it, one runs at a time.")
    ] = None,
    priority: Annotated[int | None, _option("--priority", "From -1000 to 1000; higher starts first.")] = None,
    run_after: Annotated[
        datetime | None,
        _option("--run-after", "Not to be started before: 2026-03-01T09:00+01:00, or +10m.", parsing.moment, "TIME"),
    ] = None,
    unique_key: Annotated[
        str | None, _option("--unique-key", "Of the unfinished jobs with this key there is one; its row is shown.")
    ] = None,
    timeout: Annotated[
        float | None, _option("--timeout", "How long an attempt may run: 90s, 5m, 2h.", parsing.duration, "DURATION")
    ] = None,
    start_timeout: Annotated[
        float | None,
        _option("--start-timeout", "How long it may wait for its start, once due.", parsing.duration, "DURATION"),
    ] = None,
    retention: Annotated[
        float | None,
        _option("--retention", "How long its row stays after its end: 7d.", parsing.duration, "DURATION"),
    ] = None,
    retry: Annotated[
        RetryPolicy | None,
        _option("--retry", 'A RetryPolicy: {"budget": {"error": 5}, ...}.', parsing.retry_policy, "JSON"),
    ] = None,
    organization: Annotated[int | None, _option("--organization", "The organization it is for.")] = None,
    campaign: Annotated[int | None, _option("--campaign", "The campaign it is for.")] = None,
    pod_template: Annotated[
        str | None, _option("--pod-template", "The PodTemplate of its pods (kubernetes; elsewhere ignored).")
    ] = None,
    resources: Annotated[
        Any, _option("--resources", "What its container asks for (kubernetes; elsewhere ignored).", _resources, "JSON")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch it until it has ended; exit code 1 if it failed.")
    ] = False,
    json: arguments.Json = False,
) -> None:
    """Dispatch a job by the runner that JOB_RUNNER names. What is left out is as the job was declared."""
    try:
        value = parsing.payload(payload, sys.stdin)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--payload") from None
    data = JobData(
        job_type=job_type,
        payload=value,
        queue_name=queue,
        locks_queue=locks_queue,
        organization_id=organization,
        campaign_id=campaign,
        priority=priority,
        run_after=run_after,
        unique_key=unique_key,
        timeout_seconds=timeout,
        start_timeout_seconds=start_timeout,
        retention_seconds=retention,
        retry=retry,
        pod_template=pod_template,
        resources=resources,
    )
    job = _dispatch(data)
    if wait:
        _watch(job.id, json)
    elif json:
        from spoke_jobs.cli.rendering.json_output import Dispatched, Job, print_document

        print_document(Dispatched(job=Job.of(job)))
    elif arguments.on_a_terminal():
        print(f"job {job.id} ({line(job.job_type)}): {job.state}")
    else:
        print(job.id, line(job.job_type), job.state, sep="\t")


def _watch(job_id: int, json: bool) -> None:
    """As `watch` does."""
    from spoke_jobs.cli.commands.ledger_access import open_queries
    from spoke_jobs.cli.commands.watch_command import until_ended

    until_ended(open_queries()[1], [job_id], json)


def _dispatch(data: JobData) -> Any:
    from spoke_jobs.dispatch import use_runner
    from spoke_jobs.loader import load_runner

    settings = load_settings()
    if settings.job_runner.strip() == "memory":
        raise ConfigurationError("JOB_RUNNER=memory keeps jobs in this process, which ends: name another runner")
    runner = load_runner(settings, open_application(settings))
    with use_runner(runner):  # for the jobs that this one dispatches, if it runs here (JOBS_SAME_PROCESS)
        job = runner.dispatch_job(data)
        close: Any = getattr(runner, "close", None)
        if callable(close):
            close()
    return job
