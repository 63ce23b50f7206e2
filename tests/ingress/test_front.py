"""What is taken off the wire in one step, what is left to aiohttp, and that senders cannot tell the difference."""

import asyncio
import gc
import weakref
from email.utils import parsedate_to_datetime
from typing import cast

import pytest
from aiohttp import web

from ingress import front
from ingress.answer import PUBLISHED, Answer
from ingress.front import Front, Server
from ingress.receive import SMALL_BODY_BYTES, Receiver
from ingress.usual import may_become_usual, usual
from tests.ingress.conftest import StartIngress
from tests.ingress.sender import Sender
from tests.ingress.signing import svix_headers, user_body
from tests.support.broker import depth, drain
from tests.support.eventually import eventually

ROOM = 10**6


def request(message_id: str = "msg_1", *, more: bytes = b"", body: bytes | None = None, sent: bytes = b"") -> bytes:
    """A webhook as Svix sends it; `more`: header lines; `sent`: what goes over the wire instead of the signed body."""
    body = user_body() if body is None else body
    signed = svix_headers(body, message_id=message_id)
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in signed)
    sent = sent or body
    head = b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n%s%sContent-Length: %d\r\n\r\n"
    return head % (more, lines, len(sent)) + sent


def test_a_webhook_as_svix_sends_it_is_usual() -> None:
    body = user_body()
    webhook = usual(request(more=b"Accept: */*\r\nConnection: keep-alive\r\n", body=body), ROOM)
    assert webhook is not None
    assert webhook.body == body
    assert webhook.headers["svix-id"] == ["msg_1"]
    assert webhook.headers["accept"] == ["*/*"]


@pytest.mark.parametrize(
    "data",
    [
        request().replace(b"POST", b"GET"),
        request().replace(b"/webhooks/clerk", b"/webhooks/clerk?a=1"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request() + b"P",
        request(more=b"Connection: close\r\n"),
        request(more=b"Connection: keep-alive\r\nConnection: close\r\n"),
        request(more=b"Transfer-Encoding: chunked\r\n"),
        request(more=b"Content-Encoding: gzip\r\n"),
        request(more=b"Expect: 100-continue\r\n"),
        request(more=b"Upgrade: h2c\r\n"),
        request(more=b"Proxy-Connection: close\r\n"),
        request(more=b"Content-Length: 1\r\n"),
        request().replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"),
        request().replace(b"Content-Length: ", b"Content-Length: +"),
        request().replace(b"Content-Length: ", b"Content-Length:"),
        request().replace(b"Content-Length: ", b"X: "),
        request(more=b"X: a\r\n b\r\n"),
        request(more=b"X : a\r\n"),
        request(more=b": a\r\n"),
        request(more=b"X\r\n"),
        request(more=b"X: \x00\r\n"),
        request(more=b"X: a\nY: b\r\n"),
        request(more=b"X: a\rb\r\n"),
        request(more=b"X: \xc3\xa9\r\n"),
        request(more=b"X_Y: a\r\n"),
        request(more=b"X: " + b"a" * 9000 + b"\r\n"),
        request(body=b" " * (SMALL_BODY_BYTES + 1)),
        request(body=b" " * (SMALL_BODY_BYTES * 10)),
        b"\r\n" + request(),
        b"",
    ],
)
def test_whatever_is_unusual_is_left_to_aiohttp(data: bytes) -> None:
    assert usual(data, ROOM) is None


def test_a_body_beyond_the_limit_is_left_to_aiohttp() -> None:
    body = user_body()
    assert usual(request(body=body), len(body)) is not None
    assert usual(request(body=body), len(body) - 1) is None


def test_every_beginning_of_a_usual_webhook_is_waited_for() -> None:
    whole = request()
    assert all(may_become_usual(whole[:length]) for length in range(len(whole)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"POST /webhooks/clerk HTTP/1.1\r\n" + b"X: a\r\n" * 3000,
        b"POST /webhooks/clerk HTTP/1.1\r\nContent-Length: 999999\r\n\r\n",
        b"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n\r\n",
        request() + b"P",
    ],
)
def test_what_can_become_no_usual_webhook_is_not_waited_for(data: bytes) -> None:
    assert not may_become_usual(data)


async def answers(ingress: Sender, parts: list[bytes], count: int, *, pause_s: float = 0) -> list[bytes]:
    """The heads and bodies of `count` answers on one connection, over which `parts` are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return [await asyncio.wait_for(_answer(reader), 40) for _ in range(count)]
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.partition(b"Content-Length: ")
    return head + await reader.readexactly(int(rest.split(b"\r\n")[0]) if found else 0)


@pytest.mark.parametrize("size", [1, 7, 150, 400])
async def test_a_webhook_in_many_packets_is_as_good_as_any(ingress: Sender, amqp_url: str, size: int) -> None:
    whole = request()
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    (answer,) = await answers(ingress, parts, 1)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert await depth(amqp_url, "usher.sync_user") == 1


async def test_a_webhook_that_comes_slowly_is_as_good_as_any(ingress: Sender, amqp_url: str) -> None:
    whole = request()
    parts = [whole[:20], whole[20:200], whole[200:]]
    (answer,) = await answers(ingress, parts, 1, pause_s=front.HOLD_S * 1.5)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert await depth(amqp_url, "usher.sync_user") == 1


@pytest.mark.parametrize("in_one", [True, False])
async def test_webhooks_sent_before_the_answer_are_answered_in_their_order(
    ingress: Sender, amqp_url: str, *, in_one: bool
) -> None:
    whole = [request("msg_1"), request("msg_2", sent=b"forged"), request("msg_3")]
    found = await answers(ingress, [b"".join(whole)] if in_one else whole, 3)
    assert [answer[9:12] for answer in found] == [b"202", b"401", b"202"]
    assert sorted([message.properties["message_id"] for message in await drain(amqp_url, "usher.sync_user")]) == [
        "msg_1",
        "msg_3",
    ]


async def test_what_is_unusual_on_a_connection_of_usual_ones_is_answered_as_ever(ingress: Sender) -> None:
    chunked = request("msg_2").replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX-Length")
    head, _, body = chunked.partition(b"\r\n\r\n")
    chunked = b"%s\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (head, len(body), body)
    parts = [request("msg_1"), chunked, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", request("msg_3")]
    found = await answers(ingress, parts, 4, pause_s=0.05)
    assert [answer[9:12] for answer in found] == [b"202", b"202", b"404", b"202"]


@pytest.mark.parametrize(
    "kind", [{}, {"sent": b"forged"}, {"body": b'{"type": "session.created"}'}, {"body": b"{}"}], ids=str
)
async def test_senders_are_told_the_same_on_both_ways(ingress: Sender, kind: dict[str, bytes]) -> None:
    sent = request(**kind)  # type: ignore[arg-type] # mypy takes the dictionary for one of message ids, too
    unusual = sent.replace(b"Host: x\r\n", b"Host: x\r\nTE: trailers\r\n")
    one, other = await answers(ingress, [sent, unusual], 2, pause_s=0.1)
    fields, others = _fields(one), _fields(other)
    assert one.split(b"\r\n", 1)[0] == other.split(b"\r\n", 1)[0]
    assert one.partition(b"\r\n\r\n")[2] == other.partition(b"\r\n\r\n")[2]
    apart = abs(parsedate_to_datetime(fields.pop(b"Date")) - parsedate_to_datetime(others.pop(b"Date")))
    assert apart.total_seconds() < 40
    if others.get(b"Content-Type") == "application/octet-stream":
        del others[b"Content-Type"]  # aiohttp names one for nothing, too
    assert fields == others


def _fields(answer: bytes) -> dict[bytes, str]:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name: value.decode() for name, value in (line.split(b": ", 1) for line in lines)}


async def test_a_sender_that_leaves_before_its_answer_harms_nobody(ingress: Sender) -> None:
    for number in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(request(f"msg_{number}"))
        await writer.drain()
        writer.transport.abort()
    assert (await ingress.send(message_id="msg_last")).status == 202

    async def stopped_counting() -> bool:
        return await ingress.metric("usher_publish_in_flight") == 0

    await eventually(stopped_counting)


async def test_a_connection_over_which_nothing_comes_is_closed(
    monkeypatch: pytest.MonkeyPatch, start_ingress: StartIngress
) -> None:
    monkeypatch.setattr("ingress.front.KEEPALIVE_TIMEOUT_S", 0.5)
    async with start_ingress() as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(request())
        assert (await asyncio.wait_for(_answer(reader), 40)).startswith(b"HTTP/1.1 202 ")
        assert await asyncio.wait_for(reader.read(), 40) == b""
        writer.close()


class Wire(asyncio.Transport):
    """A connection on paper."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Desk:
    """Stands in for server, receiver and publisher: each webhook is answered when the test says so."""

    def __init__(self) -> None:
        self.receiver = self.publisher = self
        self.max_body_bytes = ROOM
        self.ready = True
        self.stopping = False
        self.under_way = 0
        self.ours: set[asyncio.Transport] = set()
        self.waiting: list[asyncio.Future[Answer]] = []

    async def accept(self, _webhook: object) -> Answer:
        self.waiting.append(asyncio.get_running_loop().create_future())
        return await self.waiting[-1]

    async def handle(self, _request: web.BaseRequest) -> web.Response:
        return web.Response()

    def begun(self) -> None:
        self.under_way += 1

    def ended(self) -> None:
        self.under_way -= 1


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def connection(desk: Desk) -> tuple[Front, Wire]:
    wire = Wire()
    connection = Front(cast("Server", desk), asyncio.Protocol())
    connection.connection_made(wire)
    return connection, wire


async def test_one_webhook_at_a_time_is_under_way_and_the_next_one_waits_unread(
    desk: Desk, connection: tuple[Front, Wire]
) -> None:
    front_, wire = connection
    front_.data_received(request("msg_1"))
    front_.data_received(request("msg_2")[:50])
    front_.data_received(request("msg_2")[50:])
    assert (len(desk.waiting), desk.under_way, wire.reading) == (1, 1, False)

    desk.waiting[0].set_result(PUBLISHED)
    await asyncio.sleep(0)
    assert (len(desk.waiting), desk.under_way, wire.reading, len(wire.written)) == (2, 1, True, 1)

    desk.waiting[1].set_result(PUBLISHED)
    await asyncio.sleep(0)
    assert (desk.under_way, len(wire.written)) == (0, 2)


@pytest.mark.parametrize("ready", [True, False])
async def test_an_answer_to_whom_has_left_is_dropped(
    desk: Desk, connection: tuple[Front, Wire], *, ready: bool
) -> None:
    front_, wire = connection
    desk.ready = ready
    front_.data_received(request())
    await asyncio.sleep(0)
    wire.ended = "closed"
    front_.connection_lost(None)
    desk.waiting[0].set_result(PUBLISHED)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (wire.written, desk.under_way) == ([], 0)


async def test_who_does_not_read_answers_is_read_no_more_until_he_does(
    desk: Desk, connection: tuple[Front, Wire]
) -> None:
    front_, wire = connection
    front_.pause_writing()
    front_.data_received(request())
    assert (len(desk.waiting), wire.reading) == (0, False)
    front_.resume_writing()
    assert (len(desk.waiting), wire.reading) == (1, True)


async def test_who_never_reads_answers_is_cut_off_in_the_end(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr("ingress.front.KEEPALIVE_TIMEOUT_S", 0.01)
    wire, reader = Wire(), Wire()
    stuffed, idle = (Front(cast("Server", desk), asyncio.Protocol()) for _ in range(2))
    stuffed.connection_made(wire)
    idle.connection_made(reader)
    stuffed.pause_writing()
    await eventually(lambda: wire.ended == "aborted" and reader.ended == "closed")


@pytest.fixture
async def server(desk: Desk) -> Server:
    return Server(cast("Receiver", desk))


async def test_a_webhook_under_way_for_longer_than_connections_may_be_idle_is_answered(
    monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    monkeypatch.setattr("ingress.front.KEEPALIVE_TIMEOUT_S", 1.0)
    wire, front_ = Wire(), Server(cast("Receiver", desk))()
    front_.connection_made(wire)
    front_.data_received(request())
    await asyncio.sleep(1.1)  # whoever would close the connection has had the time to
    assert wire.ended == ""
    desk.waiting[0].set_result(PUBLISHED)
    answered = asyncio.get_running_loop().time()
    await eventually(lambda: wire.written)
    await eventually(lambda: wire.ended == "closed")
    assert asyncio.get_running_loop().time() - answered >= 1.0


@pytest.mark.parametrize("ready", [True, False])
async def test_a_webhook_that_ends_in_a_bug_is_answered_503_and_does_not_keep_the_stop_waiting(
    desk: Desk, server: Server, *, ready: bool
) -> None:
    desk.ready = ready
    wire, front_ = Wire(), server()
    front_.connection_made(wire)
    front_.data_received(request())
    await eventually(lambda: desk.waiting)
    desk.waiting[0].set_exception(RuntimeError("a bug"))
    await eventually(lambda: wire.written)
    assert wire.written[0].startswith(b"HTTP/1.1 503 ")
    await asyncio.wait_for(server.settled(1000), 40)


async def test_a_sender_that_is_not_done_when_reading_stops_is_read_again_once_aiohttp_has_him(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, server: Server
) -> None:
    monkeypatch.setattr("ingress.front.HOLD_S", 0.01)
    wire, front_ = Wire(), server()
    front_.connection_made(wire)
    front_.data_received(request("msg_1")[:-1])
    front_.pause_writing()
    assert not wire.reading
    await eventually(lambda: wire.reading)
    front_.resume_writing()
    front_.data_received(request("msg_1")[-1:])
    await eventually(lambda: wire.written)
    assert desk.waiting == []
    front_.connection_lost(None)


async def test_a_sender_that_sends_a_byte_now_and_then_is_left_to_aiohttp_in_time(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr("ingress.front.HOLD_S", 0.05)
    front_ = server()
    front_.connection_made(Wire())
    whole = request()
    for number in range(len(whole) - 1):
        front_.data_received(whole[number : number + 1])
        await asyncio.sleep(0.01)
        if server.connections:
            break
    assert server.connections
    assert server.ours == set()
    front_.connection_lost(None)


async def test_who_is_idle_at_the_stop_is_hung_up_on_and_who_is_under_way_is_answered_first(
    desk: Desk, server: Server
) -> None:
    idle, busy, stuck = Wire(), Wire(), Wire()
    server().connection_made(idle)
    front_ = server()
    front_.connection_made(busy)
    front_.data_received(request())
    settling = asyncio.create_task(server.settled(1000))
    await eventually(lambda: server.stopping)
    assert (idle.ended, busy.ended) == ("", "")

    desk.waiting[0].set_result(PUBLISHED)
    await asyncio.wait_for(settling, 40)
    assert (idle.ended, busy.ended, len(busy.written)) == ("closed", "closed", 1)

    front_ = server()
    front_.connection_made(stuck)
    server.stopping = False
    front_.data_received(request())
    await asyncio.wait_for(server.settled(0.01), 40)
    desk.waiting[1].set_result(PUBLISHED)
    await asyncio.sleep(0)
    assert (stuck.ended, stuck.written) == ("closed", [])


async def test_what_comes_once_the_stop_has_begun_is_aiohttps(desk: Desk, server: Server) -> None:
    wire, front_ = Wire(), server()
    front_.connection_made(wire)
    front_.data_received(request("msg_1"))
    server.stopping = True
    front_.data_received(request("msg_2"))
    desk.waiting[0].set_result(PUBLISHED)
    await eventually(lambda: len(wire.written) > 1)
    assert (len(server.connections), len(desk.waiting)) == (1, 1)
    assert wire.written[0].startswith(b"HTTP/1.1 202 ")
    front_.connection_lost(None)


async def test_a_webhook_in_pieces_that_is_under_way_stays_ours(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, server: Server
) -> None:
    monkeypatch.setattr("ingress.front.HOLD_S", 0.01)
    front_ = server()
    front_.connection_made(Wire())
    front_.data_received(request()[:50])
    front_.data_received(request()[50:])
    await asyncio.sleep(0.1)
    assert (len(desk.waiting), server.connections) == (1, [])
    front_.connection_lost(None)


async def test_an_answer_to_who_does_not_read_takes_no_next_webhook(desk: Desk, connection: tuple[Front, Wire]) -> None:
    front_, wire = connection
    front_.data_received(request("msg_1"))
    front_.data_received(request("msg_2"))
    front_.pause_writing()
    desk.waiting[0].set_result(PUBLISHED)
    await asyncio.sleep(0)
    assert (len(desk.waiting), len(wire.written), wire.reading) == (1, 1, False)
    front_.resume_writing()
    assert (len(desk.waiting), wire.reading) == (2, True)


async def test_a_webhook_whose_work_gives_way_for_a_turn_is_answered(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, connection: tuple[Front, Wire]
) -> None:
    async def accept(_webhook: object) -> Answer:
        await asyncio.sleep(0)
        return PUBLISHED

    monkeypatch.setattr(desk, "accept", accept)
    front_, wire = connection
    front_.data_received(request())
    await eventually(lambda: wire.written)


async def test_a_connection_on_its_way_out_is_handed_to_nobody(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr("ingress.front.HOLD_S", 0.01)
    wire, front_ = Wire(), server()
    front_.connection_made(wire)
    front_.data_received(request()[:50])
    wire.close()
    await asyncio.sleep(0.1)
    assert server.connections == []
    front_.connection_lost(None)


async def test_nothing_is_left_of_a_connection_that_is_lost(server: Server) -> None:
    front_ = server()
    front_.connection_made(Wire())
    front_.data_received(request()[:50])
    front_.connection_lost(None)
    assert (server.ours, server.connections) == (set(), [])
    # Nor do its timers keep it in memory.
    gone = weakref.ref(front_)
    del front_
    gc.collect()
    assert gone() is None
