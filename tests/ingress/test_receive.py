"""The answers of the ingress, over HTTP and with the real broker behind it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import structlog

from shared.events import decode
from tests.ingress.sender import Answered, Sender, raw_exchange
from tests.ingress.signing import hookdeck_headers, svix_headers, user_body
from tests.support.broker import depth, drain
from tests.support.eventually import eventually

HEAD = b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n"


def problem(answered: Answered) -> str:
    """The code of a problem+json answer, which has nothing but the four fields."""
    assert answered.headers["Content-Type"] == "application/problem+json"
    body = json.loads(answered.body)
    assert set(body) == {"type", "title", "status", "code"}
    assert body["status"] == answered.status
    return str(body["code"])


async def test_a_verified_webhook_is_answered_202_and_its_event_is_in_the_queues(
    ingress: Sender, amqp_url: str
) -> None:
    answered = await ingress.send("user.created", message_id="msg_a", first_name="Ada")

    assert (answered.status, answered.body) == (202, "")
    (stored,) = await drain(amqp_url, "usher.sync_user")
    event = decode(stored.body)
    assert (event.id, event.type, event.subject) == ("msg_a", "user.created", "user_1")
    assert await depth(amqp_url, "usher.provision_database") == 1


async def test_the_message_has_the_properties_of_the_contract(ingress: Sender, amqp_url: str) -> None:
    await ingress.send("user.updated", message_id="msg_a")

    (stored,) = await drain(amqp_url, "usher.sync_user")
    timestamp = stored.properties.pop("timestamp")
    assert stored.properties == {
        "content_type": "application/cloudevents+json",
        "message_id": "msg_a",
        "type": "user.updated",
        "app_id": "usher",
        "delivery_mode": 2,
        "expiration": None,
    }
    assert timestamp == decode(stored.body).time.replace(microsecond=0)
    assert stored.headers["attempt"] == 1


async def test_a_relayed_webhook_is_answered_202_with_the_id_that_svix_signed(ingress: Sender, amqp_url: str) -> None:
    body = user_body()
    headers = hookdeck_headers(body) + svix_headers(body, message_id="msg_old", timestamp=1_700_000_000)

    assert (await ingress.post(body, headers)).status == 202
    (stored,) = await drain(amqp_url, "usher.sync_user")
    assert decode(stored.body).id == "msg_old"


async def test_a_type_that_usher_does_not_carry_is_answered_204_and_stored_nowhere(
    ingress: Sender, amqp_url: str
) -> None:
    answered = await ingress.send("session.created")

    assert (answered.status, answered.body) == (204, "")
    for queue in ("usher.sync_user", "usher.unrouted", "usher.ingress.dead"):
        assert await depth(amqp_url, queue) == 0


async def test_a_genuine_but_unreadable_webhook_is_kept_aside_and_not_sent_again(
    ingress: Sender, amqp_url: str
) -> None:
    body = b'{"type": "user.created", "data": {}}'
    answered = await ingress.post(body, svix_headers(body, message_id="msg_odd"))

    assert answered.status == 202
    assert answered.headers["webhook-delivery"] == "abort-message"
    (kept,) = await drain(amqp_url, "usher.ingress.dead")
    assert kept.body == body
    assert kept.headers["reason"] == "unreadable"
    assert kept.headers["error"] == "data.id is missing"
    assert kept.headers["first_failed_at"].endswith("Z")
    assert (kept.properties["message_id"], kept.properties["delivery_mode"]) == ("msg_odd", 2)


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        # Signed when the test runs: collection may be long ago by then.
        (list, "missing"),
        (lambda: svix_headers(b"{}")[:2], "missing"),
        (lambda: [*svix_headers(b"{}")[:2], ("svix-signature", "garbage")], "malformed"),
        (lambda: svix_headers(b"{}") + svix_headers(b"{}"), "malformed"),
        (lambda: svix_headers(b"other"), "forged"),
        (lambda: svix_headers(b"{}", timestamp=1_700_000_000), "stale"),
        (lambda: svix_headers(b"{}", timestamp=4_000_000_000), "future"),
    ],
)
async def test_what_is_not_proven_is_answered_401_with_the_reason(
    cut_off_ingress: Sender, signed: Callable[[], list[tuple[str, str]]], code: str
) -> None:
    answered = await cut_off_ingress.post(b"{}", signed())
    assert answered.status == 401
    assert problem(answered) == code


async def test_a_body_over_the_limit_is_answered_413_before_it_is_sent(cut_off_ingress: Sender) -> None:
    # Only the head is sent: the answer cannot have waited for the body.
    answer = await raw_exchange(cut_off_ingress.port, [HEAD + b"Content-Length: 1048577\r\n\r\n"])
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_over_the_limit_is_answered_413_before_its_end(cut_off_ingress: Sender) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = await raw_exchange(cut_off_ingress.port, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *([chunk] * 17)])
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_of_exactly_the_limit_is_read(cut_off_ingress: Sender) -> None:
    assert problem(await cut_off_ingress.post(b"x" * 1_048_576)) == "missing"


async def test_a_chunked_webhook_is_as_good_as_any(ingress: Sender) -> None:
    body = user_body()

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:10]
        yield body[10:]

    assert (await ingress.post(chunks(), svix_headers(body))).status == 202


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_answered_405(cut_off_ingress: Sender, method: str) -> None:
    answered = await cut_off_ingress.request(method, "/webhooks/clerk")
    assert (answered.status, answered.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert problem(answered) == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/clerk/", "/metrics", "/readyz", "/%00", "/webhooks/%ff"])
async def test_other_paths_are_answered_404(cut_off_ingress: Sender, path: str) -> None:
    answered = await cut_off_ingress.request("POST", path, b"{}")
    assert answered.status == 404
    assert problem(answered) == "not_found"


async def test_a_compressed_body_is_answered_415_and_never_unpacked(cut_off_ingress: Sender) -> None:
    body = gzip.compress(user_body())
    answered = await cut_off_ingress.post(body, [*svix_headers(body), ("Content-Encoding", "gzip")])
    assert answered.status == 415
    assert problem(answered) == "compressed"


BROKEN = [
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: -5\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n",
    HEAD + b"Content-Length: 10\r\n\r\nabc",
    HEAD + b"Content-Encoding: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"svix-id: \xff\xfe\r\nsvix-timestamp: \x80\r\nsvix-signature: \xc3\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"svix-id: a\x00b\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"Expect: nonsense\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"Content-Type: \xff/\xff; charset=nonsense\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"".join(b"x-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
    HEAD + b"x-long: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /webhooks/clerk HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST http://[::1/webhooks/clerk HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /webhooks/clerk HTTP/1.1\r\nHost: \xff\r\nContent-Length: 0\r\n\r\n",
    b"POST * HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 1000,
]


@pytest.mark.parametrize("request_bytes", BROKEN, ids=range(len(BROKEN)))
async def test_broken_http_never_makes_a_500_nor_harms_the_next_sender(
    cut_off_ingress: Sender, request_bytes: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cut_off_ingress.port)
    writer.write(request_bytes)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(65536), 20)
    writer.close()

    assert answer == b"" or answer.split(b" ")[1][:1] == b"4"
    assert problem(await cut_off_ingress.post(b"")) == "missing"


async def test_what_is_not_even_http_leaves_no_address_in_the_log(
    cut_off_ingress: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw_exchange(cut_off_ingress.port, [HEAD + b"Content-Length: marker\r\n\r\n"])
    assert b" 400 " in answer
    assert "127.0.0.1" not in caplog.text
    assert "marker" not in caplog.text


@pytest.mark.parametrize("end", [b"nonsense\r\n", b""], ids=["broken chunk", "hang-up"])
async def test_a_body_that_breaks_off_while_it_is_read_is_the_senders_fault(
    cut_off_ingress: Sender, end: bytes
) -> None:
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", cut_off_ingress.port)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        # From here on the ingress waits for the body.
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"5\r\nabcde\r\n" + end)
        writer.write_eof()
        writer.close()
        (line,) = await eventually(lambda: [line for line in lines if line["event"] == "webhook_received"])
    assert (line["status"], line["problem"]) == (400, "broken")


async def test_a_sender_that_is_too_slow_is_answered_408(
    cut_off_ingress: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.receive.BODY_TIMEOUT_S", 0.2)
    answer = await raw_exchange(cut_off_ingress.port, [HEAD + b"Content-Length: 10\r\n\r\nabc"])
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_many_large_bodies_at_once_are_refused_while_small_ones_are_still_read(
    cut_off_ingress: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.receive.LARGE_BODIES_BYTES", 300_000)
    half = HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 190_000
    port = cut_off_ingress.port
    _reader, holding = await asyncio.open_connection("127.0.0.1", port)
    holding.write(half)
    await holding.drain()

    async def crowded() -> bytes:
        answer = await raw_exchange(port, [half])
        return answer if b" 503 " in answer else b""

    answer = await eventually(crowded)
    assert b"Retry-After: 5" in answer
    assert (await cut_off_ingress.post(b"x" * 16_000, [])).status == 401

    holding.close()
    await holding.wait_closed()

    async def read_again() -> bool:
        return (await cut_off_ingress.post(b"x" * 290_000, [])).status == 401

    await eventually(read_again)


async def test_deeply_nested_json_is_kept_aside(ingress: Sender, amqp_url: str) -> None:
    body = b"[" * 500_000
    assert (await ingress.post(body, svix_headers(body))).status == 202
    assert await depth(amqp_url, "usher.ingress.dead") == 1


async def test_a_bug_is_answered_503_so_that_the_webhook_is_sent_again(
    ingress: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("ingress.receive.normalize", broken)
    answered = await ingress.send()
    assert (answered.status, answered.headers["Retry-After"]) == (503, "5")


async def test_answers_do_not_tell_strangers_what_runs_here(ingress: Sender) -> None:
    for answered in (await ingress.send(), await ingress.post(b""), await ingress.request("GET", "/")):
        assert answered.headers["Server"] == "usher"


def _request(message_id: str, *, version: bytes = b"1.1", more: bytes = b"") -> bytes:
    body = user_body()
    signed = svix_headers(body, message_id=message_id)
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in signed)
    head = b"POST /webhooks/clerk HTTP/%s\r\nHost: x\r\n%s%sContent-Length: %d\r\n\r\n"
    return head % (version, more, lines, len(body)) + body


async def test_a_stored_webhook_keeps_its_connection_open_for_the_next_one(ingress: Sender) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    for message_id in ("msg_a", "msg_b"):
        writer.write(_request(message_id))
        status, *headers = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).rstrip().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in headers)
        assert status == b"HTTP/1.1 202 Accepted"
        assert fields.keys() == {b"Content-Length", b"Date", b"Server"}
        assert (fields[b"Content-Length"], fields[b"Server"]) == (b"0", b"usher")
        age = datetime.now(UTC) - parsedate_to_datetime(fields[b"Date"].decode())
        assert abs(age) < timedelta(minutes=1)
    writer.close()


@pytest.mark.parametrize(("version", "more"), [(b"1.1", b"Connection: close\r\n"), (b"1.0", b"")])
async def test_a_sender_that_wants_its_connection_closed_is_answered_and_left(
    ingress: Sender, version: bytes, more: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(_request("msg_a", version=version, more=more))
    answer = await asyncio.wait_for(reader.read(-1), 20)  # to the end

    assert answer.startswith(b"HTTP/%s 202 Accepted\r\n" % version)
    assert version == b"1.0" or b"\r\nConnection: close\r\n" in answer
    writer.close()


async def test_a_sender_of_http_1_0_that_keeps_its_connection_is_told_so_in_its_own_version(ingress: Sender) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(_request("msg_a", version=b"1.0", more=b"Connection: keep-alive\r\n"))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    assert answer.startswith(b"HTTP/1.0 202 Accepted\r\n")
    assert b"\r\nConnection: keep-alive\r\n" in answer
    writer.close()


async def test_there_is_one_log_line_per_webhook_with_ids_only(ingress: Sender) -> None:
    person = {
        "first_name": "Ada-Marker",
        "primary_email_address_id": "e",
        "email_addresses": [{"id": "e", "email_address": "marker@example.org"}],
    }
    with structlog.testing.capture_logs() as lines:
        await ingress.send("user.created", message_id="msg_a", **person)
        await ingress.send("email.created", message_id="msg_b", otp="marker")
        await ingress.post(b"marker")

    received = [line for line in lines if line["event"] == "webhook_received"]
    assert len(lines) == len(received) == 3
    assert [(line["decision"], line["status"], line["id"], line["type"]) for line in received] == [
        ("published", 202, "msg_a", "user.created"),
        ("ignored", 204, "msg_b", "email.created"),
        ("refused", 401, None, "none"),
    ]
    assert received[0]["user_id"] == "user_1"
    assert "marker" not in repr(lines).lower()
    assert "127.0.0.1" not in repr(lines)


async def test_the_metrics_count_answers_and_refusals(ingress: Sender) -> None:
    await ingress.send()
    await ingress.send("session.created")
    await ingress.post(b"{}")
    await ingress.request("GET", "/")

    labels = 'decision="published",mode="svix",problem="none",status="202",type="user.created"'
    assert await ingress.metric(f"usher_webhooks_total{{{labels}}}") == 1
    labels = 'decision="ignored",mode="svix",problem="none",status="204",type="other"'
    assert await ingress.metric(f"usher_webhooks_total{{{labels}}}") == 1
    labels = 'decision="refused",mode="svix",problem="missing",status="401",type="none"'
    assert await ingress.metric(f"usher_webhooks_total{{{labels}}}") == 1
    assert await ingress.metric('usher_http_refused_total{status="404"}') == 1
    assert await ingress.metric("usher_publish_seconds_count") == 1
    assert await ingress.metric("usher_publish_in_flight") == 0
    assert await ingress.metric("usher_broker_link_open") == 1
