"""Settings, read from the environment. The variable of a field is SPOKE_ and its name, unless it has an alias."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared import validation_text
from spoke_jobs.shared.keyed_macs import SHORTEST_SECRET
from spoke_jobs.shared.secret_file import Secret, SecretFile, value_of

_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"

LONGEST_LEASE_SECONDS = 3600
"""The longest lease that a process may be given. One that ends later was written by other code."""
OUTPUT_SECONDS = 2.0
"""How often the output of a running attempt is stored in the ledger."""
_MOST_PROGRESS_KEYS = 2
SCHEMA_NAME = "[a-z_][a-z0-9_]{0,47}"
"""A pattern. Names of channels are made from it, which must have at most 63 characters."""


def schema_of_environment() -> str | None:
    """Return SPOKE_SCHEMA; None if it is unset, or invalid, which :func:`load_settings` refuses."""
    name = os.environ.get("SPOKE_SCHEMA", "")
    return name if re.fullmatch(SCHEMA_NAME, name) else None


def traces_of_environment() -> str:
    """Return SPOKE_TRACES; "none" if it is unset, or invalid, which :func:`load_settings` refuses."""
    mode = os.environ.get("SPOKE_TRACES", "")
    return mode if mode in ("joined", "linked") else "none"


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseModel):
    """The settings that the library reads from the environment.

    A plain model, because the import of pydantic-settings would take a twelfth of the time that a pod takes to start.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: f"SPOKE_{name.upper()}"),
    )

    job_runner: Annotated[str, Field(validation_alias="JOB_RUNNER")] = "legacy"
    """The runner: legacy, kubernetes, memory, an entry point's name, or a dotted path (module or module:object).
    The default is called legacy because the reference, the Spoke texting platform, calls it so."""
    jobs_same_process: Annotated[bool, Field(validation_alias="JOBS_SAME_PROCESS")] = False
    """``legacy``: run jobs in the dispatching process instead of in a worker."""
    jobs_sync: Annotated[bool, Field(validation_alias="JOBS_SYNC")] = False
    """``legacy``: with JOBS_SAME_PROCESS, dispatching waits for the job's end. It has no effect alone."""
    tasks_sync: Annotated[bool, Field(validation_alias="TASKS_SYNC")] = False
    """``legacy``: dispatching a task waits for its end."""

    app: str = ""
    """The module that declares the jobs and tasks, for workers, pods and the task deployment."""
    database_url: SecretStr = SecretStr("")
    """The SQLAlchemy URL of the database with the ledger, which is the application's own database."""
    database_url_file: str = ""
    """A file that contains this URL, in place of the variable. If it changes, connections are opened with the new
    URL, and those in the pool are replaced at their next use."""
    ledger_schema: Annotated[str, Field(validation_alias="SPOKE_SCHEMA", pattern=f"^({SCHEMA_NAME})?$")] = ""
    """The PostgreSQL schema of the ledger's tables, for one of several applications in a database. All processes of an
    application need the same. It must be set before the process imports the library. Empty: the role's default schema,
    which usually is `public`."""
    finished: Literal["keep", "delete"] = "keep"
    """What happens to a job's row after a success. "delete" removes it within a second or two, whatever its retention.
    Use that if the application counts all rows as pending jobs, as the reference does. Rows of failed jobs stay."""
    output: Literal["slow", "all", "none"] = "slow"
    """``legacy``: of which attempts the ledger keeps the last lines that the job printed, at most 8,000 characters.
    "slow": of those that fail, and of those that take more than 2 s. The lines may contain values."""
    lease_seconds: Annotated[float, Field(ge=0.5, le=LONGEST_LEASE_SECONDS)] = 30.0
    """How long a claim holds without a heartbeat."""
    poll_seconds: Annotated[float, Field(ge=0.01, le=60)] = 0.5
    """How often a worker or task server polls for work. Sync does so at most once a second."""

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    """The lowest level that sync, pods, workers, the task server and migrations log."""
    log_format: Literal["plain", "json"] = "plain"
    """The form of these logs, on standard error: plain lines, or one JSON object per line."""

    traces: Literal["none", "joined", "linked"] = "none"
    """Whether processes make OpenTelemetry spans, for which they need the extra `otel`. "joined": attempts and tasks
    belong to the trace of their dispatch. "linked": each begins a trace of its own, with a link to the dispatch."""

    metrics_organizations: Annotated[int, Field(ge=0, le=1000)] = 0
    """Of how many organizations workers and sync report metrics of their own. The others count under `other`. Whoever
    reads the metrics then sees the numbers of the organizations. 0: there are none. Metrics of the ledger's limits and
    pauses have their scopes either way, such as `organization:7`."""

    submit: Literal["runner", "sync"] = "runner"
    """``kubernetes``: what creates SpokeJobs. With "sync", the application needs no cluster credentials."""
    namespace: str = ""
    """``kubernetes``: the namespace of the SpokeJobs. If unset in a pod, the pod's own."""
    worker_sets: str = ""
    """``spoke-jobs sync``: the sets of workers of the lane `worker` whose load sync reports for autoscaling, as JSON:
    `{"small": {"types": ["mail"], "queues": [], "excludedTypes": [], "excludedQueues": []}}`. The chart sets it. Empty:
    one set with the name `all`."""
    service_account: str = ""
    """In a pod without its service account's token: the account's name, which ``spoke-jobs events`` shows as who
    changed something. Nobody verifies it."""
    tasks_url: str = ""
    """``kubernetes``: where the task deployment listens, https://texting-tasks:8080 for example. With http, tasks and
    credentials are not encrypted on the network."""
    tasks_ca_file: str = ""
    """``kubernetes``: the CA certificates that verify the task deployment. Empty: the system's."""
    tasks_key: SecretStr = SecretStr("")
    """The key that dispatchers and the task deployment share: at least 32 characters, `openssl rand -hex 32` for
    example."""
    tasks_key_file: str = ""
    """A file that contains this key, in place of the variable. If it changes, the new key is used without a restart."""
    tasks_token_file: str = ""
    """``kubernetes``: a projected service account token with the audience spoke-tasks, sent instead of the key."""
    tasks_buffer: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """``kubernetes``: the most tasks that a process holds until they have run."""
    tasks_full_wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """``kubernetes``: how long dispatching a task waits for room in a full buffer before it raises TaskBufferFull."""
    tasks_callers: str = ""
    """``spoke-jobs tasks``: the service accounts whose tokens are accepted, namespace/name, separated by commas."""
    tasks_api_url: str = ""
    """``spoke-jobs tasks``: the API server that reviews tokens. If unset in a pod, that of the pod's cluster."""
    tasks_api_ca_file: str = f"{_ACCOUNT_FOLDER}/ca.crt"
    """``spoke-jobs tasks``: the file with the API server's CA certificates."""
    tasks_api_token_file: str = f"{_ACCOUNT_FOLDER}/token"
    """``spoke-jobs tasks``: the file with the token for the API server."""
    tasks_host: str = ""
    """``spoke-jobs tasks``: the address to listen on. Empty: all addresses, of IPv4 and IPv6."""
    tasks_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    """``spoke-jobs tasks``: the port to listen on."""
    tasks_tls_cert_file: str = ""
    """``spoke-jobs tasks``: the certificate with its chain, to serve TLS. Read again when it is renewed. Empty: plain
    HTTP."""
    tasks_tls_key_file: str = ""
    """``spoke-jobs tasks``: the private key of that certificate."""
    tasks_concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    """``spoke-jobs tasks``: how many ``def`` tasks run at once. As many ``async def`` tasks may run, too."""
    tasks_queue: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """``spoke-jobs tasks``: the most accepted tasks that have not ended. Beyond that the server answers 429."""
    tasks_peer_connections: Annotated[int, Field(ge=1, le=2000)] = 1_000
    """``spoke-jobs tasks``: the most connections of one address, of 2,000 in all. Raise it if all senders share a
    proxy."""
    tasks_grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """``spoke-jobs tasks``: how long accepted tasks may run after SIGTERM. The pod's grace must exceed it by 20 s."""
    tasks_hung_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """``spoke-jobs tasks``: how long a task may hold its slot after its timeout before the process restarts."""

    progress_key: SecretStr = SecretStr("")
    """The key that signs the tokens with which users follow the progress of a job: at least 32 characters, `openssl
    rand -hex 32` for example. The application and whoever serves progress need the same. While you change it, two keys
    with a space between them: the first one signs, and tokens of both are valid."""
    progress_key_file: str = ""
    """A file that contains this key, or both, in place of the variable. If it changes, the new keys are used without a
    restart."""

    notify_webhook_url: SecretStr = SecretStr("")
    """``spoke-jobs notify``: the URL to which notices about failed jobs are posted."""
    notify_webhook_url_file: str = ""
    """A file that contains this URL, in place of the variable. If it changes, the new URL is used without a restart."""
    notify_webhook_key: SecretStr = SecretStr("")
    """``spoke-jobs notify``: the key that signs what is posted there: base64 of 24 to 64 bytes, `openssl rand -base64
    32` for example."""
    notify_webhook_key_file: str = ""
    """A file that contains this key, in place of the variable. If it changes, the new key is used without a restart."""
    notify_slack_url: SecretStr = SecretStr("")
    """``spoke-jobs notify``: the URL of an incoming webhook of Slack."""
    notify_slack_url_file: str = ""
    """A file that contains this URL, in place of the variable. If it changes, the new URL is used without a restart."""
    notify_name: Annotated[str, Field(max_length=100)] = ""
    """``spoke-jobs notify``: the name of this system in notices, shop production for example."""
    # A bound in the pattern would take milliseconds of each start.
    notify_dashboard_url: Annotated[str, Field(pattern=r"^(https?://[^\s<>|?#]+)?$", max_length=500)] = ""
    """``spoke-jobs notify``: where people find the dashboard, https://jobs.example.com for example. Notices then have
    links."""
    notify_ca_file: str = ""
    """``spoke-jobs notify``: the CA certificates that verify the receivers. Empty: the system's."""

    @property
    def keeps_successes(self) -> bool:
        """Whether the row of a successful job stays for its retention."""
        return self.finished == "keep"

    @property
    def output_kept_after(self) -> float:
        """After how many seconds of a successful attempt its output is kept."""
        return {"all": 0.0, "slow": OUTPUT_SECONDS, "none": math.inf}[self.output]

    @property
    def database(self) -> Secret:
        """The database's URL, or the file that has it."""
        return self._secret("database_url")

    @property
    def shared_key(self) -> Secret:
        """The tasks' key, or the file that has it."""
        return self._secret("tasks_key")

    @property
    def progress_keys(self) -> Secret:
        """The keys of tokens for progress, or the file that has them. See :func:`usable_progress_keys`."""
        return self._secret("progress_key")

    @property
    def webhook(self) -> Secret:
        """The URL of the webhook for notices, or the file that has it."""
        return self._secret("notify_webhook_url")

    @property
    def webhook_key(self) -> Secret:
        """The key that signs notices, or the file that has it."""
        return self._secret("notify_webhook_key")

    @property
    def slack(self) -> Secret:
        """The URL of Slack's incoming webhook, or the file that has it."""
        return self._secret("notify_slack_url")

    def _secret(self, name: str) -> Secret:
        value: str = getattr(self, name).get_secret_value()
        path: str = getattr(self, _FILES[name])
        return SecretFile(path, value) if path else value


_FILES = {
    name: f"{name}_file"
    for name in (
        *("database_url", "tasks_key", "progress_key"),
        *("notify_webhook_url", "notify_webhook_key", "notify_slack_url"),
    )
}
"""The settings that may be in a file, with the setting that names it."""


def load_settings() -> Settings:
    """Read the environment. An empty variable counts as unset.

    :raises ConfigurationError: naming every variable that can't be used.
    """
    try:
        settings = Settings.model_validate({name: value for name, value in os.environ.items() if value})
    except ValidationError as error:
        fields = {field.validation_alias: field for field in Settings.model_fields.values()}
        lines = "; ".join(
            f"{item['loc'][0]}{validation_text.setting(item, fields[str(item['loc'][0])])}"
            for item in error.errors(include_url=False)
        )
        raise ConfigurationError(f"settings that can't be used: {lines}") from None
    return settings.model_copy(update=dict(_from_files(settings)))


def usable_progress_keys(secret: Secret) -> tuple[str, ...]:
    """Return the keys of tokens for progress: the one that signs, and perhaps the one before it.

    :raises ConfigurationError: if they cannot be used. The error names the setting, never a key.
    """
    keys = tuple(value_of(secret).split())
    if not keys:
        raise ConfigurationError(
            "SPOKE_PROGRESS_KEY is not set: set it, or SPOKE_PROGRESS_KEY_FILE, to a key that the application and "
            "whoever serves progress share; `openssl rand -hex 32` makes one"
        )
    if len(keys) > _MOST_PROGRESS_KEYS or any(len(key) < SHORTEST_SECRET for key in keys):
        raise ConfigurationError(
            f"SPOKE_PROGRESS_KEY has {len(keys)} keys, the shortest of {min(map(len, keys))} characters: it needs one, "
            f"or two during a change, of at least {SHORTEST_SECRET} characters each, so that nobody can guess them; "
            "`openssl rand -hex 32` makes one"
        )
    return keys


def _from_files(settings: Settings) -> Iterator[tuple[str, SecretStr]]:
    """Read the secrets that are in files, so that they count as set, whichever way they are given."""
    names = {name: str(field.validation_alias) for name, field in Settings.model_fields.items()}
    for name, file_name in _FILES.items():
        path: str = getattr(settings, file_name)
        if not path:
            continue
        if getattr(settings, name).get_secret_value():
            raise ConfigurationError(f"both {names[name]} and {names[file_name]} are set: unset one of them")
        try:
            yield name, SecretStr(SecretFile(path).read())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"{names[file_name]}={path} can't be used ({reason}): name a file that contains {names[name]}"
            ) from None
