"""A sender of our own: signs as Svix and as Hookdeck do, with the standard library only."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence

SVIX_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SVIX_SECRET = "whsec_" + base64.b64encode(b"another key of the same sender..").decode()
HOOKDECK_SECRET = "hookdeck_test_secret"

Headers = list[tuple[str, str]]


def svix_signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def svix_headers(
    body: bytes,
    *,
    message_id: str = "msg_1",
    secrets: Sequence[str] = (SVIX_SECRET,),
    timestamp: int | None = None,
    names: str = "svix",
) -> Headers:
    sent = str(int(time.time()) if timestamp is None else timestamp)
    signatures = " ".join(svix_signature(secret, message_id, sent, body) for secret in secrets)
    return [(f"{names}-id", message_id), (f"{names}-timestamp", sent), (f"{names}-signature", signatures)]


def hookdeck_signature(body: bytes, secret: str = HOOKDECK_SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def hookdeck_headers(
    body: bytes,
    *,
    secret: str = HOOKDECK_SECRET,
    prefix: str = "x-hookdeck",
    event_id: str = "evt_1",
) -> Headers:
    return [
        (f"{prefix}-signature", hookdeck_signature(body, secret)),
        (f"{prefix}-eventid", event_id),
        (f"{prefix}-verified", "true"),
    ]


def user_body(kind: str = "user.created", user_id: str = "user_1", **data: object) -> bytes:
    """A small Clerk webhook. `data` is added to the user."""
    now_ms = int(time.time() * 1000)
    user = {"id": user_id, "object": "user", "updated_at": now_ms, "created_at": now_ms, **data}
    envelope = {"type": kind, "object": "event", "data": user, "instance_id": "ins_1", "timestamp": now_ms}
    return json.dumps(envelope).encode()
