"""Wait for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]],
    *,
    timeout_s: float = 60,
    every_s: float = 0.05,
    what: str = "",
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T],
    *,
    timeout_s: float = 60,
    every_s: float = 0.05,
    what: str = "",
) -> T: ...


async def eventually(
    condition: Callable[[], Any],
    *,
    timeout_s: float = 60,
    every_s: float = 0.05,
    what: str = "",
) -> Any:
    """Ask `condition` until it is truthy and raises no AssertionError; fail with its last word after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            value = condition()
            result = await value if inspect.isawaitable(value) else value
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come about within {timeout_s} s: {what or condition}; last: {last!r}")
        await asyncio.sleep(every_s)
