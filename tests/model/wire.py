"""The model of the broker at the other end of a connection: AMQP 0.9.1 without a socket.

Goes in: the bytes that clients write. Comes out: frames, each waiting until somebody lets the broker take it.
Promise: the product's code and its libraries run as they are; they cannot tell the model from a broker.
"""

import asyncio
import contextvars
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from pamqp import commands as spec
from pamqp import frame as wire
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader

from tests.model.broker import Broker, Channel, Message, Properties
from tests.model.loop import OWNER, VirtualLoop

CAPABILITIES: Final = {"publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True}
FRAME_MAX: Final = 131_072
NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 406


# One delivery: the connection, the channel on it, and the tag.
Delivered = tuple[int, int, int]


class Gone:
    """In an inbox: here the client's side of the connection ended."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One method that reached the broker and waits to be taken."""

    channel: int
    method: Any
    message: Message | None = None


class Server:
    """A broker and all connections to it. With `gated`, what changes messages waits for `Session.take`."""

    def __init__(self, broker: Broker, *, gated: bool = False) -> None:
        self.broker = broker
        self.gated = gated
        self.refusing = False
        self.sessions: list[Session] = []
        self.unaware: list[Pipe] = []
        self.errors: list[str] = []
        self._count = 0

    def dial(self, protocol: asyncio.BaseProtocol) -> "Pipe":
        if self.refusing:
            raise ConnectionRefusedError("the broker is away")
        self._count += 1
        session = Session(self, self._count, protocol)
        self.sessions.append(session)
        return session.pipe

    def channels(self) -> list[Channel]:
        return [channel for session in self.sessions for channel in session.channels.values()]

    # What happens, for whoever keeps a ledger.
    def confirmed(self, message: Message) -> None: ...

    def handed_out(self, delivery: Delivered, message: Message) -> None: ...

    def settling(self, delivery: Delivered, message: Message) -> None: ...


class Pipe(asyncio.Transport):
    """The client's end of a connection."""

    def __init__(self, session: "Session", protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._session = session
        self._protocol = protocol
        self._context = contextvars.copy_context()
        self._closing = False
        self.severed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and not self.severed:
            self._session.receive(bytes(data))

    def arrive(self, data: bytes) -> None:
        if not self._closing and not self.severed:
            self._soon("data_received", data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._session.ended()
            self._soon("connection_lost", None)

    def abort(self) -> None:
        self.close()

    def reset(self) -> None:
        """The client learns that the connection is gone."""
        if not self._closing:
            self._closing = True
            self._soon("connection_lost", ConnectionResetError("reset"))

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str, default: object = None) -> object:
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def _soon(self, event: str, argument: object) -> None:
        # Whoever is the protocol then is told: clients put others in between.
        self._session.loop.call_soon(lambda: getattr(self._protocol, event)(argument), context=self._context)


@dataclass(slots=True)
class Held:
    """A stored message whose confirm is still on its way."""

    channel: int
    tag: int
    message: Message


class Session:
    """The broker's end of a connection."""

    def __init__(self, server: Server, number: int, protocol: asyncio.BaseProtocol) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.number = number
        self.owner = OWNER.get()
        self.pipe = Pipe(self, protocol)
        self.inbox: deque[Arrived | Gone] = deque()
        self.channels: dict[int, Channel] = {}
        self.unconfirmed: list[Held] = []
        self._server = server
        self._buffer = b""
        self._partial: dict[int, tuple[Any, Any, bytes]] = {}

    def receive(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            if not self._buffer.startswith(b"AMQP"):
                _, _, size = wire.frame_parts(self._buffer)
                if size is None or len(self._buffer) < size + 8:
                    break
            used, channel, frame = wire.unmarshal(self._buffer)
            self._buffer = self._buffer[used:]
            self._assemble(channel, frame)
        self.go_on()

    def ended(self) -> None:
        self.inbox.append(Gone())
        self.go_on()

    def go_on(self) -> None:
        """Take what needs nobody's leave."""
        while self.inbox and not (self._server.gated and _matters(self.inbox[0])):
            self.take()

    def take(self, answer: str = "confirm") -> None:
        """Take the first of what arrived; `answer` is for a publish: confirm, hold, nack, nack_some."""
        arrived = self.inbox.popleft()
        match arrived:
            case Gone():
                self.lost()
            case Arrived(channel, spec.Basic.Publish() as method, message) if message is not None:
                self._publish(channel, method, message, answer)
            case Arrived(channel, method):
                self._obey(channel, method)

    def confirm(self, held: Held) -> None:
        self.unconfirmed.remove(held)
        self._server.confirmed(held.message)
        self._send(held.channel, spec.Basic.Ack(delivery_tag=held.tag))

    def lost(self) -> None:
        """For the broker this connection is over; what it had not taken, it never will."""
        self._server.sessions.remove(self)
        self.inbox.clear()
        self.unconfirmed.clear()
        for channel in self.channels.values():
            channel.lost()
        self.channels.clear()

    def cut(self, *, noticed: bool) -> None:
        """The connection breaks. The client learns of it at once, or when somebody tells its pipe."""
        self.lost()
        self.pipe.severed = True
        if noticed:
            self.pipe.reset()
        else:
            self._server.unaware.append(self.pipe)

    def _assemble(self, channel: int, frame: Any) -> None:
        match frame:
            case spec.Basic.Publish():
                self._partial[channel] = (frame, None, b"")
            case ContentHeader():
                method, _, _ = self._partial[channel]
                self._partial[channel] = (method, frame, b"")
            case ContentBody():
                method, header, body = self._partial[channel]
                self._partial[channel] = (method, header, body + frame.value)
            case _:
                self._arrive(channel, frame)
                return
        method, header, body = self._partial[channel]
        if header is not None and len(body) == header.body_size:
            del self._partial[channel]
            self.inbox.append(Arrived(channel, method, Message(body, _properties(header.properties))))

    def _arrive(self, channel: int, method: Any) -> None:
        if isinstance(method, spec.Basic.Ack) and channel in self.channels:
            # As the client writes it: what it knew then is what justifies it.
            on = self.channels[channel]
            for tag in on.covered(method.delivery_tag, multiple=method.multiple):
                self._server.settling((self.number, channel, tag), on.unacked[tag].message)
        self.inbox.append(Arrived(channel, method))

    def _publish(self, number: int, method: Any, message: Message, answer: str) -> None:
        channel = self.channels[number]
        channel.published += 1
        queues = self._server.broker.route(method.exchange, method.routing_key)
        if answer.startswith("nack"):
            self._server.broker.store(message, queues[:1] if answer == "nack_some" else [])
            self._send(number, spec.Basic.Nack(delivery_tag=channel.published))
            return
        if not queues and method.mandatory:
            returned = spec.Basic.Return(312, "NO_ROUTE", method.exchange, method.routing_key)
            self._send(number, returned, message=message, headers=message.properties.get("headers"))
        self._server.broker.store(message, queues)
        self.unconfirmed.append(held := Held(number, channel.published, message))
        if answer == "confirm":
            self.confirm(held)

    def _obey(self, number: int, method: Any) -> None:  # noqa: C901 - one case for each method of the protocol
        match method:
            case ProtocolHeader():
                properties: Any = {"capabilities": CAPABILITIES, "product": "model"}
                self._send(0, spec.Connection.Start(0, 9, properties, "PLAIN", "en_US"))
            case spec.Connection.StartOk():
                self._send(0, spec.Connection.Tune(2047, FRAME_MAX, 0))
            case spec.Connection.Open():
                self._send(0, spec.Connection.OpenOk())
            case spec.Connection.Close():
                self._send(0, spec.Connection.CloseOk())
            case spec.Channel.Open():
                self.channels[number] = Channel(self._server.broker)
                self._send(number, spec.Channel.OpenOk())
            case spec.Channel.Close():
                self._send(number, spec.Channel.CloseOk())
                self.channels.pop(number).lost()
            case spec.Confirm.Select():
                self._send(number, spec.Confirm.SelectOk())
            case spec.Exchange.Declare():
                self._send(number, spec.Exchange.DeclareOk())
            case spec.Queue.Bind():
                self._send(number, spec.Queue.BindOk())
            case spec.Queue.Declare():
                self._declare(number, method.queue)
            case _ if number in self.channels:
                self._obey_on(number, self.channels[number], method)
            case _:
                pass  # for a channel that is closed by now, or an answer that asks for nothing

    def _obey_on(self, number: int, channel: Channel, method: Any) -> None:
        match method:
            case spec.Basic.Qos():
                channel.prefetch = method.prefetch_count
                self._send(number, spec.Basic.QosOk())
            case spec.Basic.Consume():
                tag = method.consumer_tag or f"ctag{number}"
                self._send(number, spec.Basic.ConsumeOk(tag))
                channel.consume(method.queue, tag, lambda tag, *rest: self._deliver(number, tag, *rest))
            case spec.Basic.Cancel():
                channel.cancel(str(method.consumer_tag))
                self._send(number, spec.Basic.CancelOk(method.consumer_tag))
            case spec.Basic.Ack():
                self._expect(number, method, found=channel.ack(method.delivery_tag, multiple=method.multiple))
            case spec.Basic.Nack() | spec.Basic.Reject():
                assert method.requeue, "Usher never lets the broker drop a message"
                multiple = isinstance(method, spec.Basic.Nack) and method.multiple
                self._expect(number, method, found=channel.requeue(int(method.delivery_tag or 0), multiple=multiple))

    def _declare(self, number: int, name: str) -> None:
        if name in self._server.broker.queues:
            ready = len(self._server.broker.queues[name].ready)
            self._send(number, spec.Queue.DeclareOk(name, ready, 0))
        else:
            self._close_channel(number, NOT_FOUND, f"no queue {name}")

    def _deliver(self, number: int, tag: str, delivery: int, message: Message) -> None:
        self._server.handed_out((self.number, number, delivery), message)
        again = message.deliveries > 0
        deliver = spec.Basic.Deliver(tag, delivery, again, "", "")
        self._send(number, deliver, message=message, headers=message.headers)

    def _expect(self, number: int, method: Any, *, found: bool) -> None:
        if not found:
            self._server.errors.append(f"{method.name} of a delivery that is not unsettled: {method.delivery_tag}")
            self._close_channel(number, PRECONDITION_FAILED, "unknown delivery tag")

    def _close_channel(self, number: int, code: int, text: str) -> None:
        self.channels.pop(number).lost()
        self._send(number, spec.Channel.Close(code, text, 0, 0))

    def _send(self, channel: int, method: Any, *, message: Message | None = None, headers: Any = None) -> None:
        frames = [method]
        if message is not None:
            properties = Properties(**message.properties | {"headers": headers})
            frames += [ContentHeader(0, len(message.body), properties), ContentBody(message.body)]
        self.pipe.arrive(b"".join(wire.marshal(frame, channel) for frame in frames))


def _matters(arrived: Arrived | Gone) -> bool:
    """Whether it changes what becomes of messages. A canary does not."""
    match arrived:
        case Arrived(_, spec.Basic.Publish(), message):
            return message is not None and message.properties.get("delivery_mode") == 2
        case Arrived(_, spec.Basic.Ack() | spec.Basic.Nack() | spec.Basic.Reject()) | Gone():
            return True
        case _:
            return False


def _properties(properties: Any) -> dict[str, Any]:
    return {name: value for name, value in properties if value is not None}
