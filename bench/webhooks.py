"""Signed webhooks by the ten thousand: every one of another user, with an id and a signature of its own.

In: a tag and a number. Out: a whole HTTP request as bytes, signed with the standard library in about ten microseconds.
"""

import base64
import hmac
import time
from random import Random
from typing import Final

from cli.people import new_user_id, webhook_body

SIGNING_KEY: Final = b"24 bytes for benchmarks."
SIGNING_SECRET: Final = "whsec_" + base64.b64encode(SIGNING_KEY).decode()
PATH: Final = "/webhooks/clerk"
_PEOPLE: Final = 64
_USER_ID_LENGTH: Final = 27


def user_id(tag: str, number: int) -> str:
    """The id of user `number` of a run, of the length that Clerk's ids have."""
    return "user_" + tag + str(number).zfill(_USER_ID_LENGTH - len(tag))


class Sender:
    """Makes the requests of one run; `tag` keeps its users apart from those of other runs."""

    def __init__(self, tag: str, host: str) -> None:
        self._tag = tag
        self._key = hmac.new(SIGNING_KEY, digestmod="sha256")
        self._bodies = [_template(number) for number in range(_PEOPLE)]
        self._head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Svix-Webhooks/1.62.0\r\nAccept: */*\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        self._stamped_at, self._stamp = 0.0, b""

    def request(self, number: int) -> bytes:
        """The request about user `number`: `user.created`, signed now."""
        body = user_id(self._tag, number).encode().join(self._bodies[number % _PEOPLE])
        message_id = b"msg_%s%d" % (self._tag.encode(), number)
        stamp = self._timestamp()
        signing = self._key.copy()
        signing.update(b"%s.%s.%s" % (message_id, stamp, body))
        return b"%ssvix-id: %s\r\nsvix-timestamp: %s\r\nsvix-signature: v1,%s\r\nContent-Length: %d\r\n\r\n%s" % (
            self._head,
            message_id,
            stamp,
            base64.b64encode(signing.digest()),
            len(body),
            body,
        )

    def _timestamp(self) -> bytes:
        now = time.monotonic()
        if now - self._stamped_at > 1:
            self._stamped_at, self._stamp = now, b"%d" % time.time()
        return self._stamp


def _template(number: int) -> list[bytes]:
    """The body about some person, cut where the user's id stands."""
    somebody = new_user_id(Random(number))  # noqa: S311 - made-up people, no secret
    return webhook_body(somebody, "user.created", int(time.time() * 1000)).split(somebody.encode())
