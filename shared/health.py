"""The internal port of every process: /livez, /readyz and /metrics.

Goes in: checks that say what is wrong. Comes out: 200 or 503 with every check by name. Never open it to the internet.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

# A check returns None when all is well, else a sentence that says what is not.
Check = Callable[[], str | None]

REGISTRY: Final = web.AppKey("registry", CollectorRegistry)
CHECKS: Final[web.AppKey[Mapping[str, Check]]] = web.AppKey("checks")
DETAILS: Final[web.AppKey[Callable[[], Mapping[str, object]]]] = web.AppKey("details")


def internal_app(
    registry: CollectorRegistry,
    checks: Mapping[str, Check],
    details: Callable[[], Mapping[str, object]] = dict,
) -> web.Application:
    """The internal application; `details` adds facts to /readyz that do not decide (states, counts)."""
    app = web.Application()
    app[REGISTRY], app[CHECKS], app[DETAILS] = registry, checks, details
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def serve(app: web.Application, host: str, port: int) -> tuple[Callable[[], Awaitable[None]], int]:
    """Start `app`; returns how to stop it and the port it got (of use when `port` is 0)."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    got = runner.addresses[0][1]
    return runner.cleanup, got


async def _livez(_request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    troubles = {name: check() for name, check in request.app[CHECKS].items()}
    ready = all(trouble is None for trouble in troubles.values())
    body = {
        "status": "ready" if ready else "not ready",
        "checks": {name: trouble or "ok" for name, trouble in troubles.items()},
        **request.app[DETAILS](),
    }
    return web.json_response(body, status=200 if ready else 503, dumps=lambda value: json.dumps(value, default=str))


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(request.app[REGISTRY]), headers={"Content-Type": CONTENT_TYPE_LATEST})
