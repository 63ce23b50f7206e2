"""The load generator's webhooks are genuine, and no two of them are about one user."""

from datetime import UTC, datetime

from bench.webhooks import SIGNING_SECRET, Sender, user_id
from ingress.verify import Keys, verify
from ingress.webhook import RawWebhook

KEYS = Keys.of(svix_secrets=[SIGNING_SECRET], hookdeck_secrets=[], relay_prefix="x-hookdeck")


def _webhook(request: bytes) -> RawWebhook:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    assert dict(headers)["Content-Length"] == str(len(body))
    return RawWebhook(headers, body)


def test_every_webhook_is_signed_so_that_the_ingress_takes_it() -> None:
    sender = Sender("tag", "127.0.0.1:8080")
    verified = [verify(_webhook(sender.request(number)), KEYS, datetime.now(UTC)) for number in range(100)]
    assert len({webhook.id for webhook in verified}) == 100


def test_each_webhook_is_about_the_user_of_its_number() -> None:
    sender = Sender("tag", "127.0.0.1:8080")
    for number in (0, 1, 64, 99_999):
        assert user_id("tag", number).encode() in sender.request(number)
    assert len(user_id("tag", 7)) == len("user_") + 27
