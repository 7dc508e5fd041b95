"""`web`: the dashboard."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.application import add_working_directory
from spoke_jobs.cli.commands.exits import fail, logs_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_engine
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.engine import check_schema
from spoke_jobs.settings import load_settings
from spoke_jobs.shared.secret_file import SecretFile

if TYPE_CHECKING:
    from spoke_jobs.web import Authorizer

_DECIDE = (
    "decide who may look: --token-file FILE (whoever knows a token), --trusted-proxy CIDR with --user-header NAME "
    "(whom a proxy has signed in), or --insecure-local (everybody on this machine)"
)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no address and no range such as 10.0.0.0/8") from None


@logs_errors
def web(
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8081,
    host_names: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name",
            metavar="NAME",
            help="A name under which browsers reach it; may be repeated. Needed if other machines reach it.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Admit whoever knows the token in this file, of at least 32 characters.",
            show_default=False,
        ),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="CIDR",
            help="Admit whom a proxy at these addresses names in --user-header; may be repeated.",
            show_default=False,
        ),
    ] = None,
    user_header: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The header in which the proxy names the user: X-Forwarded-User, for example.",
            show_default=False,
        ),
    ] = None,
    insecure_local: Annotated[
        bool,
        typer.Option("--insecure-local", help="Admit everybody on this machine, without signing in. For a laptop."),
    ] = False,
    session_key_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With --trusted-proxy: a file with a key that signs sessions. Replicas need the same one.",
            show_default=False,
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody may change anything.")] = False,
    organizations: Annotated[
        list[int] | None,
        typer.Option(
            "--organization", min=0, metavar="ID", help="Show only jobs of this organization; may be repeated.",
            callback=lambda value: [arguments.check_number(each) for each in value or ()],
            show_default=False,
        ),
    ] = None,
    payloads: Annotated[bool, typer.Option("--payloads", help="Show payloads and results.")] = False,
    hide_output: Annotated[
        bool, typer.Option("--hide-output", help="Hide tracebacks and the last lines of output: they may hold values.")
    ] = False,
    with_progress: Annotated[
        bool,
        typer.Option(
            "--progress",
            help="Also serve the progress of single jobs below /progress, without signing in, to whoever has a token "
            "that SPOKE_PROGRESS_KEY has signed.",
        ),
    ] = False,
    progress_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--progress-origin",
            metavar="ORIGIN",
            help="With --progress: the origin of pages that may read it, https://app.example.com for example; may be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    progress_messages: Annotated[
        bool, typer.Option("--progress-messages", help="With --progress: show the jobs' own texts, too.")
    ] = False,
) -> None:  # fmt: skip
    """Serve the dashboard, until SIGTERM: which jobs wait or fail, and why, for people with a browser.

    It shows nothing before you have decided who may look. It needs no application and no cluster. With the Kubernetes
    client and SPOKE_NAMESPACE, it shows what SpokeJobs wait for, too. With SPOKE_APP, it can run the jobs of schedules
    now.
    """
    try:
        from spoke_jobs.web import ALL_ACTIONS, LocalOnly, ReadOnly, TokenSignIn, TrustedProxy, Viewer, app, progress
        from spoke_jobs.web.guard import LOOPBACK_HOSTS
        from spoke_jobs.web.serve_dashboard import PROGRESS_STREAMS, WithProgress, serve
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs web` needs the Python package {error.name!r}: pip install 'spoke-jobs[web]'")
    networks = [_network(text) for text in proxies or ()]
    if [token_file is not None, bool(networks), insecure_local].count(True) != 1:
        usage_error(_DECIDE)
    if bool(networks) != (user_header is not None):
        usage_error("--trusted-proxy and --user-header need each other")
    if session_key_file is not None and not networks:
        usage_error("--session-key-file is for --trusted-proxy: the token signs sessions, too")
    local = _is_loopback(host)
    if insecure_local and not local:
        usage_error(f"--insecure-local needs a loopback address, and --host is {host}")
    if not local and not host_names:
        usage_error("--host-name is missing: name the hosts under which browsers reach the dashboard")
    if (progress_origins or progress_messages) and not with_progress:
        usage_error("--progress-origin and --progress-messages are for --progress")
    viewer = Viewer(
        name="local user" if insecure_local else "token",
        actions=ALL_ACTIONS,
        organizations=frozenset(organizations) if organizations else None,
        may_see_payloads=payloads,
        may_see_output=not hide_output,
    )
    authorizer: Authorizer
    if token_file is not None:
        authorizer = TokenSignIn(_secret(token_file, "--token-file"), viewer)
    elif user_header is not None:
        key = _secret(session_key_file, "--session-key-file") if session_key_file is not None else ""
        authorizer = TrustedProxy(networks, user_header, viewer, key)
    else:
        authorizer = LocalOnly(viewer)
    check_schema(open_engine())
    settings = load_settings()
    add_working_directory()  # for the application, which is imported when somebody runs a schedule's job
    of_jobs = None
    if with_progress:
        of_jobs = progress(
            origins=progress_origins or (),
            messages=progress_messages,
            database=settings.database,
            most_streams=PROGRESS_STREAMS,
        )
    dashboard = app(
        authorize=ReadOnly(authorizer) if read_only else authorizer,
        hosts=[*(host_names or ()), *(LOOPBACK_HOSTS if local else ())],
        database=settings.database,
        namespace=settings.namespace,
        secure_cookies=not insecure_local,
    )
    serve(WithProgress(dashboard, of_jobs) if of_jobs is not None else dashboard, host, port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(path: str, option: str) -> SecretFile:
    try:
        return SecretFile(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{option} {path} can't be used ({reason}): name a file that has a secret") from None
