"""The tutorial's way: verify, and write the row inside the request (aiohttp, svix, asyncpg). No queue, no order."""

import json
import os
from datetime import UTC, datetime
from typing import Any

import asyncpg
import uvloop
from aiohttp import web
from svix import Webhook, WebhookVerificationError

POOL_SIZE = 10
UPSERT = """
insert into users (user_id, email, username, first_name, last_name, photo_url, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (user_id) do update
    set email = excluded.email, username = excluded.username, first_name = excluded.first_name,
        last_name = excluded.last_name, photo_url = excluded.photo_url, updated_at = excluded.updated_at
"""


async def _write(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        request.app[WEBHOOK].verify(body, dict(request.headers))
    except WebhookVerificationError:
        return web.Response(status=401)
    await request.app[POOL].execute(UPSERT, *_columns(json.loads(body)["data"]))
    return web.Response(status=202)


def _columns(user: dict[str, Any]) -> tuple[object, ...]:
    return (
        user["id"],
        user["email_addresses"][0]["email_address"],
        user["username"] or user["id"],
        user["first_name"],
        user["last_name"],
        user["image_url"],
        datetime.fromtimestamp(user["created_at"] / 1000, UTC),
        datetime.fromtimestamp(user["updated_at"] / 1000, UTC),
    )


async def _connect(app: web.Application) -> None:
    app[POOL] = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE)


POOL = web.AppKey("pool", asyncpg.Pool)
WEBHOOK = web.AppKey("webhook", Webhook)


def main() -> None:
    uvloop.install()
    app = web.Application()
    app[WEBHOOK] = Webhook(os.environ["SIGNING_SECRET"])
    app.on_startup.append(_connect)
    app.router.add_post("/webhooks/clerk", _write)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
