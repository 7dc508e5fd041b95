"""`web`: the dashboard."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.application import add_working_directory
from spoke_jobs.cli.commands.exits import fail, logs_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_engine
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.engine import check_schema
from spoke_jobs.settings import load_settings
from spoke_jobs.shared.https_service import is_this_machine, url_problem
from spoke_jobs.shared.secret_file import SecretFile

if TYPE_CHECKING:
    from spoke_jobs.web import Authorizer

_DECIDE = (
    "decide who may look: --token-file FILE (whoever knows a token), --trusted-proxy CIDR with --user-header NAME "
    "(whom a proxy has signed in), --oidc-issuer URL (whom an OpenID Connect provider has signed in), or "
    "--insecure-local (everybody on this machine)"
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
    oidc_issuer: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Admit whom this OpenID Connect provider has signed in, if --oidc-group or --oidc-anyone admits them.",
            show_default=False,
        ),
    ] = None,
    oidc_client_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The dashboard's client id at the provider.", show_default=False),
    ] = None,
    oidc_client_secret_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file with the client's secret.", show_default=False),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --oidc-issuer: where browsers find the dashboard. The provider must know the address "
            "/sign-in/callback below it. Its host need not be given as --host-name.",
            show_default=False,
        ),
    ] = None,
    oidc_groups: Annotated[
        list[str] | None,
        typer.Option(
            "--oidc-group", metavar="NAME", help="Admit the members of this group; may be repeated.", show_default=False
        ),
    ] = None,
    oidc_read_only_groups: Annotated[
        list[str] | None,
        typer.Option(
            "--oidc-read-only-group",
            metavar="NAME",
            help="Admit the members of this group, who may change nothing; may be repeated.",
            show_default=False,
        ),
    ] = None,
    oidc_anyone: Annotated[
        bool, typer.Option("--oidc-anyone", help="Admit everybody whom the provider knows, in place of groups.")
    ] = False,
    oidc_group_claim: Annotated[
        str,
        typer.Option(metavar="CLAIM", help="The claim with somebody's groups, or a path such as realm_access.roles."),
    ] = "groups",
    oidc_user_claim: Annotated[
        str | None,
        typer.Option(
            metavar="CLAIM",
            help="The claim with somebody's name. By default the email address if it is verified, else "
            "preferred_username, else sub.",
            show_default=False,
        ),
    ] = None,
    oidc_scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--oidc-scope", metavar="SCOPE", help="Also ask the provider for this; may be repeated.", show_default=False
        ),
    ] = None,
    oidc_ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="CA certificates that verify the provider, if not the system's.", show_default=False
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
            help="With --trusted-proxy or --oidc-issuer: a file with a key that signs sessions. Replicas need the same "
            "one.",
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
        from spoke_jobs.web.claim_rules import ClaimRules
        from spoke_jobs.web.guard import LOOPBACK_HOSTS
        from spoke_jobs.web.serve_dashboard import PROGRESS_STREAMS, WithProgress, serve
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs web` needs the Python package {error.name!r}: pip install 'spoke-jobs[web]'")
    networks = [_network(text) for text in proxies or ()]
    if [token_file is not None, bool(networks), oidc_issuer is not None, insecure_local].count(True) != 1:
        usage_error(_DECIDE)
    if bool(networks) != (user_header is not None):
        usage_error("--trusted-proxy and --user-header need each other")
    if session_key_file is not None and (token_file is not None or insecure_local):
        too = ": the token signs sessions, too" if token_file is not None else ""
        usage_error(f"--session-key-file is for --trusted-proxy and --oidc-issuer{too}")
    oidc = {
        "--oidc-client-id": oidc_client_id,
        "--oidc-client-secret-file": oidc_client_secret_file,
        "--public-url": public_url,
    }
    _check_oidc(
        oidc_issuer,
        needed=oidc | {"--session-key-file": session_key_file},
        others=oidc
        | {
            "--oidc-group": oidc_groups,
            "--oidc-read-only-group": oidc_read_only_groups,
            "--oidc-anyone": oidc_anyone,
            "--oidc-user-claim": oidc_user_claim,
            "--oidc-scope": oidc_scopes,
            "--oidc-ca-file": oidc_ca_file,
        },
    )
    local = is_this_machine(host)
    if insecure_local and not local:
        usage_error(f"--insecure-local needs a loopback address, and --host is {host}")
    hosts = [*(host_names or ()), *([_host_of(public_url)] if public_url else ())]
    if not local and not hosts:
        usage_error("--host-name is missing: name the hosts under which browsers reach the dashboard")
    _check_progress(given=bool(progress_origins or progress_messages), used=with_progress)
    viewer = Viewer(
        name="local user" if insecure_local else "token",
        actions=ALL_ACTIONS,
        organizations=frozenset(organizations) if organizations else None,
        may_see_payloads=payloads,
        may_see_output=not hide_output,
    )
    authorizer: Authorizer
    key = _secret(session_key_file, "--session-key-file") if session_key_file is not None else ""
    if token_file is not None:
        authorizer = TokenSignIn(_secret(token_file, "--token-file"), viewer)
    elif user_header is not None:
        authorizer = TrustedProxy(networks, user_header, viewer, key)
    elif oidc_issuer and oidc_client_id and oidc_client_secret_file and public_url:
        authorizer = _oidc_sign_in(
            issuer=oidc_issuer,
            client_id=oidc_client_id,
            client_secret=_secret(oidc_client_secret_file, "--oidc-client-secret-file"),
            public_url=public_url,
            secret=key,
            rules=ClaimRules(
                groups=frozenset(oidc_groups or ()),
                read_only_groups=frozenset(oidc_read_only_groups or ()),
                anyone=oidc_anyone,
                group_claim=oidc_group_claim,
                user_claim=oidc_user_claim or "",
            ),
            viewer=viewer,
            ca_file=oidc_ca_file or "",
            scopes=oidc_scopes or (),
        )
    else:
        authorizer = LocalOnly(viewer)
    check_schema(open_engine())
    settings = load_settings()
    add_working_directory()  # for the application, which is imported when somebody runs a schedule's job
    dashboard = app(
        authorize=ReadOnly(authorizer) if read_only else authorizer,
        hosts=[*hosts, *(LOOPBACK_HOSTS if local else ())],
        database=settings.database,
        namespace=settings.namespace,
        secure_cookies=not insecure_local and not (public_url or "").startswith("http:"),
    )
    if not with_progress:
        serve(dashboard, host, port)
        return
    of_jobs = progress(
        origins=progress_origins or (),
        messages=progress_messages,
        database=settings.database,
        most_streams=PROGRESS_STREAMS,
    )
    serve(WithProgress(dashboard, of_jobs), host, port)


def _check_progress(*, given: bool, used: bool) -> None:
    """Check that the options about progress are of some use."""
    if given and not used:
        usage_error("--progress-origin and --progress-messages are for --progress")


def _check_oidc(issuer: str | None, needed: dict[str, str | None], others: dict[str, object]) -> None:
    """Check that the options of OpenID Connect are given together, or not at all."""
    if issuer is None:
        for option, given in others.items():
            if given:
                usage_error(f"{option} is for --oidc-issuer")
        return
    missing = [option for option, given in needed.items() if not given]
    if missing:
        usage_error(f"--oidc-issuer needs {', '.join(missing)}")
    by_group = bool(others["--oidc-group"] or others["--oidc-read-only-group"])
    if by_group == others["--oidc-anyone"]:
        usage_error(
            "decide who may look: --oidc-group NAME or --oidc-read-only-group NAME (the members of a group), or "
            "--oidc-anyone (everybody whom the provider knows)"
        )


def _oidc_sign_in(**options: Any) -> Authorizer:
    try:
        from spoke_jobs.web.oidc_sign_in import OidcSignIn
    except ModuleNotFoundError as error:
        fail(f"--oidc-issuer needs the Python package {error.name!r}: pip install 'spoke-jobs[web,oidc]'")
    return OidcSignIn(**options)


def _host_of(public_url: str) -> str:
    """Return the host of the dashboard's public URL, as browsers name it."""
    problem = url_problem(public_url)
    if problem:
        usage_error(f"--public-url can't be used: {problem}")
    parts = urlsplit(public_url)
    if parts.path.strip("/"):
        usage_error("--public-url has a path: the dashboard is served at the root of its host")
    return parts.netloc.rpartition("@")[2].removesuffix(f":{parts.port}").lower()


def _secret(path: str, option: str) -> SecretFile:
    try:
        return SecretFile(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{option} {path} can't be used ({reason}): name a file that has a secret") from None
