"""Settings, read from the environment. The alias of each field is the name of its variable."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from spoke_jobs.errors import ConfigurationError

_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class Settings(BaseModel):
    """The settings that the library reads from the environment.

    A plain model, because the import of pydantic-settings would take a twelfth of the time that a pod takes to start.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    job_runner: Annotated[str, Field(validation_alias="JOB_RUNNER")] = "legacy"
    """The runner: legacy, kubernetes, memory, an entry point's name, or a dotted path (module or module:object).
    The default is called legacy because the reference, the Spoke texting platform, calls it so."""
    jobs_same_process: Annotated[bool, Field(validation_alias="JOBS_SAME_PROCESS")] = False
    """``legacy``: run jobs in the dispatching process instead of in a worker."""
    jobs_sync: Annotated[bool, Field(validation_alias="JOBS_SYNC")] = False
    """``legacy``: with JOBS_SAME_PROCESS, dispatching waits for the job's end. It has no effect alone."""
    tasks_sync: Annotated[bool, Field(validation_alias="TASKS_SYNC")] = False
    """``legacy``: dispatching a task waits for its end."""

    app: Annotated[str, Field(validation_alias="SPOKE_APP")] = ""
    """The module that declares the jobs and tasks, for workers, pods and the task deployment."""
    database_url: Annotated[SecretStr, Field(validation_alias="SPOKE_DATABASE_URL")] = SecretStr("")
    """The SQLAlchemy URL of the database with the ledger, which is the application's own database."""
    lease_seconds: Annotated[float, Field(validation_alias="SPOKE_LEASE_SECONDS", ge=0.5, le=3600)] = 30.0
    """How long a claim holds without a heartbeat."""
    poll_seconds: Annotated[float, Field(validation_alias="SPOKE_POLL_SECONDS", ge=0.01, le=60)] = 0.5
    """How often a worker or task server polls for work. Sync does so at most once a second."""

    submit: Annotated[Literal["runner", "sync"], Field(validation_alias="SPOKE_SUBMIT")] = "runner"
    """``kubernetes``: what creates SpokeJobs. With "sync", the application needs no cluster credentials."""
    namespace: Annotated[str, Field(validation_alias="SPOKE_NAMESPACE")] = ""
    """``kubernetes``: the namespace of the SpokeJobs. If unset in a pod, the pod's own."""
    tasks_url: Annotated[str, Field(validation_alias="SPOKE_TASKS_URL")] = ""
    """``kubernetes``: where the task deployment listens, http://texting-tasks:8080 for example."""
    tasks_key: Annotated[SecretStr, Field(validation_alias="SPOKE_TASKS_KEY")] = SecretStr("")
    """The key that dispatchers and the task deployment share."""
    tasks_token_file: Annotated[str, Field(validation_alias="SPOKE_TASKS_TOKEN_FILE")] = ""
    """``kubernetes``: a projected service account token with the audience spoke-tasks, sent instead of the key."""
    tasks_buffer: Annotated[int, Field(validation_alias="SPOKE_TASKS_BUFFER", ge=1, le=1_000_000)] = 10_000
    """``kubernetes``: the most tasks that a process holds until they have run."""
    tasks_full_wait_seconds: Annotated[
        float, Field(validation_alias="SPOKE_TASKS_FULL_WAIT_SECONDS", ge=0, le=3600)
    ] = 5.0
    """``kubernetes``: how long dispatching a task waits for room in a full buffer before it raises TaskBufferFull."""
    tasks_callers: Annotated[str, Field(validation_alias="SPOKE_TASKS_CALLERS")] = ""
    """``spoke-jobs tasks``: the service accounts whose tokens are accepted, namespace/name, separated by commas."""
    tasks_api_url: Annotated[str, Field(validation_alias="SPOKE_TASKS_API_URL")] = ""
    """``spoke-jobs tasks``: the API server that reviews tokens. If unset in a pod, that of the pod's cluster."""
    tasks_api_ca_file: Annotated[str, Field(validation_alias="SPOKE_TASKS_API_CA_FILE")] = f"{_ACCOUNT_FOLDER}/ca.crt"
    """``spoke-jobs tasks``: the file with the API server's CA certificates."""
    tasks_api_token_file: Annotated[str, Field(validation_alias="SPOKE_TASKS_API_TOKEN_FILE")] = (
        f"{_ACCOUNT_FOLDER}/token"
    )
    """``spoke-jobs tasks``: the file with the token for the API server."""
    tasks_host: Annotated[str, Field(validation_alias="SPOKE_TASKS_HOST")] = ""
    """``spoke-jobs tasks``: the address to listen on. Empty: all addresses, of IPv4 and IPv6."""
    tasks_port: Annotated[int, Field(validation_alias="SPOKE_TASKS_PORT", ge=1, le=65535)] = 8080
    """``spoke-jobs tasks``: the port to listen on."""
    tasks_concurrency: Annotated[int, Field(validation_alias="SPOKE_TASKS_CONCURRENCY", ge=1, le=1000)] = 16
    """``spoke-jobs tasks``: how many ``def`` tasks run at once, and how many ``async def`` tasks."""
    tasks_queue: Annotated[int, Field(validation_alias="SPOKE_TASKS_QUEUE", ge=1, le=1_000_000)] = 1_000
    """``spoke-jobs tasks``: the most accepted tasks that have not ended. Beyond that the server answers 429."""
    tasks_grace_seconds: Annotated[float, Field(validation_alias="SPOKE_TASKS_GRACE_SECONDS", ge=0, le=3600)] = 20.0
    """``spoke-jobs tasks``: how long accepted tasks may run after SIGTERM. The pod's grace must exceed it by 20 s."""
    tasks_hung_seconds: Annotated[float, Field(validation_alias="SPOKE_TASKS_HUNG_SECONDS", ge=0, le=3600)] = 60.0
    """``spoke-jobs tasks``: how long a task may hold its slot after its timeout before the process restarts."""


def load_settings() -> Settings:
    """Read the environment. An empty variable counts as unset.

    :raises ConfigurationError: naming every variable that can't be used.
    """
    try:
        return Settings.model_validate({name: value for name, value in os.environ.items() if value})
    except ValidationError as error:
        lines = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"settings that can't be used: {lines}") from None
