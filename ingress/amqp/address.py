"""An amqp:// or amqps:// address, taken apart once. Its query takes the same words as in the consumers' client.

`heartbeat` (seconds, 0: none), `name`, `auth=external`, and for amqps `cafile`, `capath`, `cadata` (base64),
`certfile`, `keyfile`, `no_verify_ssl=1`.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from shared import tls

DEFAULT_PORTS: Final = {"amqp": 5672, "amqps": 5671}
MAX_HEARTBEAT_S: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is and how to log in there."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    mechanism: str
    heartbeat_s: int
    name: str
    tls: Mapping[str, str] | None = field(repr=False)

    @classmethod
    def of(cls, address: str, *, heartbeat_s: int, name: str) -> "Address":
        """`heartbeat_s` and `name` hold where the address itself says nothing."""
        url = URL(address)
        return cls(
            host=url.host or "localhost",
            port=url.port or DEFAULT_PORTS[url.scheme],
            vhost=url.path[1:].replace("%2F", "/") or "/",
            user=url.user or "guest",
            password=url.password or "guest",
            mechanism=url.query.get("auth", "plain").upper(),
            heartbeat_s=_seconds(url.query.get("heartbeat", ""), heartbeat_s),
            name=url.query.get("name", name),
            tls=dict(url.query) if url.scheme == "amqps" else None,
        )

    def login(self) -> str:
        """The answer to the broker's question who we are (SASL PLAIN; EXTERNAL has it from the certificate)."""
        return "" if self.mechanism == "EXTERNAL" else f"\0{self.user}\0{self.password}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """None without TLS.

        Raises:
            OSError, ValueError: a certificate or key cannot be read; settings have looked, but files change.
        """
        return None if self.tls is None else tls.context(self.tls)


def _seconds(text: str, otherwise: int) -> int:
    return min(int(text), MAX_HEARTBEAT_S) if text.isascii() and text.isdecimal() else otherwise
