import json
import re
from random import Random
from typing import Any

import pytest

from cli.people import new_user_id, webhook_body

CLERK_USER_FIELDS = """
    id object external_id primary_email_address_id primary_phone_number_id primary_web3_wallet_id username first_name
    last_name public_metadata email_addresses phone_numbers web3_wallets passkeys password_enabled two_factor_enabled
    totp_enabled backup_code_enabled mfa_enabled_at mfa_disabled_at external_accounts saml_accounts enterprise_accounts
    last_sign_in_at banned locked lockout_expires_in_seconds verification_attempts_remaining created_at updated_at
    delete_self_enabled create_organization_enabled last_active_at legal_accepted_at
"""
NOW_MS = 1_763_650_000_123


def data(user_id: str, event_type: str, at_ms: int = NOW_MS, region: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(webhook_body(user_id, event_type, at_ms, region=region))["data"]
    return found


def test_a_new_user_id_looks_like_clerks() -> None:
    assert re.fullmatch(r"user_[0-9A-Za-z]{27}", new_user_id(Random(1)))


def test_the_same_user_is_always_the_same_person() -> None:
    first, second = (data("user_ada", "user.created", at_ms) for at_ms in (NOW_MS, NOW_MS + 10_000))

    assert first == second


def test_two_users_are_two_people() -> None:
    emails = {data(f"user_{number}", "user.created")["email_addresses"][-1]["email_address"] for number in range(100)}

    assert len(emails) == 100


def test_every_field_that_clerk_requires_is_there() -> None:
    assert set(CLERK_USER_FIELDS.split()) <= set(data("user_ada", "user.created"))


def test_the_envelope_is_clerks() -> None:
    body = json.loads(webhook_body("user_ada", "user.created", NOW_MS))

    assert body["object"] == "event"
    assert body["type"] == "user.created"
    assert body["timestamp"] == NOW_MS
    assert body["instance_id"].startswith("ins_")
    assert body["event_attributes"]["http_request"].keys() == {"client_ip", "user_agent"}


@pytest.mark.parametrize("user_id", [f"user_{number}" for number in range(20)])
def test_the_primary_addresses_are_in_the_lists(user_id: str) -> None:
    user = data(user_id, "user.created")

    assert user["primary_email_address_id"] in {email["id"] for email in user["email_addresses"]}
    assert (user["primary_phone_number_id"] is None) == (user["phone_numbers"] == [])


def test_some_people_have_an_address_before_their_primary_one_and_some_lack_a_name_or_a_phone() -> None:
    users = [data(f"user_{number}", "user.created") for number in range(50)]

    assert {len(user["email_addresses"]) for user in users} == {1, 2}
    assert {user["username"] is None for user in users} == {True, False}
    assert {len(user["phone_numbers"]) for user in users} == {0, 1}


def test_an_update_is_later_and_shows_it() -> None:
    created = data("user_ada", "user.created")
    first, second = data("user_ada", "user.updated", NOW_MS), data("user_ada", "user.updated", NOW_MS + 1)

    assert created["updated_at"] < first["updated_at"] < second["updated_at"]
    assert len({created["last_name"], first["last_name"], second["last_name"]}) == 3
    assert created["image_url"] != first["image_url"] != second["image_url"]
    assert created["created_at"] == first["created_at"]


def test_a_deletion_says_no_more_than_clerk_does() -> None:
    assert data("user_ada", "user.deleted").keys() <= {"deleted", "id", "object", "external_id"}


def test_the_region_is_public_metadata() -> None:
    assert data("user_ada", "user.created", region="eu-central-1")["public_metadata"] == {"region": "eu-central-1"}


def test_any_other_type_has_a_body_of_its_own() -> None:
    session = data("user_ada", "session.created")

    assert session["object"] == "session"
    assert session["user_id"] == "user_ada"
