"""The ceiling of any ingress on aiohttp: verify and parse as the naive handler does, and publish nothing."""

import json
import os

import uvloop
from aiohttp import web
from svix import Webhook, WebhookVerificationError

WEBHOOK = web.AppKey("webhook", Webhook)


async def _accept(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        request.app[WEBHOOK].verify(body, dict(request.headers))
    except WebhookVerificationError:
        return web.Response(status=401)
    return web.Response(status=202 if json.loads(body)["type"] else 204)


def main() -> None:
    uvloop.install()
    app = web.Application()
    app[WEBHOOK] = Webhook(os.environ["SIGNING_SECRET"])
    app.router.add_post("/webhooks/clerk", _accept)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
