"""Addresses of databases on one Postgres server, from the address of its admin. Pure."""

from urllib.parse import quote, urlsplit


def at_database(url: str, name: str) -> str:
    """The same login at another database. Put together by hand: urlunsplit loses the slashes of an empty host."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{quote(name, safe='')}{query}"


def host_of(url: str) -> str | None:
    """Host and port without the login; None for a Unix socket."""
    return urlsplit(url).netloc.rpartition("@")[2] or None
