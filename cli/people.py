"""Made-up people and what Clerk would say about them.

In: a user id, an event type, a moment. Out: the JSON of a webhook in Clerk's own shape, every field of it.
Promise: the same user id is always the same person; nobody here exists.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 27
INSTANCE_ID: Final = "ins_2fUsherMadeUpInstance00000"
USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

# People of the made-up past signed up between these moments: before anything that is sent now.
SIGNED_UP_FROM_MS: Final = 1_704_067_200_000  # 2024-01-01
SIGNED_UP_SPAN_MS: Final = 540 * 86_400_000

FIRST_NAMES: Final = (
    *("Ada", "Amélie", "Björn", "Chidi", "Chloé", "Diego", "Élodie", "Fatima", "Freya", "Grace", "Hana", "Igor"),
    *("Imani", "İpek", "Jorge", "Kenji", "Lakshmi", "Liam", "Linh", "Łukasz", "Mateo", "Nadia", "Noor", "Olu"),
    *("Priya", "Quentin", "Rosa", "Sven", "Søren", "Tariq", "Uma", "Wei", "Yara", "Zoë", "太郎", "Ольга"),
)
LAST_NAMES: Final = (
    *("Almeida", "Andersson", "Banerjee", "Çelik", "Costa", "Dubois", "Eriksen", "Fernández", "García", "Haddad"),
    *("Ivanova", "Jansen", "Kim", "Kowalski", "Lovelace", "Müller", "Nguyễn", "O'Brien", "Okafor", "Olsen", "Patel"),
    *("Rossi", "Sato", "Silva", "Smith", "Svensson", "Tanaka", "van der Berg", "Wang", "Özdemir", "Zhang", "山田"),
)
# Public addresses of institutes and name servers, one per country: so that a country can be found for each.
CLIENT_ADDRESSES: Final = (
    *("81.2.69.160", "193.0.6.139", "192.134.5.5", "8.8.8.8", "1.1.1.1", "200.160.2.3", "196.216.2.6", "133.11.0.1"),
    *("141.30.0.1", "163.152.6.2", "129.132.1.1", "130.237.28.40", "137.132.1.1", "2a01:4f8::1", "41.204.161.1"),
)


@dataclass(frozen=True, slots=True)
class Person:
    user_id: str
    first_name: str
    last_name: str
    email: str
    former_email: str | None
    username: str | None
    phone_number: str | None
    external_id: str | None
    created_at_ms: int
    client_address: str


def new_user_id(random: Random) -> str:
    """An id as Clerk makes them: `user_` and 27 characters of base62."""
    return f"user_{_base62(random)}"


def person(user_id: str) -> Person:
    """The person behind a user id: always the same one."""
    random = Random(hashlib.sha256(user_id.encode()).digest())  # noqa: S311 - a made-up person, no secret
    first_name, last_name = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    handle = f"person{random.randrange(10**8):08}"
    return Person(
        user_id=user_id,
        first_name=first_name,
        last_name=last_name,
        email=f"{handle}@example.com",
        former_email=random.choice((f"{handle}@example.org", None, None)),
        username=random.choice((handle, None)),
        # +1 555 01xx numbers are set aside for fiction.
        phone_number=random.choice((f"+1{random.randrange(201, 990)}55501{random.randrange(100):02}", None)),
        external_id=random.choice((f"crm-{random.randrange(10**6)}", None, None, None)),
        created_at_ms=SIGNED_UP_FROM_MS + random.randrange(SIGNED_UP_SPAN_MS),
        client_address=random.choice(CLIENT_ADDRESSES),
    )


def webhook_body(user_id: str, event_type: str, at_ms: int, *, region: str | None = None) -> bytes:
    """The webhook that Clerk would send about this person at `at_ms` (milliseconds).

    A creation always says the same about the person. An update is later (`updated_at` is `at_ms`) and shows it: another
    photo and another last name. `region` is what the user asks for, in the public metadata.
    """
    somebody = person(user_id)
    return json.dumps(
        {
            "data": _data(somebody, event_type, at_ms, region),
            "event_attributes": {"http_request": {"client_ip": somebody.client_address, "user_agent": USER_AGENT}},
            "instance_id": INSTANCE_ID,
            "object": "event",
            "timestamp": at_ms,
            "type": event_type,
        },
        ensure_ascii=False,
    ).encode()


def _data(somebody: Person, event_type: str, at_ms: int, region: str | None) -> dict[str, Any]:
    match event_type:
        case "user.created":
            return _user(somebody, somebody.created_at_ms + 50, somebody.last_name, region)
        case "user.updated":
            return _user(somebody, at_ms, _later_last_name(somebody, at_ms), region)
        case "user.deleted":
            erased = {"deleted": True, "id": somebody.user_id, "object": "user"}
            return erased | ({"external_id": somebody.external_id} if somebody.external_id else {})
        case _:
            return _something_else(somebody, event_type, at_ms)


def _later_last_name(somebody: Person, at_ms: int) -> str:
    others = [name for name in LAST_NAMES if name != somebody.last_name]
    return others[at_ms % len(others)]


def _user(somebody: Person, updated_at_ms: int, last_name: str, region: str | None) -> dict[str, Any]:
    random = Random(f"ids of {somebody.user_id}")  # noqa: S311 - as in person
    emails = list(_emails(somebody, random))
    phones = list(_phones(somebody, random))
    photo_url = f"https://img.clerk.com/{somebody.user_id}?v={updated_at_ms}"
    return {
        "id": somebody.user_id,
        "object": "user",
        "external_id": somebody.external_id,
        "username": somebody.username,
        "first_name": somebody.first_name,
        "last_name": last_name,
        "locale": None,
        "image_url": photo_url,
        "profile_image_url": photo_url,
        "has_image": True,
        # The primary address is the last of the list, as after a change: never take the first.
        "primary_email_address_id": emails[-1]["id"],
        "primary_phone_number_id": phones[-1]["id"] if phones else None,
        "primary_web3_wallet_id": None,
        "email_addresses": emails,
        "phone_numbers": phones,
        "public_metadata": {"region": region} if region else {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "created_at": somebody.created_at_ms,
        "updated_at": updated_at_ms,
        **_standing(updated_at_ms),
    }


def _standing(updated_at_ms: int) -> dict[str, Any]:
    """The rest of Clerk's user: how the person signs in and stands, the same for all."""
    return {
        **{name: [] for name in ("web3_wallets", "passkeys", "external_accounts")},
        **{name: [] for name in ("saml_accounts", "enterprise_accounts", "organization_memberships")},
        "password_enabled": True,
        "password_last_updated_at": None,
        **{f"{name}_enabled": False for name in ("two_factor", "totp", "backup_code")},
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "last_sign_in_at": updated_at_ms,
        "last_active_at": updated_at_ms - updated_at_ms % 86_400_000,
        "banned": False,
        "locked": False,
        "deprovisioned": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "legal_accepted_at": None,
        "bypass_client_trust": False,
    }


def _emails(somebody: Person, random: Random) -> Iterator[dict[str, Any]]:
    for address in filter(None, (somebody.former_email, somebody.email)):
        yield {
            "id": f"idn_{_base62(random)}",
            "object": "email_address",
            "email_address": address,
            "reserved": False,
            "matches_sso_connection": False,
            **_verified(somebody, "email_code"),
        }


def _phones(somebody: Person, random: Random) -> Iterator[dict[str, Any]]:
    if somebody.phone_number:
        yield {
            "id": f"idn_{_base62(random)}",
            "object": "phone_number",
            "phone_number": somebody.phone_number,
            "reserved_for_second_factor": False,
            "default_second_factor": False,
            "reserved": False,
            "backup_codes": None,
            **_verified(somebody, "phone_code"),
        }


def _verified(somebody: Person, strategy: str) -> dict[str, Any]:
    at_ms = somebody.created_at_ms
    proof = {"status": "verified", "strategy": strategy, "attempts": 1, "expire_at": at_ms + 600_000}
    return {"verification": proof, "linked_to": [], "created_at": at_ms, "updated_at": at_ms}


def _something_else(somebody: Person, event_type: str, at_ms: int) -> dict[str, Any]:
    noun = event_type.partition(".")[0]
    return {
        "id": f"{noun[:4]}_{_base62(Random(f'{event_type} {somebody.user_id}'))}",  # noqa: S311 - as in person
        "object": noun,
        "user_id": somebody.user_id,
        "created_at": at_ms,
        "updated_at": at_ms,
    }


def _base62(random: Random) -> str:
    return "".join(random.choices(BASE62, k=ID_LENGTH))
