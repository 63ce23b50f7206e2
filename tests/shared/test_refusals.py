"""What a refused look or declaration means: missing, not allowed, otherwise, or only not up yet."""

import pytest

from shared import refusals

HOME_NODE = "NOT_FOUND - home node 'usher@localhost' of durable queue 'usher.log' in vhost '/' is down or inaccessible"


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (404, "NOT_FOUND - no queue 'usher.log' in vhost '/'", "run `usher topology`"),
        (404, HOME_NODE, "not up"),
        (403, "ACCESS_REFUSED", "read or write rights"),
        (541, "INTERNAL_ERROR", "INTERNAL_ERROR"),
    ],
)
def test_what_was_not_seen_is_said_with_what_to_do(code: int, text: str, said: str) -> None:
    assert said in str(refusals.not_seen(code, text, "queue usher.log"))


def test_a_queue_whose_node_is_down_is_not_called_missing() -> None:
    assert "missing" not in str(refusals.not_seen(404, HOME_NODE, "queue usher.log"))
