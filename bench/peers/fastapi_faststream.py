"""FastAPI with FastStream's publisher, on uvicorn with uvloop and httptools: persistent, mandatory, confirmed."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from svix import Webhook, WebhookVerificationError

broker = RabbitBroker(os.environ["AMQP_URL"], logger=None)
exchange = RabbitExchange("usher.events", type=ExchangeType.TOPIC, declare=False)
webhook = Webhook(os.environ["SIGNING_SECRET"])


@asynccontextmanager
async def _connected(_app: FastAPI) -> AsyncIterator[None]:
    await broker.start()
    yield
    await broker.stop()


app = FastAPI(lifespan=_connected)


async def publish(request: Request) -> Response:
    body = await request.body()
    try:
        webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return Response(status_code=401)
    event = json.loads(body)
    message_id = request.headers["svix-id"]
    await broker.publish(
        {"id": message_id, "type": event["type"], "data": event["data"]},
        exchange=exchange,
        routing_key=event["type"],
        message_id=message_id,
        persist=True,
        mandatory=True,
    )
    return Response(status_code=202)


app.add_api_route("/webhooks/clerk", publish, methods=["POST"])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
