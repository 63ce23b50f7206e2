"""The handler that one would write first: aiohttp, svix, aio-pika; persistent, mandatory, confirmed."""

import json
import os

import aio_pika
import uvloop
from aiohttp import web
from svix import Webhook, WebhookVerificationError


async def _publish(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        request.app[WEBHOOK].verify(body, dict(request.headers))
    except WebhookVerificationError:
        return web.Response(status=401)
    event = json.loads(body)
    message = aio_pika.Message(
        json.dumps({"id": request.headers["svix-id"], "type": event["type"], "data": event["data"]}).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=request.headers["svix-id"],
    )
    await request.app[EXCHANGE].publish(message, event["type"], mandatory=True)
    return web.Response(status=202)


async def _connect(app: web.Application) -> None:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    app[EXCHANGE] = await channel.get_exchange("usher.events", ensure=False)


EXCHANGE = web.AppKey("exchange", aio_pika.abc.AbstractExchange)
WEBHOOK = web.AppKey("webhook", Webhook)


def main() -> None:
    uvloop.install()
    app = web.Application()
    app[WEBHOOK] = Webhook(os.environ["SIGNING_SECRET"])
    app.on_startup.append(_connect)
    app.router.add_post("/webhooks/clerk", _publish)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
