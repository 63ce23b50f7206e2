"""From Xata's credentials to the address of a database. Pure; what comes out is a secret."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from consumer.providers.xata.bodies import Login

DEFAULT_DATABASE: Final = "xata"
DEFAULT_PORT: Final = 5432


def connection_url(login: Login, host: str | None) -> str:
    """The address with TLS demanded, except on loopback. `host` is where the branch is when Xata does not say."""
    given = login.connection_string or _put_together(login, login.hostname or host)
    parts = urlsplit(given)
    query = dict(parse_qsl(parts.query))
    if "sslmode" not in query and not _loopback(parts.hostname or ""):
        query["sslmode"] = "require"
    whole = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return f"{whole}?{urlencode(query)}" if query else whole


def host_of(branch_id: str, region: str, api_url: str) -> str | None:
    """`<branch>.<region>.xata.tech`, the gateway of the region; None where the API is no `api.` of anything."""
    api_host = urlsplit(api_url).hostname or ""
    domain = api_host.removeprefix("api.")
    return f"{branch_id}.{region}.{domain}" if domain != api_host else None


def _put_together(login: Login, host: str | None) -> str:
    user, password = quote(login.username, safe=""), quote(login.password, safe="")
    return (
        f"postgresql://{user}:{password}@{host or ''}:{login.port or DEFAULT_PORT}/{login.dbname or DEFAULT_DATABASE}"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
