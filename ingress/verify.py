"""Is this webhook from Clerk? `RawWebhook` in; `VerifiedWebhook` or `SignatureError` out, and nothing else ever.

Direct: a Svix signature over id, time and body, at most five minutes old. Relayed: the relay's signature proves the
body; the Svix signature that Clerk's sender put on it still proves the id, its age waived (relays replay days later).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ingress.webhook import SVIX_PREFIX, Mode, RawWebhook, VerifiedWebhook
from shared.errors import SignatureError, SignatureProblem

TOLERANCE_S: Final = 300
MAX_SIGNATURE_CHARS: Final = 4096  # Svix signs with at most eleven keys: under 1,200 characters
SIGNATURE_BYTES: Final = hashlib.sha256().digest_size

# The names of the three headers: Svix sends one set or the other, never both (FACTS 1.1).
HEADER_SETS: Final = ("svix", "webhook")
_HEADERS: Final = {name: (f"{name}-id", f"{name}-timestamp", f"{name}-signature") for name in HEADER_SETS}

# No full stop: it parts id, time and body in the signed text, so an id with one could be read in two ways.
_ID: Final = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}")
# No sign, fraction, exponent or leading zero: the number has exactly one spelling, the one that was signed.
_TIMESTAMP: Final = re.compile(r"[1-9][0-9]{0,11}")
_LAST_TIMESTAMP_S: Final = 253_402_300_799  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Keys:
    """What signatures are checked with. Several per kind: for rotation, and for several Clerk instances."""

    svix: tuple[bytes, ...] = field(repr=False)
    hookdeck: tuple[bytes, ...] = field(repr=False)
    relay_prefix: str

    @classmethod
    def of(cls, *, svix_secrets: Sequence[str], hookdeck_secrets: Sequence[str], relay_prefix: str) -> "Keys":
        """`svix_secrets` are valid base64, with or without `whsec_`; `hookdeck_secrets` are taken as they are."""
        return cls(
            svix=tuple(base64.b64decode(secret.removeprefix(SVIX_PREFIX)) for secret in svix_secrets),
            hookdeck=tuple(secret.encode() for secret in hookdeck_secrets),
            relay_prefix=relay_prefix.lower(),
        )


def mode_of(webhook: RawWebhook, keys: Keys) -> Mode:
    """Relayed when the relay's signature is there and we could check it; else the Svix signature has to do."""
    relayed = keys.hookdeck and _values(webhook, f"{keys.relay_prefix}-signature")
    return Mode.HOOKDECK if relayed else Mode.SVIX


def verify(webhook: RawWebhook, keys: Keys, now: datetime) -> VerifiedWebhook:
    """Prove the webhook.

    The checks go from what anybody can see to what needs the secret: presence, form, age, signature. So `stale` and
    `future` compare the sender's own clock with ours and say nothing about a signature; in the other order a replayed
    webhook would be told from a forged one. It is Standard Webhooks' order, and the cheapest.

    Raises:
        SignatureError: whatever else is wrong with it.
    """
    if mode_of(webhook, keys) is Mode.HOOKDECK:
        return _verify_relayed(webhook, keys, now)
    return _verify_direct(webhook, keys, now)


@dataclass(frozen=True, slots=True)
class _SvixHeaders:
    id: str
    timestamp: int
    signatures: tuple[bytes, ...]

    @property
    def sent_at(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp, tz=UTC)


def _verify_direct(webhook: RawWebhook, keys: Keys, now: datetime) -> VerifiedWebhook:
    if not keys.svix:
        raise SignatureError(SignatureProblem.MISSING)  # the relay's, without which nothing can be proven
    headers = _svix_headers(webhook)
    age_s = now.timestamp() - headers.timestamp
    if age_s > TOLERANCE_S:
        raise SignatureError(SignatureProblem.STALE)
    if age_s < -TOLERANCE_S:
        raise SignatureError(SignatureProblem.FUTURE)
    _check_svix(headers, webhook.body, keys)
    return VerifiedWebhook(id=headers.id, body=webhook.body, mode=Mode.SVIX, sent_at=headers.sent_at)


def _verify_relayed(webhook: RawWebhook, keys: Keys, now: datetime) -> VerifiedWebhook:
    given = tuple(_relay_signatures(webhook, keys))
    expected = tuple(hmac.digest(key, webhook.body, "sha256") for key in keys.hookdeck)
    if not _any_equal(expected, given):
        raise SignatureError(SignatureProblem.FORGED)
    if keys.svix and any(_values(webhook, f"{name}-signature") for name in HEADER_SETS):
        headers = _svix_headers(webhook)
        _check_svix(headers, webhook.body, keys)
        return VerifiedWebhook(id=headers.id, body=webhook.body, mode=Mode.HOOKDECK, sent_at=headers.sent_at)
    return VerifiedWebhook(id=_relay_word(webhook, keys), body=webhook.body, mode=Mode.HOOKDECK, sent_at=now)


def _relay_word(webhook: RawWebhook, keys: Keys) -> str:
    """The id that the relay vouches for: Svix's where the relay checks Svix for us, else the relay's own.

    With Svix secrets of our own, a `svix-id` without its signature is one that nobody signed.
    """
    prefix = keys.relay_prefix
    if "false" in {value.lower() for value in _values(webhook, f"{prefix}-verified")}:
        raise SignatureError(SignatureProblem.FORGED)
    names = () if keys.svix else tuple(f"{name}-id" for name in HEADER_SETS)
    for name in (*names, f"{prefix}-eventid"):
        if _values(webhook, name):
            return _id(_only(webhook, name))
    raise SignatureError(SignatureProblem.MISSING)


def _svix_headers(webhook: RawWebhook) -> _SvixHeaders:
    """The three headers of the one set that is there, each exactly once and well formed."""
    sets = [name for name in HEADER_SETS if not webhook.headers.keys().isdisjoint(_HEADERS[name])]
    if not sets:
        raise SignatureError(SignatureProblem.MISSING)
    if len(sets) > 1:
        raise SignatureError(SignatureProblem.MALFORMED)
    message_id, timestamp, signature = [_only(webhook, header) for header in _HEADERS[sets[0]]]
    return _SvixHeaders(_id(message_id), _timestamp(timestamp), tuple(_svix_signatures(signature)))


def _check_svix(headers: _SvixHeaders, body: bytes, keys: Keys) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        # Svix signs text; what is none, none of its keys can have signed.
        raise SignatureError(SignatureProblem.FORGED) from None
    signed = b"%s.%d.%s" % (headers.id.encode(), headers.timestamp, body)
    expected = tuple(hmac.digest(key, signed, "sha256") for key in keys.svix)
    if not _any_equal(expected, headers.signatures):
        raise SignatureError(SignatureProblem.FORGED)


def _svix_signatures(header: str) -> Iterator[bytes]:
    """The v1 signatures of `v1,<base64> v1,<base64> v1a,<base64> …`; other versions are passed over."""
    if len(header) > MAX_SIGNATURE_CHARS:
        raise SignatureError(SignatureProblem.MALFORMED)
    entries = [entry.split(",") for entry in header.split(" ")]
    if any(len(entry) != len(("version", "signature")) for entry in entries):
        raise SignatureError(SignatureProblem.MALFORMED)
    of_v1 = [signature for version, signature in entries if version == "v1"]
    if not of_v1:
        raise SignatureError(SignatureProblem.MALFORMED)
    for signature in of_v1:
        yield _signature(signature)


def _relay_signatures(webhook: RawWebhook, keys: Keys) -> Iterator[bytes]:
    """The relay's signature, and the one with its previous secret while that is being replaced."""
    name = f"{keys.relay_prefix}-signature"
    yield _signature(_only(webhook, name))
    if any(_values(webhook, f"{name}-2")):
        yield _signature(_only(webhook, f"{name}-2"))


def _any_equal(expected: Sequence[bytes], given: Sequence[bytes]) -> bool:
    """Whether any pair is equal, in a time that does not tell which."""
    found = False
    for ours in expected:
        for theirs in given:
            found |= hmac.compare_digest(ours, theirs)
    return found


def _signature(text: str) -> bytes:
    """32 bytes from base64 in its one canonical spelling; Python alone would ignore the last character's spare bits."""
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(SignatureProblem.MALFORMED) from None
    if len(signature) != SIGNATURE_BYTES or base64.b64encode(signature).decode() != text:
        raise SignatureError(SignatureProblem.MALFORMED)
    return signature


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise SignatureError(SignatureProblem.MALFORMED)
    return text


def _timestamp(text: str) -> int:
    if not _TIMESTAMP.fullmatch(text) or int(text) > _LAST_TIMESTAMP_S:
        raise SignatureError(SignatureProblem.MALFORMED)
    return int(text)


def _only(webhook: RawWebhook, name: str) -> str:
    """The header's value. Twice is refused: what a proxy checked might be the other one."""
    values = _values(webhook, name)
    if not values:
        raise SignatureError(SignatureProblem.MISSING)
    if len(values) > 1:
        raise SignatureError(SignatureProblem.MALFORMED)
    return values[0]


def _values(webhook: RawWebhook, name: str) -> Sequence[str]:
    return webhook.headers.get(name, ())
