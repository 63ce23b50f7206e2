"""The ingress as a program: one process by default, or a parent with several workers."""

import asyncio
import functools

from ingress import workers
from ingress.process import loop_factory, serve_on_tcp, serve_until_stopped, stop_on_signals
from ingress.settings import IngressSettings
from shared import log


def main(settings: IngressSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        UsherError: it cannot run as it is set up; the text says what to do.
    """
    log.configure(level=settings.log_level, style=settings.log_format)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(settings))


async def run(settings: IngressSettings) -> None:
    """As `main`, in an event loop that is there already."""
    if settings.ingress_workers > 1:
        await workers.run(settings)
        return
    stop = asyncio.Event()
    stop_on_signals(stop)
    await serve_until_stopped(settings, functools.partial(serve_on_tcp, settings), stop=stop)
