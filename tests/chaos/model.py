"""What must be in the tables in the end, computed from the accepted webhooks alone."""

import json
from dataclasses import dataclass

from cli.people import webhook_body
from cli.posting import Webhook

# Usher's order of a user's events: a deletion beats every version, then the greater id.
Key = tuple[bool, int, str]


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared of a user's row: when Clerk last changed it, and what that change shows."""

    updated_at_ms: int
    last_name: str


@dataclass(frozen=True, slots=True)
class Model:
    """By user: the key of the greatest event, the row of who lives, the state of the database of who asked for one."""

    keys: dict[str, Key]
    rows: dict[str, Row]
    databases: dict[str, str]


def key_of(webhook: Webhook) -> Key:
    if webhook.type == "user.deleted":
        return True, 0, webhook.message_id
    return False, _row_of(webhook).updated_at_ms, webhook.message_id


def model_of(synced: list[Webhook], provisioned: list[Webhook]) -> Model:
    """From what each effect had to apply."""
    greatest: dict[str, Webhook] = {}
    for webhook in synced:
        before = greatest.get(webhook.user_id)
        if before is None or key_of(before) < key_of(webhook):
            greatest[webhook.user_id] = webhook
    gone = {webhook.user_id for webhook in provisioned if webhook.type == "user.deleted"}
    wished = {webhook.user_id for webhook in provisioned if webhook.type == "user.created"}
    living = {user: webhook for user, webhook in greatest.items() if webhook.type != "user.deleted"}
    return Model(
        keys={user: key_of(webhook) for user, webhook in greatest.items()},
        rows={user: _row_of(webhook) for user, webhook in living.items()},
        databases=dict.fromkeys(wished, "ready") | dict.fromkeys(gone, "deleted"),
    )


def _row_of(webhook: Webhook) -> Row:
    user = json.loads(webhook_body(webhook.user_id, webhook.type, webhook.at_ms))["data"]
    return Row(user["updated_at"], user["last_name"])
