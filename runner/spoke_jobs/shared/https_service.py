"""What holds for requests to services of others over HTTPS: which URLs may be used, and whom TLS trusts."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit


def url_problem(url: str) -> str:
    """Say why nothing may be sent to a URL; empty if it may be used. The text does not contain the URL."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it is not a URL of ASCII characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not a URL"
    if not host or parts.scheme not in ("https", "http"):
        return "it does not begin with https:// and a host"
    if parts.scheme == "http" and not is_this_machine(host):
        return "it begins with http://, which is only for services on the same machine: use https://"
    return ""


def base_url_problem(url: str) -> str:
    """Say the same of a URL to which paths are appended, and which others may read."""
    if problem := url_problem(url):
        return problem
    if set("?#") & set(url):
        return "it has a query or a fragment"
    return "it has a user name" if "@" in urlsplit(url).netloc else ""


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context for clients.

    :param ca_file: CA certificates in PEM form that verify the service; empty for the system's.
    :raises OSError: if the file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
