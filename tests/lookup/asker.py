"""The application's side: asks a running lookup, and holds every answer to docs/openapi.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg

from tests.lookup import contract

TOKEN: Final = "the-token-of-the-tests"
OTHER_TOKEN: Final = "another-token/of+the~tests=="
ANSWER_TIMEOUT_S: Final = 40


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True)
class Asker:
    session: aiohttp.ClientSession
    port: int
    internal_port: int

    async def about(self, user_id: str, **query: Any) -> Answered:
        return await self.request("GET", f"/users/{user_id}/database", params={k: str(v) for k, v in query.items()})

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        headers: list[tuple[str, str]] | None = None,
    ) -> Answered:
        """`headers` instead of a good token. What is documented must come as documented."""
        sent = [("Authorization", f"Bearer {TOKEN}")] if headers is None else headers
        url = f"http://127.0.0.1:{self.port}{path}"
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        async with self.session.request(method, url, params=params, headers=sent, timeout=timeout) as response:
            answered = Answered(response.status, dict(response.headers), await response.text())
        if re.fullmatch(r"/users/[^/?]+/database", path) and method != "HEAD":
            contract.hold(answered.status, answered.headers, answered.json)
        return answered

    async def internal(self, path: str) -> Answered:
        async with self.session.get(f"http://127.0.0.1:{self.internal_port}{path}") as response:
            return Answered(response.status, dict(response.headers), await response.text())

    async def ready(self) -> bool:
        return (await self.internal("/readyz")).status == 200

    async def waiting(self) -> int:
        lines = (await self.internal("/metrics")).text.splitlines()
        return next(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("usher_lookup_waiting "))


@dataclass(frozen=True, slots=True)
class Table:
    """The rows, put there as a consumer would leave them."""

    pool: asyncpg.Pool[asyncpg.Record]

    async def put(self, user_id: str, state: str, *, age_s: float = 0, held_s: float = 3600) -> None:
        """A row in `state`, asked for `age_s` ago; one that is held has `held_s` left."""
        now = datetime.now(UTC)
        was_ready = state in {"ready", "held"}
        await self.pool.execute(
            """
            insert into databases (
                user_id, provider, name, region, host, state, reason, schema_version, event_id,
                requested_at, ready_at, erase_after
            ) values ($1, 'postgres', $1, 'local', 'db.example:5432', $2, 'a secret text', $3, 'msg_1', $4, $5, $6)
            on conflict (user_id) do update set
                state = excluded.state, ready_at = excluded.ready_at, erase_after = excluded.erase_after
            """,
            user_id,
            state,
            1 if was_ready else 0,
            now - timedelta(seconds=age_s),
            now if was_ready else None,
            now + timedelta(seconds=held_s) if state == "held" else None,
        )

    async def set_state(self, user_id: str, state: str) -> None:
        await self.pool.execute(
            "update databases set state = $2, ready_at = case when $2 = 'ready' then now() end where user_id = $1",
            user_id,
            state,
        )
